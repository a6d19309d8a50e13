"""Validate and test a checkpoint in the processes that were started: ``measured_metrics.py CHECKPOINT SETTINGS``.

``SETTINGS`` is JSON: the data module's arguments, and under ``trainer`` the trainer's. The first process prints the
metrics as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
from emodet.training.launching import on_devices

from emodet.data.build import build_datamodule
from emodet.training.checkpoints import load_classifier

__all__ = ["measured"]


def measured(checkpoint: Path, data: dict[str, Any], trainer: dict[str, Any]) -> dict[str, float]:
    made = L.Trainer(logger=False, use_distributed_sampler=False, enable_progress_bar=False, **on_devices(trainer))
    settings = {key: value for key, value in data.items() if key != "preprocessing"}
    classifier, module = load_classifier(checkpoint), build_datamodule(settings, data["preprocessing"])
    metrics: dict[str, float] = {}
    for measure in (made.validate, made.test):
        (values,) = measure(classifier, module, verbose=False)
        metrics |= values
    return metrics if made.is_global_zero else {}


if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    trainer = settings.pop("trainer")
    if metrics := measured(Path(sys.argv[1]), settings, trainer):
        print(json.dumps(metrics))
