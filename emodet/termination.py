"""How interactive commands end: after a user's mistake, Ctrl-C, or SIGTERM, which cleans up as Ctrl-C does."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from emodet.errors import EmodetError


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


def exit_status(command: Callable[[], int]) -> int:
    """Run a command: its exit status, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM.

    Ctrl-C works even if SIGINT was ignored by inheritance. Outside the main thread, signals are left alone.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    # Shells start background jobs with SIGINT ignored.
    handlers = {signal.SIGTERM: terminate, signal.SIGINT: signal.default_int_handler}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        return command()
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Terminated) else 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
