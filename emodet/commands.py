"""Hydra commands: composed from ``conf/`` and the command line, checked against the schema, one message per error."""

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

from emodet.command_line import SCHEMAS, conf_folder, key_of
from emodet.composition import register_schema
from emodet.config import TrainConfig
from emodet.errors import EmodetError
from emodet.installation import install, raising_signals, signal_of
from emodet.models.build import specs_in, trust
from emodet.schema import checked, without_none
from emodet.training.ranks import rank

# Launchers that come with an extra.
_LAUNCHERS = {"joblib": "sweep", "ray": "cluster", "submitit_local": "cluster", "submitit_slurm": "cluster"}
_NOT_WRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)


def command(
    config_name: str, arguments: Callable[[list[str]], list[str]] = list
) -> Callable[[Callable[[dict[str, Any]], Any]], Callable[[], Any]]:
    """Decorate a function of the checked, plain values as a command, whose file in ``conf/`` is `config_name`.

    `arguments` changes the command line before Hydra reads it. An `EmodetError` ends in one message and exit status 2.
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
            # The first rank ends the others, which may wait for it in C++, where no handler runs.
            with nullcontext() if rank() else raising_signals():
                hydra.main(version_base="1.3", config_path=conf_folder(), config_name=config_name)(checked_task)()

        return lambda: _reported(start)

    return decorate


class CheckBeforeStart(Callback):
    """Hydra callback: refuses a training's values before Hydra makes its folder."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """The sweep's folder refers to the name of the experiment."""
        HydraConfig.instance().set_config(config)

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the composed configuration; exits with 2 where a value is refused."""
        HydraConfig.instance().set_config(config)  # as Hydra does later; values refer to it
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]

        def check() -> None:
            from emodet.training.assembly import check_settings

            check_settings(without_none(_checked(TrainConfig, own)))

        _reported(check)


def _reported(action: Callable[[], Any]) -> Any:
    """Run `action`; print a user's error as one line and exit with 2."""
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
            f"{cause.filename or 'a file'}: cannot be written ({cause.strerror}); EMODET_OUTPUTS=FOLDER or "
            "hydra.run.dir=FOLDER names another place for results"
        )
    except RuntimeError as problem:
        if not str(problem).startswith("DataLoader worker (pid"):  # torch has no type for it
            raise
        message = (
            f"a {str(problem).strip().rstrip('.')} (out of memory?): a smaller data.num_workers needs less, 0 none; "
            "resume=RUN continues a training after its last finished epoch"
        )
    except KeyboardInterrupt as stop:
        number = signal_of(stop)
        print(f"stopped by {number.name}", file=sys.stderr)
        sys.exit(128 + number)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _run_of_sweep(action: Callable[[], Any]) -> Any:
    """Run `action`; print any error and return NaN, so that the sweep continues with its other runs."""
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # joblib's worker processes start with a method that torch's data loaders do not know.
        multiprocessing.set_start_method(None, force=True)
    before = dict(os.environ)
    try:
        return action()
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        # Lightning leaves the address of a run's ranks in the environment, with which the next run would wait for them.
        os.environ.clear()
        os.environ.update(before)
    return float("nan")


def _checked(schema: type, config: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    values = checked(schema, plain, [key_of(override) for override in HydraConfig.get().overrides.task])
    # The user's own configuration may name any class. That of a resumed run was checked before it was composed.
    trust(*values.get("trust", ()), *(str(spec["_target_"]) for _, spec in specs_in(values)))
    return values


def _message_of_hydra(problem: Exception) -> str:
    """Hydra's message in one paragraph, without its advice to add keys that the schema refuses."""
    text = str(problem).partition("\nTo append to your")[0].partition("\nConfig search path")[0]
    launcher = text.rpartition("'hydra/launcher/")[2].partition("'")[0]
    if extra := _LAUNCHERS.get(launcher):
        return f"launcher={launcher} needs {install(extra)}"
    return text
