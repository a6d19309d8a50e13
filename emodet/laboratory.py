"""Start-up checks of the training commands, before their heavy imports."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType

from emodet.errors import EmodetError
from emodet.installation import exit_with, install, named, spelled, version_of

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")
_ONE_FOLDER = ("opencv-python", "opencv-python-headless")


def begin(command: str, module: str, purpose: str | None, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Check installed packages and the command line, and print ``--help``. Exits with 2 and a message on an error.

    Args:
        command: Name of the command.
        module: ``__name__`` of its module; the command line is read only if this is ``__main__``.
        purpose: Docstring of its module.
        extra: The extra that this command needs besides `train`.
        needs: The modules of that extra.
    """
    asked = module == "__main__" and bool({"--help", "-h"} & set(sys.argv))
    try:
        if module == "__main__":
            sys.excepthook = _without_traceback_of_ctrl_c
        require_laboratory(command, extra=extra, needs=needs)
        if module == "__main__":
            from emodet.command_line import checked_arguments, help_text, require_experiment

            if asked:
                text = help_text(command, purpose or "", sys.argv[1:])
                exit_with(lambda: print(text))
            sys.argv[1:] = checked_arguments(command, sys.argv[1:])
            require_experiment(command, sys.argv[1:])
    except EmodetError as problem:
        if asked:
            print(spelled(purpose or "").replace("``", "`").strip(), end="\n\n", flush=True)
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


def _without_traceback_of_ctrl_c(
    kind: type[BaseException], problem: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):  # nothing else handles Ctrl-C during the imports, which take seconds
        print("stopped by SIGINT", file=sys.stderr)
    else:
        sys.__excepthook__(kind, problem, trace)


def require_laboratory(command: str, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Raise `EmodetError` if a package that `command` needs is missing; see `begin`."""
    missing = [name for name in (*_NEEDED, *needs) if find_spec(name) is None]
    if missing:
        raise EmodetError(
            f"{named(command)} needs {', '.join(missing)}, not part of the light installation: "
            + install(*dict.fromkeys(("train", extra)))
        )
    # albumentations installs the headless build into the folder of the other one; two versions would be mixed there.
    versions = {name: version for name in _ONE_FOLDER if (version := version_of(name)) is not None}
    if len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        version = versions[_ONE_FOLDER[0]]
        raise EmodetError(
            f"{found} share one folder and must have one version:  "
            f"pip install --force-reinstall --no-deps opencv-python-headless=={version} opencv-python=={version}"
        )
