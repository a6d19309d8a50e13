"""The first step of the training commands, before they import anything heavy."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType

from emodet.errors import EmodetError
from emodet.installation import exit_with, install, named, version_of

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")
_ONE_FOLDER = ("opencv-python", "opencv-python-headless")


def begin(command: str, module: str, purpose: str | None, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Exit with one message where `command` cannot run, answer ``--help``, and check the command line.

    Args:
        command: Its name.
        module: Its module's ``__name__``; the command line is read where this is ``__main__``.
        purpose: Its module's docstring.
        extra: The extra that this command needs besides `train`.
        needs: The modules of that extra.
    """
    try:
        if module == "__main__":
            sys.excepthook = _without_traceback_of_ctrl_c
        require_laboratory(command, extra=extra, needs=needs)
        if module == "__main__":
            from emodet.command_line import accepted, help_text, require_experiment

            if {"--help", "-h"} & set(sys.argv):
                text = help_text(command, purpose or "", sys.argv[1:])
                exit_with(lambda: print(text))
            sys.argv[1:] = accepted(command, sys.argv[1:])
            require_experiment(command, sys.argv[1:])
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


def _without_traceback_of_ctrl_c(
    kind: type[BaseException], problem: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):  # the imports take seconds, in which nothing else handles it
        print("stopped by SIGINT", file=sys.stderr)
    else:
        sys.__excepthook__(kind, problem, trace)


def require_laboratory(command: str, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Raise `EmodetError` where a package that `command` needs is missing; see `begin`."""
    missing = [name for name in (*_NEEDED, *needs) if find_spec(name) is None]
    if missing:
        raise EmodetError(
            f"{named(command)} needs {', '.join(missing)}, which the light install leaves out: "
            + install(*dict.fromkeys(("train", extra)))
        )
    # albumentations brings the headless build into the folder of the other one: of two versions, half of each is left.
    versions = {name: version for name in _ONE_FOLDER if (version := version_of(name)) is not None}
    if len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        version = versions[_ONE_FOLDER[0]]
        raise EmodetError(
            f"{found} share one folder and must have one version:  "
            f"pip install --force-reinstall --no-deps opencv-python-headless=={version} opencv-python=={version}"
        )
