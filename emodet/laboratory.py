"""The first step of the training commands, before they import anything heavy."""

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

from emodet.errors import EmodetError
from emodet.installation import install, named

__all__ = ["begin", "require_laboratory"]

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")
_ONE_FOLDER = ("opencv-python", "opencv-python-headless")


def begin(command: str, module: str, purpose: str | None, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Exit with one message where `command` cannot run, answer ``--help``, and refuse unknown keys and choices.

    Args:
        command: Its name.
        module: Its module's ``__name__``; the command line is read where this is ``__main__``.
        purpose: Its module's docstring.
        extra: The extra that this command needs besides `train`.
        needs: The modules of that extra.
    """
    try:
        require_laboratory(command, extra=extra, needs=needs)
        if module == "__main__":
            from emodet.command_help import help_text
            from emodet.commands import accepted

            typed = sys.argv[1:]
            if "--help" in typed or "-h" in typed:
                print(help_text(command, purpose or "", typed))
                sys.exit(0)
            accepted(command, typed)
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


def require_laboratory(command: str, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Raise `EmodetError` where a package that `command` needs is missing; see `begin`."""
    missing = [name for name in (*_NEEDED, *needs) if find_spec(name) is None]
    if missing:
        raise EmodetError(
            f"{named(command)} needs {', '.join(missing)}, which the light install leaves out: "
            + install(*dict.fromkeys(("train", extra)))
        )
    # albumentations brings the headless build into the folder of the other one: of two versions, half of each is left.
    versions = {name: version for name in _ONE_FOLDER if (version := _version(name)) is not None}
    if len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        version = versions[_ONE_FOLDER[0]]
        raise EmodetError(
            f"{found} share one folder and must have one version:  "
            f"pip install --force-reinstall --no-deps opencv-python-headless=={version} opencv-python=={version}"
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
