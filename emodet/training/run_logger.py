"""The callback that logs configuration, pictures, final scores, charts and artifacts."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import numpy.typing as npt
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from emodet.data.mixed import MixedPack
from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.contact_sheet import contact_sheet
from emodet.evaluation.plots import plot_confusion, plot_per_class, plot_reliability, plot_valence_arousal
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import worst_errors
from emodet.evaluation.scores import Evaluation
from emodet.training import wandb_charts
from emodet.training.folder import RunFolder
from emodet.training.loggers import Failures

__all__ = ["RunLogger", "final_scores", "may_show_pictures", "run_loggers"]

log = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]

_WORST = 32
# Readers of a user's own pictures; every other data set has an owner with terms.
_OWN_READERS = ("own_csv", "class_folders")


class RunLogger(L.Callback):
    """Logs, besides the metrics of each epoch, what describes and concludes a run; without loggers it does nothing.

    At the start: configuration, facts of ``run.json`` and the augmentation sheet. At the end: scores with intervals
    (``test/accuracy``, ``test/accuracy/low``, …; those of the val split begin with ``final/val/``), confusion matrix,
    reliability, recall per class and worst errors, as charts (wandb) or figures (TensorBoard). Other loggers get
    configuration and scores. What a logger cannot take becomes a warning.

    Args:
        pictures: Whether loggers get faces: ``auto``, true or false, see `may_show_pictures`.
        artifacts: Whether Weights & Biases keeps the best checkpoint and the model file.
    """

    def __init__(self, pictures: bool | str = "auto", artifacts: bool = True) -> None:
        self.pictures, self.artifacts = pictures, artifacts
        self._failures = Failures()
        self._loggers: list[Logger] = []
        self._pack: Pack | None = None
        self._shows_pictures = False
        self._config: dict[str, Any] = {}
        self._scores: dict[str, float] = {}

    @property
    def keeps_files(self) -> bool:
        """Whether `log_files` has somewhere to put files."""
        return self.artifacts and any(isinstance(logger, WandbLogger) for logger in self._loggers)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._pack = getattr(trainer.datamodule, "pack", None)  # type: ignore[attr-defined]
        self._shows_pictures = self._pack is not None and may_show_pictures(self.pictures, self._pack)
        others = [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
        self._loggers = others if trainer.is_global_zero else []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        run = RunFolder(Path(trainer.default_root_dir))
        if not self._loggers or not run.config.is_file():
            return
        stored = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        self._config = {**stored, **run.facts(), "folder": str(run.path)}
        sheet = cv2.imread(str(run.path / "augmentation.png"), cv2.IMREAD_COLOR_RGB) if self._shows_pictures else None
        for logger in self._loggers:
            with self._failures.caught(logger, "configuration"):
                logger.log_hyperparams(self._config)
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_text("configuration", _as_code(self._config))
            if sheet is not None:
                self._log_image(logger, "augmentation", np.asarray(sheet, np.uint8))

    def log_evaluation(
        self, split: str, evaluation: Evaluation, predictions: Predictions, index: npt.NDArray[np.int64]
    ) -> None:
        """Log charts and worst errors of the best epoch's evaluation; its scores follow with `log_scores`.

        Args:
            split: ``val`` or ``test``.
            evaluation: The scores.
            predictions: The predictions behind them.
            index: int64 (N,), positions of their faces in the pack.
        """
        prefix = "test" if split == "test" else f"final/{split}"  # val/ has the epochs' metrics
        self._scores |= final_scores(prefix, evaluation)
        if not self._loggers:
            return
        worst = worst_errors(predictions, _WORST).tolist()
        crops = list(self._pack.images(index[worst])) if self._shows_pictures and self._pack is not None else None
        for logger in self._loggers:
            if isinstance(logger, WandbLogger):
                charts = wandb_charts.evaluation_charts(evaluation, predictions)
                charts["worst_errors"] = partial(wandb_charts.errors_table, predictions, worst, crops)
                for name, chart in charts.items():
                    with self._failures.caught(logger, name):
                        logger.experiment.log({f"{prefix}/{name}": chart()})
            elif isinstance(logger, TensorBoardLogger):
                for name, figure in _figures(evaluation, predictions, worst, crops):
                    self._log_image(logger, f"{prefix}/{name}", figure)
                with self._failures.caught(logger, "worst errors"):
                    logger.experiment.add_text(f"{prefix}/worst_errors", _errors_as_text(predictions, worst))

    def log_scores(self, scores: Mapping[str, float | None]) -> None:
        """Log final scores by name: `scores`, and those of the evaluations before."""
        if not any(name.startswith("final/val/") for name in self._scores):
            # Both splits are the same faces; runs are compared by the val split's.
            own = {name.replace("test/", "final/val/", 1): value for name, value in self._scores.items()}
            self._scores |= own
        known = {**{name: value for name, value in scores.items() if value is not None}, **self._scores}
        for logger in self._loggers:
            with self._failures.caught(logger, "final scores"):
                if isinstance(logger, WandbLogger):
                    logger.experiment.summary.update(known)
                elif isinstance(logger, TensorBoardLogger):
                    logger.log_hyperparams(self._config, known, 0)
                else:
                    logger.log_metrics(known)

    def log_files(
        self, kind: str, files: Sequence[Path], metadata: Mapping[str, Any], aliases: Sequence[str] = ()
    ) -> None:
        """Log files as a wandb artifact, whose name begins with `kind`: ``checkpoint`` or ``model-file``."""
        for logger in self._loggers if files and self.artifacts else ():
            if isinstance(logger, WandbLogger):
                with self._failures.caught(logger, kind):
                    import wandb

                    artifact = wandb.Artifact(f"{kind}-{logger.experiment.id}", "model", metadata=dict(metadata))
                    for file in files:
                        artifact.add_file(str(file))
                    logger.experiment.log_artifact(artifact, aliases=["latest", *aliases])

    def _log_image(self, logger: Logger, name: str, image: UInt8) -> None:
        with self._failures.caught(logger, name):
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [image])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, dataformats="HWC")


def run_loggers(trainer: L.Trainer) -> list[RunLogger]:
    """The trainer's `RunLogger`, in a list that is empty where the configuration leaves it out."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, RunLogger)]


