"""Folders of runs as training leaves them, without training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emodet.config import TrainConfig
from emodet.schema import defaults

_SCHEMA = OmegaConf.create(defaults(TrainConfig))


def made_run(
    folder: Path,
    curve: Sequence[float] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    choices: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    finished: bool = True,
) -> Path:
    """A run with this curve of its val metric; `settings` is what it was composed with besides the schema."""
    config: Any = OmegaConf.merge(_SCHEMA, settings or {})
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    hydra = {
        "hydra": {"runtime": {"choices": {"augmentation": "standard", "hydra/launcher": "basic", **(choices or {})}}}
    }
    OmegaConf.save(OmegaConf.create(hydra), folder / ".hydra" / "hydra.yaml")
    (folder / "csv" / "0").mkdir(parents=True)
    rows = [f"epoch,step,train/loss,{config.training.monitor}"]
    for epoch, value in enumerate(curve):
        rows += [f"{epoch},{epoch * 9 + 8},,{value}", f"{epoch},{epoch * 9 + 8},2.0,"]
    (folder / "csv" / "0" / "metrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    known: dict[str, Any] = {"started": "2026-01-01T10:00:00Z", "splits": {"val": "val", "test": "test"}}
    if finished:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").touch()
        known["ended"] = "2026-01-01T10:02:00Z"
        value = max(curve) - 0.1
        known["results"] = {"test": {"accuracy": {"value": value}, "macro_f1": {"value": value / 2}}}
    (folder / "run.json").write_text(json.dumps({**known, **(facts or {})}), encoding="utf-8")
    return folder
