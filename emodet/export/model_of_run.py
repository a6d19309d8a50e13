"""The model file that a tracked run ends with: fp32, through the same gate as `python -m emodet.export`."""

import logging
from pathlib import Path

from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.export.graph import OUTPUTS
from emodet.export.model_set import ExportPlan, export_set, file_names
from emodet.modelfile import ModelInfo
from emodet.training.trained import Trained

__all__ = ["describe_trained", "write_model_of_run"]

log = logging.getLogger(__name__)


def describe_trained(trained: Trained) -> ModelInfo:
    """What a model file says of a trained net where nothing else is asked for."""
    return ModelInfo(
        class_names=trained.classifier.class_names,
        preprocessing=trained.classifier.preprocessing,
        temperature=trained.temperature,
        training_data=tuple(dict.fromkeys(trained.training_data)),
        metrics=trained.metrics,
        commit=trained.commit,
        fingerprint=trained.fingerprint,
        precision="fp32",
        outputs=OUTPUTS if trained.classifier.has_va_head else OUTPUTS[:1],
    )


def write_model_of_run(trained: Trained, data: EmotionDataModule, folder: Path) -> list[Path]:
    """Export a net that was just trained, and measure the file on the data of its run.

    A run that is complete is not failed by it: what goes wrong is said as a warning.

    Args:
        trained: Of a run.
        data: That of the run.
        folder: Where the files go; those of an earlier attempt are replaced.

    Returns:
        The model file and the gate's record; nothing where it failed the gate or could not be made.
    """
    plan = ExportPlan(
        output=folder,
        name="emodet",
        formats=("fp32",),
        calibration_faces=1,
        reduce_range=True,
        threads=None,
        force=False,
        overwrite=True,
    )
    try:
        gate = export_set(trained, describe_trained(trained), data, plan)
    except EmodetError as problem:
        log.warning("no model file was written: %s", problem)
        return []
    if not gate.written["fp32"]:
        failed = "; ".join(check.what for check in gate.checks if check.verdict == "failed")
        log.warning("no model file was written, as it failed the gate: %s", failed)
        return []
    names = file_names(plan.name)
    return [folder / names["fp32"], folder / names["gate"]]
