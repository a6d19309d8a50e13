"""A launcher or a search that is not installed is named before Hydra looks for it in vain."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["require_extras"]

_NEEDED = {
    "sweep=optuna": ("optuna", "sweep"),
    "launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", "sweep"),
    "launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "cluster"),
    "launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "cluster"),
    "launcher=ray": ("ray", "cluster"),
}


def require_extras(arguments: Sequence[str]) -> None:
    """Exit with status 2 and one sentence where the command line chooses what this installation lacks."""
    for argument in arguments:
        module, extra = _NEEDED.get(argument.removeprefix("hydra/"), ("", ""))
        if module and not _there(module):
            name = module.rsplit(".", 1)[-1].replace("_", "-")
            print(f"error: {argument} needs {name}: pip install 'emodet[{extra}]'", file=sys.stderr)
            sys.exit(2)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
