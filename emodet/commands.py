"""Hydra commands: composed from ``conf/`` and the command line, checked against the schema, one message per error."""

import copy
import errno
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from time import gmtime, strftime
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from emodet.command_line import SCHEMAS, conf_folder, key_of
from emodet.config import TrainConfig
from emodet.cpu import available_cores
from emodet.data.sources import SOURCE_KEYS
from emodet.errors import EmodetError, require
from emodet.installation import install, raising_signals, signal_of
from emodet.models.build import specs_in, trust
from emodet.schema import checked, defaults
from emodet.training.ranks import rank

# Launchers that come with an extra.
_LAUNCHERS = {"joblib": "sweep", "ray": "cluster", "submitit_local": "cluster", "submitit_slurm": "cluster"}
# Set for the whole mix, these override the files of the data sets.
_FOR_ALL = ("crop", "labels", "val_from", "max_unreadable")
_NOT_WRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)


def without_none(value: Any) -> Any:
    """Plain nested values without the keys whose value is None; a class's own argument may be None."""
    if isinstance(value, dict):
        kept = "_target_" in value
        return {str(key): without_none(member) for key, member in value.items() if kept or member is not None}
    return [without_none(member) for member in value] if isinstance(value, list) else value


def share_of_cores(at_once: int) -> int:
    """Threads for each of `at_once` runs side by side; with `workers_beside` its share of the cores."""
    return max(1, available_cores() // max(1, at_once) - workers_beside(at_once))


def workers_beside(at_once: int) -> int:
    """Data workers for each of `at_once` runs side by side; none where its share is one core."""
    return min(8, available_cores() // max(1, at_once) // 2)


def run_id() -> str:
    """Name of a run's folder: date, time and process; in a SLURM job its id, by which a requeued job finds it."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{job}_{task}" if job else os.environ.get("SLURM_JOB_ID")
    return f"slurm-{job}" if job else f"{strftime('%Y-%m-%d_%H-%M-%S', gmtime())}_{os.getpid()}"


def net_title(net: Mapping[str, Any]) -> str:
    """Short name of a net for the names of runs: its class, or the model of timm."""
    return str(net.get("model") or str(net.get("_target_")).rpartition(".")[2])


for _resolver in (share_of_cores, workers_beside, net_title):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def command(
    config_name: str, arguments: Callable[[list[str]], list[str]] = list
) -> Callable[[Callable[[dict[str, Any]], Any]], Callable[[], Any]]:
    """Decorate a function of the checked, plain values as a command, whose file in ``conf/`` is `config_name`.

    `arguments` changes the command line before Hydra reads it. An `EmodetError` ends in one message and exit status 2.
    """
    schema = SCHEMAS[config_name]
    register_schema(config_name)

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


def register_schema(config_name: str) -> None:
    """Store a command's keys, so that Hydra composes its configuration."""
    # Groups accept any key while they are composed, as those of a user's class are not known before; `checked` is the
    # judge of all of them.
    loose = {
        key: OmegaConf.create(value, flags={"struct": False}) if isinstance(value, dict) else value
        for key, value in defaults(SCHEMAS[config_name], composed=False).items()
    }
    ConfigStore.instance().store(name=f"{config_name}_schema", node=loose)


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


def resolved_sources(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each data set of a mix, whose ``sources`` are names, or settings by name.

    They are those in ``conf/data/NAME.yaml`` (or the file that its setting ``data`` names), overridden by those of the
    mix, and by those of the data set itself.
    """
    for_all = {key: data[key] for key in _FOR_ALL if key in data}
    named = _by_name(data["sources"] or {})
    # Where commands compose from; outside a command, the project's own configuration.
    is_composing = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_composing else hydra.initialize_config_dir(conf_folder(), version_base="1.3"):
        known = [name for name in GlobalHydra.instance().config_loader().get_group_options("data") if name != "mixed"]
        if not named:
            raise EmodetError(
                "data.sources names no data set; name some, as in data.sources=[affectnet8,rafdb]. There are "
                f"{', '.join(known)}"
            )
        return {name: {**_of_file(name, own, known), **for_all, **own} for name, own in named.items()}


def merged_sources(own: Any, chosen: Any) -> dict[str, dict[str, Any]]:
    """The data sets of a run with settings overridden or data sets added."""
    before, after = _by_name(own), _by_name(chosen)
    return {name: {**before.get(name, {}), **after.get(name, {})} for name in (*before, *after)}


def _by_name(sources: Any) -> dict[str, dict[str, Any]]:
    expected = "names of data sets, each once, or settings by name, as in {rafdb: {root: /path}}"
    if isinstance(sources, Mapping):
        are_settings = all(isinstance(values, Mapping | None) for values in sources.values())
        require(are_settings, "data.sources", sources, expected)
        return {str(name): dict(values or {}) for name, values in sources.items()}
    names = [sources] if isinstance(sources, str) else sources
    are_names = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    require(are_names and len(set(names)) == len(names), "data.sources", sources, expected)
    return {name: {} for name in names}


def _of_file(name: str, own: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The settings in ``conf/data/NAME.yaml``; `own` loses its key ``data``, which names another file."""
    file = own.pop("data", None)
    if file is None and name not in known and "root" in own:
        return {}
    file = str(file or name)
    if file not in known:
        raise EmodetError(
            f"data.sources: {name}: there is no data set {file!r}; there are {', '.join(known)}. One of your own takes "
            "the name of what it is: {mine: {data: own_csv, root: /path}}"
        )
    settings = without_none(OmegaConf.to_container(hydra.compose(config_name=f"data/{file}").data, resolve=True))
    return {key: value for key, value in settings.items() if key in (*SOURCE_KEYS, "synthetic")}
