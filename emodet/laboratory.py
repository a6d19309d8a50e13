"""Training commands need the `train` extra; without it they say so instead of failing in the middle of an import."""

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

__all__ = ["require_laboratory"]

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")
_ONE_FOLDER = ("opencv-python", "opencv-python-headless")


def require_laboratory(command: str, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Exit with status 2 and one sentence where `command` cannot run in this installation.

    Args:
        command: Its module.
        extra: The extra that brings what only some commands need, besides `train`.
        needs: The modules of that extra.
    """
    missing = [name for name in (*_NEEDED, *needs) if find_spec(name) is None]
    if missing:
        extras = "train" if extra == "train" else f"train,{extra}"
        sys.exit(
            _told(
                f"python -m {command} needs {', '.join(missing)}, which the light install leaves out. "
                f"Install the laboratory with  pip install 'emodet[{extras}]'"
            )
        )
    # albumentations brings the headless build into the folder of the other one: of two versions, half of each is left.
    versions = {name: version for name in _ONE_FOLDER if (version := _version(name)) is not None}
    if len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        version = versions[_ONE_FOLDER[0]]
        sys.exit(
            _told(
                f"{found} share one folder and must have one version:  "
                f"pip install --force-reinstall --no-deps opencv-python-headless=={version} opencv-python=={version}"
            )
        )


def _told(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
