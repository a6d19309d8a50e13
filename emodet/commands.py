"""Hydra commands: composed from ``conf/`` and the command line, checked against the schema, one message per error."""

import errno
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emodet.config import AuditConfig, EvaluateConfig, ExportConfig, PrepareConfig, TrainConfig
from emodet.cpu import available_cores
from emodet.errors import EmodetError
from emodet.models.build import trust
from emodet.schema import checked, defaults

__all__ = ["command", "conf_folder", "quoted", "share_of_cores", "to_plain_dict", "workers_beside"]

_SCHEMAS = {
    "train": TrainConfig,
    "prepare": PrepareConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "audit": AuditConfig,
}
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
    "probabilities",
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
    schema = _SCHEMAS[config_name]
    # Groups accept any key while they are composed, as those of a user's class are not known before; `checked` is the
    # judge of all of them.
    loose = {
        key: OmegaConf.create(value, flags={"struct": False}) if isinstance(value, dict) else value
        for key, value in defaults(schema, composed=False).items()
    }
    ConfigStore.instance().store(name=f"{config_name}_schema", node=loose)

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        def run(config: DictConfig) -> Any:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return _run_of_sweep(lambda: task(_checked(schema, config)))
            return _reported(lambda: task(_checked(schema, config)))

        def entry() -> Any:
            typed = sys.argv[1:]
            if "--help" in typed or "-h" in typed:
                print(help_text(config_name, task.__globals__.get("__doc__") or "", schema, typed))
                return None
            sys.argv[1:] = _reported(lambda: arguments(_accepted(schema, typed)))
            return hydra.main(version_base="1.3", config_path=conf_folder(), config_name=config_name)(run)()

        return entry

    return decorate


def _reported(action: Callable[[], Any]) -> Any:
    """Run `action`; print a user's error as one line and exit with 2."""
    try:
        return action()
    except EmodetError as problem:
        message = str(problem)
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


def _accepted(schema: type, typed: Sequence[str]) -> list[str]:
    """Arguments for Hydra, with paths quoted; refuses what Hydra would answer with a parser's message.

    Raises:
        EmodetError: A key is not known, or a group of one choice is given a list.
    """
    keys = [*defaults(schema), "hydra"]
    sweeps = bool({"-m", "--multirun"} & set(typed))
    accepted = []
    for argument in typed:
        key, given, value = argument.lstrip("+~").partition("=")
        folder = Path(conf_folder()) / key.partition("@")[0]
        if not given or argument.startswith("-") or key.startswith("hydra"):
            accepted.append(_quoted_path(argument, sweeps))
            continue
        if folder.is_dir() and value.startswith("[") and key not in ("callbacks", "logger"):
            raise EmodetError(
                f"{argument}: one choice was expected, as in {key}=NAME; --multirun {key}=a,b runs several"
            )
        if not folder.is_dir() and key.split(".")[0] not in keys:
            # The full check names the old key or the nearest one.
            checked(schema, {key.split(".")[0]: value})
        accepted.append(_quoted_path(argument, sweeps))
    return accepted


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


def help_text(config_name: str, purpose: str, schema: type, typed: Sequence[str]) -> str:
    """The answer to ``--help``: purpose, groups with their choices, experiments with their purpose, keys."""
    folders = [Path(conf_folder())]
    folders += [
        Path(after) for flag, after in pairwise(typed) if flag in ("--config-dir", "-cd") and Path(after).is_dir()
    ]
    used = yaml.safe_load((folders[0] / f"{config_name}.yaml").read_text(encoding="utf-8"))["defaults"]
    groups = [next(iter(entry)) for entry in used if isinstance(entry, dict)]
    lines = [purpose.strip(), "", "Groups (GROUP=CHOICE):"]
    for group in groups:
        choices = sorted({file.stem for folder in folders for file in folder.glob(f"{group}/*.yaml")})
        if group != "experiment" and " " not in group:
            lines.append(f"  {group:<14} {', '.join(choices)}")
    if "experiment" in groups:
        lines += ["", "Experiments (experiment=NAME):"]
        files = sorted({file for folder in folders for file in folder.glob("experiment/**/*.yaml")})
        for file in files:
            name = file.as_posix().rpartition("/experiment/")[2].removesuffix(".yaml")
            lines.append(f"  {name:<22} {_purpose(file)}")
    lines += ["", "Keys with their defaults (KEY=VALUE); a class of your own: net._target_=mypackage.MyNet", ""]
    lines.append(OmegaConf.to_yaml(OmegaConf.create(defaults(schema))))
    return "\n".join(lines)


def _purpose(experiment: Path) -> str:
    """The first sentence of the file's ``Purpose``."""
    text = experiment.read_text(encoding="utf-8").partition("# Purpose")[2]
    comment = [line.lstrip("# ").strip() for line in text.splitlines()]
    end = next(
        (number for number, line in enumerate(comment) if number and line.startswith(("Command", "defaults"))), 1
    )
    return " ".join(comment[:end]).strip().partition(". ")[0]
