"""Hydra commands: composed from ``conf/`` and the command line, checked against the schema, one message per error."""

import copy
import errno
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from emodet.config import AuditConfig, EvaluateConfig, ExportConfig, PrepareConfig, TrainConfig
from emodet.cpu import available_cores
from emodet.errors import EmodetError
from emodet.installation import install
from emodet.models.build import trust
from emodet.schema import checked, defaults, unknown_key

__all__ = ["SCHEMAS", "CheckBeforeStart", "accepted", "choices", "command", "conf_folder", "groups_of", "quoted"]
__all__ += ["register_schema", "share_of_cores", "to_plain_dict", "workers_beside"]

SCHEMAS: Mapping[str, type] = {
    "train": TrainConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "audit": AuditConfig,
}
# Launchers that come with an extra.
_LAUNCHERS = {"joblib": "sweep", "ray": "cluster", "submitit_local": "cluster", "submitit_slurm": "cluster"}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Keys whose value is a path, which may hold characters that Hydra's grammar gives a meaning.
_PATHS = (
    "root",
    "packs",
    "corrections",
    "checkpoint",
    "model",
    "init_from",
    "resume",
    "output",
    "dir",
)


def conf_folder() -> str:
    """The folder of the configuration: beside the package in a checkout, inside it where it was installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise EmodetError(f"the configuration is neither in {package} nor beside it: install emodet again")


def to_plain_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain nested dicts, lists, numbers and strings, without the keys whose value is null."""
    plain: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    return {str(key): _without_none(value) for key, value in dict(plain).items() if value is not None}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_none(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_none(member) for member in value]
    return value


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


for _resolver in (share_of_cores, workers_beside):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def command(
    config_name: str, arguments: Callable[[list[str]], list[str]] = list
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Decorate a function of a checked configuration as a command.

    An `EmodetError` ends in one message and exit status 2.

    Args:
        config_name: Its file in ``conf/``, without the suffix.
        arguments: Changes the command line before Hydra reads it.
    """
    schema = SCHEMAS[config_name]
    register_schema(config_name)

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        def run(config: DictConfig) -> Any:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return _run_of_sweep(lambda: task(_checked(schema, config)))
            return _reported(lambda: task(_checked(schema, config)))

        def entry() -> Any:
            # Hydra raises its errors instead of printing them.
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            sys.argv[1:] = _reported(lambda: arguments(accepted(config_name, sys.argv[1:])))
            main = hydra.main(version_base="1.3", config_path=conf_folder(), config_name=config_name)(run)
            return _reported(main)

        return entry

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

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the composed configuration; exits with 2 where a value is refused."""
        HydraConfig.instance().set_config(config)  # as Hydra does later; values refer to it
        own = copy.deepcopy(config)
        with open_dict(own):
            del own["hydra"]
        _reported(lambda: _checked(TrainConfig, own))


def _reported(action: Callable[[], Any]) -> Any:
    """Run `action`; print a user's error as one line and exit with 2."""
    try:
        return action()
    except EmodetError as problem:
        message = str(problem)
    except (HydraException, OmegaConfBaseException) as problem:
        message = _message_of_hydra(problem)
    except OSError as problem:
        if problem.errno not in _NO_ROOM:
            raise
        message = f"no room to write {problem.filename or 'a file'} ({problem.strerror})"
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
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


def _checked(schema: type, config: DictConfig) -> DictConfig:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    given = [override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task]
    values = checked(schema, plain, given)
    # The user's own configuration may name any class. That of a resumed run was checked before it was composed.
    trust(*values.get("trust", ()), *_targets(values))
    return OmegaConf.create(values)


def _targets(values: Any) -> Iterator[str]:
    """Every ``_target_`` in nested plain data."""
    if isinstance(values, Mapping):
        yield str(values.get("_target_", ""))
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _targets(value)


def _message_of_hydra(problem: Exception) -> str:
    """Hydra's message in one paragraph, without its advice to add keys that the schema refuses."""
    text = str(problem).partition("\nTo append to your")[0].partition("\nConfig search path")[0]
    launcher = text.rpartition("'hydra/launcher/")[2].partition("'")[0]
    if extra := _LAUNCHERS.get(launcher):
        return f"launcher={launcher} needs {install(extra)}"
    return text


def groups_of(config_name: str) -> list[str]:
    """The groups of which a command's configuration takes a choice."""
    used: Any = OmegaConf.load(Path(conf_folder()) / f"{config_name}.yaml").defaults
    named_by = [str(next(iter(entry))) for entry in used if isinstance(entry, DictConfig)]
    return [group for group in named_by if "/" not in group]


def choices(group: str, typed: Sequence[str] = ()) -> dict[str, Path]:
    """The choices of a group, in ``conf/`` and in the folders of ``--config-dir``, with their files."""
    after = [Path(value) for flag, value in pairwise(typed) if flag in ("--config-dir", "-cd")]
    after += [Path(flag.partition("=")[2]) for flag in typed if flag.startswith("--config-dir=")]
    found = {}
    for folder in (Path(conf_folder()) / group, *(folder / group for folder in after)):
        found.update({file.relative_to(folder).with_suffix("").as_posix(): file for file in folder.rglob("*.yaml")})
    return dict(sorted(found.items()))


def accepted(config_name: str, typed: Sequence[str]) -> list[str]:
    """Arguments for Hydra, with paths quoted; refuses what Hydra would answer with a parser's message.

    Raises:
        EmodetError: A key or a choice is not known, or a group of one choice is given a list.
    """
    groups, keys = groups_of(config_name), list(defaults(SCHEMAS[config_name]))
    sweeps = bool({"-m", "--multirun"} & set(typed))
    for argument in typed:
        key, given, value = argument.lstrip("+~").partition("=")
        if not given or argument.startswith("-") or key.startswith("hydra"):
            continue
        name = key.partition("@")[0]
        if name in groups and not any(each.startswith("hydra.searchpath") for each in typed):
            _check_choice(name, value, choices(name, typed), sweeps)
        elif (first := key.split(".")[0]) not in (*keys, *groups):
            raise unknown_key(first, [*keys, *(group for group in groups if group not in keys)])
    return [_quoted_path(argument, sweeps) for argument in typed]


def _check_choice(group: str, value: str, known: Mapping[str, Path], sweeps: bool) -> None:
    several = group in ("callbacks", "logger")
    if value.startswith("[") and not several:
        raise EmodetError(
            f"{group}={value}: one choice was expected, as in {group}=NAME; --multirun {group}=a,b runs several"
        )
    if value.startswith("{") or "${" in value or "(" in value:
        return
    for choice in value.strip("[]'\"").split(",") if several or sweeps else [value.strip("'\"")]:
        if (choice := choice.strip()) and choice != "null" and choice not in known:
            near = get_close_matches(choice, known, 1)
            way_out = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise EmodetError(f"{group}={choice}: there is no such choice; {way_out}")


def _quoted_path(argument: str, sweeps: bool) -> str:
    key, given, value = argument.partition("=")
    plain = key.lstrip("+~").rpartition(".")[2] in _PATHS and "/" not in key
    if not given or not plain or not value or value[0] in "'\"" or value == "null":
        return argument
    path = Path(value).expanduser()
    if value.startswith("~"):
        value = str(path)
    # A list of paths, an interpolation or several runs of a sweep are Hydra's to read, unless a file has that name.
    if (value[0] in "[{" or "${" in value or ("," in value and sweeps)) and not path.exists():
        return f"{key}={value}"
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """Text as Hydra's grammar quotes it."""
    return QuotedString(value, Quote.single).with_quotes()
