"""Hydra commands: compose the configuration, check it against the schema, report each error in one message."""

import copy
import errno
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from emodet.command_line import conf_folder, key_of
from emodet.composition import register_schema
from emodet.config import SCHEMAS, TrainConfig
from emodet.errors import EmodetError
from emodet.installation import install, raising_signals, signal_of
from emodet.models.build import specs_in, trust
from emodet.schema import checked, without_none
from emodet.training.ranks import rank

# Launchers, and the extra that each belongs to.
_LAUNCHERS = {"joblib": "sweep", "ray": "cluster", "submitit_local": "cluster", "submitit_slurm": "cluster"}
_NOT_WRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)


def command(
    config_name: str, arguments: Callable[[list[str]], list[str]] = list
) -> Callable[[Callable[[dict[str, Any]], Any]], Callable[[], Any]]:
    """Decorate a function of checked, plain values as the command that ``conf/CONFIG_NAME.yaml`` configures.

    `arguments` transforms the command line before Hydra reads it. On an `EmodetError` the command exits with 2.
    """
    schema = SCHEMAS[config_name]
    register_schema(config_name, schema)

    def decorate(task: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
        def checked_task(config: DictConfig) -> Any:
            one_run = _run_of_sweep if HydraConfig.get().mode == RunMode.MULTIRUN else _reported
            return one_run(lambda: task(_checked(schema, config)))

        def start() -> None:
            # Hydra raises its errors instead of printing them.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            sys.argv[1:] = arguments(sys.argv[1:])
            # The first rank ends the others: they can be blocked in C++, where Python's handlers do not run.
            with nullcontext() if rank() else raising_signals():
                hydra.main(version_base="1.3", config_path=conf_folder(), config_name=config_name)(checked_task)()

        return lambda: _reported(start)

    return decorate


class CheckBeforeStart(Callback):
    """Hydra callback that rejects invalid values of a training before Hydra creates its folder."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Set Hydra's configuration: the name of the sweep's folder refers to it."""
        HydraConfig.instance().set_config(config)

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the composed configuration; exit with 2 if a value is invalid."""
        HydraConfig.instance().set_config(config)  # for interpolations; Hydra itself sets it later
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]

        def check() -> None:
            from emodet.training.assembly import check_settings

            check_settings(without_none(_checked(TrainConfig, own)))

        _reported(check)


def _reported(action: Callable[[], Any]) -> Any:
    """Run `action`; on a user's error print one line and exit with 2."""
    try:
        return action()
    except EmodetError as problem:
        message = str(problem)
    except (HydraException, OmegaConfBaseException) as problem:
        message = _message_of_hydra(problem)
    except (OSError, ValueError) as problem:
        cause = problem if isinstance(problem, OSError) else problem.__cause__  # logging hides it in a ValueError
        if not isinstance(cause, OSError) or cause.errno not in _NOT_WRITABLE:
            raise
        message = (
            f"{cause.filename or 'a file'}: cannot be written ({cause.strerror}); choose another folder for results "
            "with EMODET_OUTPUTS=FOLDER or hydra.run.dir=FOLDER"
        )
    except RuntimeError as problem:
        if not str(problem).startswith("DataLoader worker (pid"):  # torch has no exception type for it
            raise
        message = (
            f"a {str(problem).strip().rstrip('.')} (out of memory?): reduce data.num_workers (0: no processes); "
            "resume=RUN continues a training after its last finished epoch"
        )
    except KeyboardInterrupt as stop:
        number = signal_of(stop)
        print(f"stopped by {number.name}", file=sys.stderr)
        sys.exit(128 + number)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _run_of_sweep(action: Callable[[], Any]) -> Any:
    """Run `action`; on an error print it and return NaN, so that the sweep continues with its other runs."""
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # torch's data loaders do not support the start method of joblib's processes.
        multiprocessing.set_start_method(None, force=True)
    before = dict(os.environ)
    try:
        return action()
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        # Lightning leaves the address of a run's ranks in the environment; the next run would wait for those ranks.
        os.environ.clear()
        os.environ.update(before)
    return float("nan")


def _checked(schema: type, config: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    values = checked(schema, plain, [key_of(override) for override in HydraConfig.get().overrides.task])
    # The user's own configuration may name any class. The stored one of a resumed run has been checked already.
    trust(*values.get("trust", ()), *(str(spec["_target_"]) for _, spec in specs_in(values)))
    return values


def _message_of_hydra(problem: Exception) -> str:
    """Return Hydra's message without its list of folders and its advice to add keys, which the schema rejects."""
    text = str(problem).partition("\nTo append to your")[0].partition("\nConfig search path")[0]
    launcher = text.rpartition("'hydra/launcher/")[2].partition("'")[0]
    if extra := _LAUNCHERS.get(launcher):
        return f"launcher={launcher} needs {install(extra)}"
    return text
