"""Report missing optional dependencies of the training commands before they are imported."""

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

__all__ = ["require_laboratory"]

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")
_ONE_FOLDER = ("opencv-python", "opencv-python-headless")


def require_laboratory(command: str, *, extra: str = "train", needs: Sequence[str] = ()) -> None:
    """Exit with status 2 and one message if `command` cannot run in this installation.

    Args:
        command: Its module.
        extra: The extra that this command needs besides `train`.
        needs: The modules of that extra.
    """
    missing = [name for name in (*_NEEDED, *needs) if find_spec(name) is None]
    if missing:
        extras = "train" if extra == "train" else f"train,{extra}"
        sys.exit(
            _report_error(
                f"python -m {command} needs {', '.join(missing)}, which the light install leaves out. "
                f"Install them with  pip install 'emodet[{extras}]'"
            )
        )
    # albumentations brings the headless build into the folder of the other one: of two versions, half of each is left.
    versions = {name: version for name in _ONE_FOLDER if (version := _version(name)) is not None}
    if len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {number}" for name, number in versions.items())
        version = versions[_ONE_FOLDER[0]]
        sys.exit(
            _report_error(
                f"{found} share one folder and must have one version:  "
                f"pip install --force-reinstall --no-deps opencv-python-headless=={version} opencv-python=={version}"
            )
        )


def _report_error(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 2


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
