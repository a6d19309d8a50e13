"""``resume=RUN``: continue a run with its own configuration, in its own folder, from ``checkpoints/last.ckpt``."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from omegaconf import OmegaConf

from emodet.command_line import conf_folder, quoted
from emodet.config import TrainConfig
from emodet.errors import EmodetError
from emodet.files import expanded
from emodet.models.build import require_trusted, trust
from emodet.schema import checked
from emodet.training.checkpoints import read_checkpoint
from emodet.training.folder import RunFolder

_NAME = "resumed"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "net": torch.nn.Module,
    "loss": torch.nn.Module,
    "optimizer": torch.optim.Optimizer,
    "scheduler": (torch.optim.lr_scheduler.LRScheduler, dict),
    "trainer": (L.Trainer, Strategy, Profiler),
    "callbacks": L.Callback,
    "logger": (Logger, L.Callback),
}
"""Expected types of the specs in a stored configuration; other groups contain no specs."""

# Keys that can differ in a resumed run: they do not change the training so far, and they are applied.
_MAY_CHANGE = (
    *("resume", "name", "threads", "trust", "logger", "distillation.teachers"),
    *("data.root", "data.packs", "data.sources", "data.num_workers", "data.batch_size", "data.corrections"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.limit_test_batches"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision"),
    *("trainer.profiler", "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.detect_anomaly"),
    *("trainer.deterministic", "trainer.benchmark", "trainer.gradient_clip_val", "trainer.num_sanity_val_steps"),
)
# Their state determines the kept epoch.
_FIXED_CALLBACKS = ("best", "last", "ema")


def resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for Hydra; for ``resume=RUN`` those of the resumed run.

    The run's ``config.yaml`` becomes the primary configuration, so that changes of ``conf/`` do not change the run. It
    is plain data, and its specs are checked before Hydra reads it. No files are written.
    """
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    parsed = {override.key_or_group: override for override in OverridesParser.create().parse_overrides(overrides)}
    if "resume" not in parsed or parsed["resume"].value() is None:
        return list(arguments)
    run = RunFolder(expanded(str(parsed["resume"].value())).resolve())
    if not run.config.is_file():
        raise EmodetError(f"resume={run.path}: not a run folder, which has a {run.config.name}")
    stored = run.read_config()
    if not run.last.is_file():
        raise EmodetError(f"resume={run.path}: there is no checkpoint to resume from ({run.last})")
    read_checkpoint(run.last)
    given = {key: override for key, override in parsed.items() if not key.startswith("hydra")}
    packages: Any = given["trust"].value() if "trust" in given else []
    trust(*(packages if isinstance(packages, list) else [str(packages)]))
    for key, value in stored.items():
        require_trusted(value, _KINDS.get(key, ()), f"{run.config}: {key}")
    stored = {**checked(TrainConfig, stored), "resume": None, "trust": []}
    for override in given.values():
        _require_may_change(override, stored, run)
    hydra = yaml.safe_load((Path(conf_folder()) / "train.yaml").read_text(encoding="utf-8"))["hydra"]
    other: list[Any] = [{"logger": "csv"}] if "logger" in given else []  # a choice must override an entry
    stored |= {"logger": {}} if other else {}
    node = {"defaults": ["train_schema", "_self_", *other], **stored, "hydra": hydra}
    ConfigStore.instance().store(name=_NAME, node=node)
    # The copy in the run folder, which may have been moved.
    own = [f"data.corrections={quoted(str(run.corrections))}"] if run.corrections.is_file() else []
    typed = [argument for argument in arguments if not argument.startswith("resume=")]
    folder = quoted(str(run.path))
    return ["--config-name", _NAME, *own, *typed, f"resume={folder}", f"hydra.run.dir={folder}"]


def _require_may_change(override: Override, stored: Mapping[str, Any], run: RunFolder) -> None:
    key, value = override.key_or_group, override.value()
    weights = run.best if run.best.is_file() else run.last
    restart = f"start a new run from its weights with init_from={weights}"
    before, is_choice = OmegaConf.select(OmegaConf.create(dict(stored)), key), (Path(conf_folder()) / key).is_dir()
    if is_choice and key != "logger":
        raise EmodetError(f"resume={run.path}: {key}={value} is another choice than the run began with; {restart}")
    if not is_choice:
        changed = OmegaConf.create(dict(stored))
        OmegaConf.update(changed, key, value, force_add=True)
        plain: Any = OmegaConf.to_container(changed)
        checked(TrainConfig, plain, [key])  # report mistyped keys first
    group, _, name = key.partition(".")
    is_free_callback = group == "callbacks" and name.split(".")[0] not in _FIXED_CALLBACKS
    allowed = is_free_callback or any(key == may or key.startswith(f"{may}.") for may in _MAY_CHANGE)
    if not allowed and value != before:
        raise EmodetError(
            f"resume={run.path}: {key}={value} cannot change in a resumed run (it began with {before}); {restart}"
        )


def was_requeued(run: RunFolder) -> bool:
    """Return whether SLURM has requeued this job and the run has a checkpoint."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0 and run.last.is_file()


def batch_size_for(facts: Mapping[str, Any], batch_size: int, processes: int) -> int:
    """Return the batch size per rank with which a resumed run keeps its global batch size.

    Order of samples, position in the epoch and schedule are counted in global batches. A run can therefore continue on
    another number of ranks, but not with another global batch size.
    """
    before = facts.get("batch")
    whole = before["processes"] * before["per_process"] if before else batch_size * processes
    if before is None or batch_size * processes == whole:
        return batch_size
    if batch_size != before["per_process"]:
        raise EmodetError(
            f"data.batch_size={batch_size} on {processes} process(es): this run takes {whole} faces a step, and its "
            "schedule and its place in the epoch are counted in such steps. Leave data.batch_size out to keep them, or "
            "start a new run with init_from=CHECKPOINT"
        )
    if whole % processes:
        raise EmodetError(
            f"trainer.devices: {processes} processes cannot share this run's {whole} faces a step evenly; it was "
            f"started on {before['processes']}"
        )
    return int(whole // processes)
