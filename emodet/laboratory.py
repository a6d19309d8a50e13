"""Training commands need the `train` extra; without it they say so instead of failing in the middle of an import."""

import sys
from importlib.util import find_spec

__all__ = ["require_laboratory"]

_NEEDED = ("torch", "lightning", "torchmetrics", "albumentations", "hydra", "pyarrow", "matplotlib")


def require_laboratory(command: str) -> None:
    """Exit with status 2 and one sentence where `command` cannot run in this installation."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"error: python -m {command} needs {', '.join(missing)}, which the light install leaves out. "
            "Install the laboratory with  pip install 'emodet[train]'",
            file=sys.stderr,
        )
        sys.exit(2)