def final_scores(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    """Scores of an evaluation by name, as in ``test/accuracy``, with the ends ``…/low`` and ``…/high``.

    Scores and ends that are not defined are left out.
    """
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
    """Whether loggers may get faces of a pack.

    Args:
        choice: ``auto``: where the terms of the data set allow it, as the pack's manifest says. False: never. True:
            also for the user's own data, on the user's responsibility; refused for any other data set.
        pack: The training data.

    Raises:
        EmodetError: `choice` is something else, or the terms do not allow it.
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
            f"{key}=true: the terms of {', '.join(foreign)} do not let its pictures leave this machine; use "
            f"{key}=auto, which logs everything else"
        )
    titles = ", ".join(str(manifest.get("title")) for manifest in closed)
    log.warning("%s=true: faces of %s WILL BE SENT to the logger, on your responsibility", key, titles)
    return True


def _figures(
    evaluation: Evaluation, predictions: Predictions, worst: Sequence[int], crops: Sequence[UInt8] | None
) -> Iterator[tuple[str, UInt8]]:
    plots = {
        "confusion_matrix": plot_confusion(evaluation),
        "reliability": plot_reliability(evaluation),
        "recall_by_class": plot_per_class(evaluation),
    }
    if evaluation.dimensions:
        plots["valence_arousal"] = plot_valence_arousal(predictions, evaluation)
    for name, png in plots.items():
        yield name, np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
    if crops:
        captions = [
            f"{true}\nas {answer} {100 * score:.0f} %" for _, true, answer, score in _errors(predictions, worst)
        ]
        yield "worst_errors", contact_sheet(crops, captions, 8)


def _errors(predictions: Predictions, worst: Sequence[int]) -> Iterator[tuple[str, str, str, float]]:
    """Key, label, predicted class and its probability."""
    names = predictions.class_names
    for index in worst:
        emotion, predicted = names[predictions.emotion[index]], names[predictions.predicted[index]]
        yield predictions.keys[index], emotion, predicted, float(predictions.confidence[index])


def _errors_as_text(predictions: Predictions, worst: Sequence[int]) -> str:
    rows = [f"| {key} | {true} | {answer} | {score:.3f} |" for key, true, answer, score in _errors(predictions, worst)]
    return "\n".join(["| face | emotion | predicted | confidence |", "|---|---|---|---|", *rows])


def _as_code(values: Mapping[str, Any]) -> str:
    """As YAML; four spaces make it code in TensorBoard's Markdown."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return "\n".join(f"    {line}" for line in text.splitlines())
