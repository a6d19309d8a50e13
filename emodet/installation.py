"""Command names as the user types them, argument parsers, exit statuses, signals, and installation hints."""

import gc
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from emodet.errors import EmodetError, nearest
from emodet.files import expanded

if TYPE_CHECKING:
    import argparse

_MODULE = "python -m emodet."
_typed = _MODULE


def typed_as(prefix: str) -> None:
    """Set the prefix of command names: ``emodet `` or ``python -m emodet ``, as this process was started."""
    global _typed
    _typed = prefix


def spelled(text: str) -> str:
    """Replace ``python -m emodet.COMMAND`` in a text by the command as the user types it."""
    return text.replace(_MODULE, _typed)


def named(command: str) -> str:
    """Return a command as the user types it, for usage lines and messages."""
    return spelled(f"{_MODULE}{command}")


def command_parser(command: str, description: str, epilog: str) -> "argparse.ArgumentParser":
    """Create the argument parser of a command; commands in `epilog` are shown as the user types them.

    An error is reported in one line; for an unknown option it suggests the nearest one.
    """
    import argparse  # deferred: the Python API does not need it

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            if unknown := re.fullmatch("unrecognized arguments: (-[^ =]+).*", message, re.DOTALL):
                known = dict.fromkeys(["--help", *re.findall(r"--[\w-]+", self.format_usage())])
                message = f"{unknown[1]}: there is no such option; {nearest(unknown[1], known)}"
            self.exit(2, f"error: {message}\n{self.prog} --help describes the options\n")

    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(named(command), description=description, epilog=spelled(epilog), formatter_class=raw)
    parser.register("type", Path, expanded)  # no shell expands --output=~/out
    return parser


def number(expected: str, low: float, high: float, kind: type = float) -> Callable[[str], Any]:
    """Return an argparse type for numbers from `low` to `high`; the error message is ``is not EXPECTED``."""

    def parsed(text: str) -> Any:
        import argparse

        with suppress(ValueError):
            if low <= (value := kind(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")

    return parsed


count = number("a whole number from 1", 1, sys.maxsize, int)


def install(*extras: str) -> str:
    """Return the pip commands that install extras of this package, from an index and in a checkout."""
    names = ",".join(extras)
    return f"pip install 'emodet[{names}]' (in a checkout: pip install -e '.[{names}]')"


def needed(module: str, what: str, extra: str) -> Any:
    """Import a module of an extra; if it is missing, raise `EmodetError`: `what` needs it, and how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0].replace("_", "-")
        raise EmodetError(f"{what} needs {package}: {install(extra)}") from None


def version_of(distribution: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def project_url() -> str | None:
    """The project's address: ``Repository`` in the ``[project.urls]`` of pyproject.toml; None while it has none."""
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError):
        for entry in metadata.metadata("emodet").get_all("Project-URL", []):
            if entry.startswith("Repository, "):
                return str(entry.removeprefix("Repository, "))
    return None


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM."""


def signal_of(stop: KeyboardInterrupt) -> signal.Signals:
    """Return the signal that stopped a command."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


def terminate(number: int, frame: FrameType | None) -> None:
    """Signal handler for SIGTERM in `raising_signals`."""
    raise Terminated


@contextmanager
def raising_signals() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM inside the block, so that a command cleans up as after Ctrl-C.

    Ctrl-C works even if the process inherited an ignored SIGINT. Outside the main thread, handlers are not changed.
    """
    # Shells start background jobs with SIGINT ignored.
    handlers = {signal.SIGTERM: terminate, signal.SIGINT: signal.default_int_handler}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(command: Callable[[], int]) -> int:
    """Run a command and return its exit status: 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        with raising_signals():
            return command()
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 128 + signal_of(stop)


def exit_with(main: Callable[[], Any]) -> NoReturn:
    """Run a command and exit with the status that it returns, or with 1 if its output cannot be written completely."""
    gc.enable()  # see `emodet.__main__`
    try:
        sys.exit(main())
    finally:
        gc.freeze()  # Python's garbage collection at exit would take 30 ms after a photo
        try:
            # After a BrokenPipeError, one more line tests whether standard output is broken; its buffer may be empty.
            print(end="\n" if isinstance(sys.exception(), BrokenPipeError) else "", flush=True)
        except OSError:  # as in `… | head`, or a full disk; Python flushes once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
