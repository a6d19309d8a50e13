"""SIGTERM in interactive commands: clean up as after Ctrl-C."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM. Its exit status is 143, that of Ctrl-C 130."""


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, and `KeyboardInterrupt` on SIGINT even if it was ignored by inheritance.

    Outside the main thread, signals are left alone.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        # Shells start background jobs with SIGINT ignored.
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
            signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        }
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
