"""Callback that logs configuration, figures, tables, final scores and artifacts."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from emodet.data.mixed import MixedPack
from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import error_sheet, worst_errors
from emodet.evaluation.scores import Evaluation
from emodet.training.folder import RunFolder

log = logging.getLogger(__name__)

Result = tuple[Evaluation, Predictions]
"""Evaluation and predictions of a split."""

_WORST = 32
# Files of a report folder by their name in loggers.
_FIGURES = {
    **{"confusion_matrix": "confusion_matrix.png", "reliability": "reliability.png"},
    **{"recall_by_class": "per_class.png", "valence_arousal": "valence_arousal.png"},
}
# Readers of the user's own pictures; all other data sets have an owner and terms.
_OWN_READERS = ("own_csv", "class_folders")


class RunLogger(L.Callback):
    """Logs description and results of a run, in addition to the metrics of each epoch.

    At the start: configuration, facts of ``run.json`` and the augmentation sheet. At the end: scores with intervals
    (``test/accuracy``, ``test/accuracy/low``, …; for val with the prefix ``final/val/``), figures (confusion
    matrix, reliability, recall per class, worst errors), and with wandb the tables ``classes`` and ``worst_errors``.
    Loggers other than wandb and TensorBoard receive configuration and scores.

    Args:
        pictures: Whether to log faces: ``auto``, true or false, see `may_show_pictures`.
        artifacts: Whether to upload the best checkpoint to Weights & Biases.
    """

    def __init__(self, pictures: bool | str = "auto", artifacts: bool = True) -> None:
        self.pictures, self.artifacts = pictures, artifacts
        self._loggers: list[Logger] = []
        self._pack: Pack | None = None
        self._config: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pack: Pack | None = getattr(trainer.datamodule, "pack", None)  # type: ignore[attr-defined]
        self._pack = pack if pack is not None and may_show_pictures(self.pictures, pack) else None
        self._run = RunFolder(Path(trainer.default_root_dir))
        others = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
        self._loggers = others if trainer.is_global_zero else []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        run = self._run
        if not self._loggers or not run.config.is_file():
            return
        self._config = {**run.read_config(), **run.facts(), "folder": str(run.path)}
        for logger in self._loggers:
            logger.log_hyperparams(self._config)
        if self._pack is not None and (sheet := run.path / "augmentation.png").is_file():
            self._log_image("augmentation", cv2.imread(str(sheet), cv2.IMREAD_COLOR_RGB))

    def log_results(
        self, results: Mapping[str, Result], scores: Mapping[str, float | None], about: Mapping[str, Any]
    ) -> None:
        """Log final scores, figures and tables by split, and with wandb the best checkpoint.

        `scores` are additional scores, logged if defined; `about` describes the checkpoint.
        """
        known = {name: value for name, value in scores.items() if value is not None}
        for split, (evaluation, predictions) in results.items():
            prefix = "test" if split == "test" else f"final/{split}"  # val/ contains the metrics of epochs
            # If both splits are the same faces, runs are compared by their val score.
            for each in (prefix,) if "val" in results else (prefix, "final/val"):
                known |= final_scores(each, evaluation)
            if self._loggers:
                self._log_evaluation(prefix, self._run.path / f"evaluation-{split}", evaluation, predictions)
        for logger in self._loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary.update(known)
                if self.artifacts:
                    import wandb

                    artifact = wandb.Artifact(f"checkpoint-{logger.experiment.id}", "model", metadata=dict(about))
                    artifact.add_file(str(self._run.best))
                    logger.experiment.log_artifact(artifact, aliases=["latest", "best"])
            elif isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._config, known, 0)
            else:
                logger.log_metrics(known)

    def _log_evaluation(self, prefix: str, report: Path, evaluation: Evaluation, predictions: Predictions) -> None:
        worst, errors = worst_errors(predictions, _WORST)
        for name, file in _FIGURES.items():
            if (report / file).is_file():
                self._log_image(f"{prefix}/{name}", cv2.imread(str(report / file), cv2.IMREAD_COLOR_RGB))
        if self._pack is not None and errors and predictions.index is not None:
            self._log_image(f"{prefix}/worst_errors", error_sheet(errors, self._pack.images(predictions.index[worst])))
        for logger in self._loggers:
            if isinstance(logger, WandbLogger):
                for name, (columns, rows) in _tables(evaluation, errors).items():
                    logger.log_table(f"{prefix}/{name}", columns=columns, data=rows)

    def _log_image(self, name: str, image: Any) -> None:
        for logger in self._loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [image])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, dataformats="HWC")


def final_scores(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    """Return scores by name, such as ``test/accuracy``, and the ends of intervals, ``…/low`` and ``…/high``."""
    names = {"ece": "calibration_error", "uncalibrated/ece": "calibration_error_at_temperature_1"}
    left_out = ("uncalibrated/nll", "uncalibrated/brier")
    found = {f"{prefix}/faces": float(evaluation.faces)}
    for name, score in evaluation.scores.items():
        if name in left_out or "@" in name or name.startswith(("precision/", "f1/")):
            continue
        for end, value in (("", score.value), ("/low", score.low), ("/high", score.high)):
            if value is not None:
                found[f"{prefix}/{names.get(name, name)}{end}"] = value
    return found


def may_show_pictures(choice: bool | str, pack: Pack) -> bool:
    """Return whether faces of a pack may be logged.

    ``auto``: if the terms in the pack's manifest allow it. False: never. True: also for the user's own data, on the
    user's responsibility, but not for other data sets.

    Raises:
        EmodetError: `choice` is invalid, or the terms do not allow it.
    """
    key = "callbacks.run_logger.pictures"
    if choice is False:
        return False
    if choice not in ("auto", True):
        raise EmodetError(f"{key}={choice!r}: there are auto, true and false")
    packs = pack.packs if isinstance(pack, MixedPack) else (pack,)
    closed = [each.manifest for each in packs if not each.manifest.get("redistributable", False)]
    if choice == "auto" or not closed:
        return not closed
    foreign = [str(manifest.get("title")) for manifest in closed if manifest.get("reader") not in _OWN_READERS]
    if foreign:
        raise EmodetError(
            f"{key}=true: the terms of the data ({', '.join(foreign)}) do not let its pictures leave this machine; use "
            f"{key}=auto, which logs everything else"
        )
    titles = ", ".join(str(manifest.get("title")) for manifest in closed)
    log.warning("%s=true: faces of this data (%s) WILL BE SENT to the logger, on your responsibility", key, titles)
    return True


def _tables(
    evaluation: Evaluation, errors: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Return columns and rows of tables by name."""
    classes = []
    for name in evaluation.class_names:
        recall, precision, f1 = (evaluation[f"{metric}/{name}"] for metric in ("recall", "precision", "f1"))
        classes.append([name, recall.value, recall.low, recall.high, precision.value, f1.value, recall.n])
    probabilities = [f"p_{name}" for name in evaluation.class_names]
    return {
        "classes": (["emotion", "recall", "low", "high", "precision", "f1", "faces"], classes),
        "worst_errors": (
            ["key", "emotion", "predicted", "confidence", *probabilities],
            [[*list(row.values())[:4], *row["probabilities"].values()] for row in errors],
        ),
    }
