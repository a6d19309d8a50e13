"""SIGTERM in programs that answer to people: everything is put away as after Ctrl-C."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = ["Terminated", "raise_on_sigterm"]


class Terminated(KeyboardInterrupt):
    """SIGTERM. Its exit status is 143, that of Ctrl-C 130."""


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM finds the program; outside the main thread it is left as it is."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: whoever called this deals with signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
