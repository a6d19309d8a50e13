"""What makes a function a Hydra command: composed by the schema, with one sentence for what is wrong."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError

from emodet.config import AuditConfig, EvaluateConfig, ExportConfig, PrepareConfig, TeachConfig, TrainConfig
from emodet.errors import EmodetError

__all__ = [
    "SWEEPER",
    "SWEEPERS",
    "command",
    "conf_folder",
    "to_plain_dict",
    "in_sweep",
    "refuse_what_hydra_lets_pass",
    "share_of_cores",
    "workers_beside",
]

log = logging.getLogger(__name__)

SWEEPERS = "hydra_plugins.emodet_sweeps."
"""Where the sweepers are that Hydra finds by this name: its plugins live in that package."""

SWEEPER = "EMODET_SWEEPER"
"""Environment variable with the number of the process that runs a sweep, while it does."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def conf_folder() -> str:
    """The folder of the configuration: beside the package in a checkout, inside it where it was installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise EmodetError(f"the configuration is neither in {package} nor beside it: install emodet again")


def to_plain_dict(config: Any) -> dict[str, Any]:
    """The fields that were set, as plain nested dicts, lists, numbers and strings; None means not set."""
    plain: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    return {str(key): _without_none(value) for key, value in dict(plain).items() if value is not None}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_none(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_none(member) for member in value]
    return value


def share_of_cores(at_once: int) -> int:
    """Threads that compute in each of `at_once` runs side by side; with `workers_beside` its share of the cores."""
    return max(1, _cores() // max(1, at_once) - workers_beside(at_once))


def workers_beside(at_once: int) -> int:
    """Processes that fetch batches in each of `at_once` runs side by side; none where its share is one core."""
    return min(8, _cores() // max(1, at_once) // 2)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


for _resolver in (share_of_cores, workers_beside):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)


def refuse_what_hydra_lets_pass(config: DictConfig, overrides: Iterable[str], schema: type = TrainConfig) -> None:
    """Two choices for a group of one, of which Hydra takes the last; new keys with ``+``, which pass its schema.

    Raises:
        EmodetError: There is one of these.
    """
    for override in overrides:
        group, _, value = override.partition("=")
        if value.startswith("[") and (Path(conf_folder()) / group).is_dir():
            raise EmodetError(
                f"{override}: one choice was expected, as in {group}=NAME; --multirun {group}=a,b runs several"
            )
    try:
        OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config))
    except ConfigKeyError as problem:
        raise EmodetError(f"{problem.full_key}: there is no such key ({str(problem).splitlines()[0]})") from None


def in_sweep() -> bool:
    """Whether this is one run of a sweep, whose failure is the sweep's to tell."""
    hydra_config = HydraConfig.get()
    return hydra_config.mode == RunMode.MULTIRUN and str(hydra_config.sweeper._target_).startswith(SWEEPERS)


def _leave(status: Any) -> NoReturn:
    """End the command; in a worker of a sweep only the run, as launchers know no other exception from their runs."""
    if in_sweep() and os.environ.get(SWEEPER) != str(os.getpid()):
        raise EmodetError(f"stopped, with exit status {status}")
    sys.exit(status)


def command(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Decorate a task function as a Hydra command whose `EmodetError`s end in one message and exit status 2."""
    schemas = {"train": TrainConfig, "prepare": PrepareConfig, "evaluate": EvaluateConfig, "export": ExportConfig}
    schemas |= {"audit": AuditConfig, "teach": TeachConfig}
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schemas[config_name])

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        def run(config: DictConfig) -> Any:
            try:
                refuse_what_hydra_lets_pass(config, HydraConfig.get().overrides.task, schemas[config_name])
                return task(config)
            except EmodetError as problem:
                print(f"error: {problem}", file=sys.stderr)
                if in_sweep():
                    raise  # one failed run; the sweep goes on and says so at its end
                sys.exit(2)
            except OSError as problem:
                if problem.errno not in _NO_ROOM:
                    raise
                told = f"no room to write {problem.filename or 'a file'} ({problem.strerror})"
                print(f"error: {told}", file=sys.stderr)
                if in_sweep():
                    raise EmodetError(told) from None
                sys.exit(2)
            except Exception:
                if in_sweep():  # which says which run failed, not where in the code
                    log.exception("a defect")
                raise
            except KeyboardInterrupt:
                print("stopped by SIGINT", file=sys.stderr)
                _leave(128 + signal.SIGINT)
            except SystemExit as leaving:
                _leave(leaving.code)

        entry: Callable[[], Any] = hydra.main(version_base="1.3", config_path=conf_folder(), config_name=config_name)(
            run
        )
        return entry

    return decorate
