"""A run in TensorBoard: event files in the run's folder."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from emodet.errors import EmodetError
from emodet.evaluation.contact_sheet import contact_sheet
from emodet.evaluation.plots import plot_confusion, plot_per_class, plot_reliability, plot_valence_arousal
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation
from emodet.training.folder import RunFolder
from emodet.training.tracker import Tracker

__all__ = ["TensorBoardTracker", "open_tensorboard"]

UInt8 = npt.NDArray[np.uint8]


class TensorBoardTracker(Tracker, TensorBoardLogger):
    """One folder of event files; a run that is continued adds a file, and its curves go on.

    Args:
        run: The run's folder; the events go into its ``tensorboard/``.
    """

    title = "TensorBoard"

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.path, name="tensorboard", version="", default_hp_metric=False)
        self._made_of: dict[str, str | float | bool] = {}

    @rank_zero_only
    def describe(self, made_of: Mapping[str, Any]) -> None:
        self._made_of = _flat(made_of)
        text = OmegaConf.to_yaml(OmegaConf.create(dict(made_of)))
        # Four spaces: text is shown as Markdown.
        code = "\n".join(f"    {line}" for line in text.splitlines())
        self.attempt("the configuration", lambda: self.experiment.add_text("configuration", code))

    @rank_zero_only
    def add_picture(self, name: str, picture: UInt8) -> None:
        self.attempt(name, lambda: self.experiment.add_image(name, picture, dataformats="HWC"))

    @rank_zero_only
    def add_evaluation(self, split: str, evaluation: Evaluation, predictions: Predictions) -> None:
        charts = {
            "confusion_matrix": plot_confusion(evaluation),
            "reliability": plot_reliability(evaluation),
            "recall_by_class": plot_per_class(evaluation),
        }
        if evaluation.dimensions:
            charts["valence_arousal"] = plot_valence_arousal(predictions, evaluation)
        for name, png in charts.items():
            picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
            self.add_picture(f"{split}/{name}", np.asarray(picture, dtype=np.uint8))

    @rank_zero_only
    def add_errors(
        self, split: str, predictions: Predictions, worst: Sequence[int], pictures: Sequence[UInt8] | None
    ) -> None:
        names = predictions.class_names
        answers = [
            (names[predictions.emotion[index]], names[predictions.predicted[index]], predictions.confidence[index])
            for index in worst
        ]
        if pictures:
            captions = [f"{true}\nas {answer} {100 * confidence:.0f} %" for true, answer, confidence in answers]
            self.add_picture(f"{split}/worst_errors", contact_sheet(pictures, captions, 8))
        lines = ["| face | emotion | answer | confidence |", "|---|---|---|---|"]
        for index, (true, answer, confidence) in zip(worst, answers, strict=True):
            lines.append(f"| {predictions.keys[index]} | {true} | {answer} | {confidence:.3f} |")
        name = f"{split}/worst_errors"
        self.attempt(name, lambda: self.experiment.add_text(name, "\n".join(lines)))

    @rank_zero_only
    def finish(self, figures: Mapping[str, Any]) -> None:
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        # Also the scalars; and the table in which runs are compared.
        self.attempt(
            "the final figures", lambda: TensorBoardLogger.log_hyperparams(self, self._made_of, numbers, step=0)
        )

    @rank_zero_only
    def close(self, status: int) -> None:
        if self._experiment is not None:
            self.attempt("the end of the run", self._experiment.close)


def open_tensorboard(run: RunFolder) -> TensorBoardTracker:
    """Go on with the run's event files, or begin them.

    Raises:
        EmodetError: tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise EmodetError("logger=tensorboard needs tensorboard: pip install 'emodet[tensorboard]', or use logger=csv")
    return TensorBoardTracker(run)


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, str | float | bool]:
    """Nested values with dots in their names, as TensorBoard's table of runs takes them."""
    found: dict[str, str | float | bool] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{name}."))
        else:
            found[name] = value if isinstance(value, str | int | float | bool) else str(value)
    return found
