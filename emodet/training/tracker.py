"""What a run tells a tracker beside the metrics of each epoch, and that no tracker ever stops a run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from emodet.data.pack import Pack
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation

__all__ = ["Tracker", "final_figures"]

log = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]


class Tracker(Logger):
    """A Lightning logger that also takes what a run is made of, pictures, evaluations and files.

    It stands before a logger of Lightning's in the list of base classes. Every method may be called in every process;
    only the first one's reach the tracker. What the tracker cannot take is said as a warning and training goes on.
    """

    title: str
    """What people call it."""

    keeps_files = False
    """Whether `add_files` does anything, so that a file may be made for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._warned: set[str] = set()

    # Lightning calls these two.

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.attempt("metrics", lambda: super(Tracker, self).log_metrics(dict(metrics), step))  # type: ignore[safe-super]

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is told by `describe`, and the classifier's arguments are a part of it."""

    # The run calls these.

    def describe(self, made_of: Mapping[str, Any]) -> None:
        """Take what the run is made of: nested plain values, the composed configuration and the run's facts."""
        raise NotImplementedError

    def use_pack(self, pack: Pack) -> None:
        """Note that the run was trained on this pack; of the pack only the manifest may be sent anywhere."""

    def add_picture(self, name: str, picture: UInt8) -> None:
        """Take a picture: uint8 (H, W, 3), RGB."""
        raise NotImplementedError

    def add_evaluation(self, split: str, evaluation: Evaluation, predictions: Predictions) -> None:
        """Take the charts of a split's final evaluation."""
        raise NotImplementedError

    def add_errors(
        self, split: str, predictions: Predictions, worst: Sequence[int], pictures: Sequence[UInt8] | None
    ) -> None:
        """Take the worst errors.

        Args:
            split: ``final/val`` or ``final/test``.
            predictions: The answers.
            worst: Positions in them.
            pictures: uint8 (H, W, 3), RGB, one for each; None where they may not be shown.
        """
        raise NotImplementedError

    def add_files(self, kind: str, files: Sequence[Path], about: Mapping[str, Any], aliases: Sequence[str]) -> None:
        """Keep files of the run: ``checkpoint`` or ``model-file``."""

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Take the run's final figures, by name."""
        raise NotImplementedError

    def close(self, status: int) -> None:
        """End the run with the process's exit status."""

    def attempt(self, what: str, tell: Callable[[], None]) -> bool:
        """Tell the tracker something, or warn, once for each kind of thing, that it did not take it."""
        try:
            tell()
        except Exception as problem:  # trackers raise anything: their transport's, their service's, the disk's
            if what not in self._warned:
                self._warned.add(what)
                log.warning("%s did not take %s (%s); the run goes on", self.title, what, _in_a_line(problem))
            return False
        return True


def final_figures(split: str, evaluation: Evaluation) -> dict[str, float]:
    """The figures of an evaluation by name, as in ``report/accuracy``, each with ``…/low`` and ``…/high``.

    Figures and ends of intervals that are not defined are left out.
    """
    names = {"ece": "calibration_error", "uncalibrated/ece": "calibration_error_at_temperature_1"}
    left_out = ("uncalibrated/nll", "uncalibrated/brier")
    scores = {
        names.get(name, name): score
        for name, score in evaluation.scores.items()
        if name not in left_out and "@" not in name and not name.startswith(("precision/", "f1/"))
    }
    figures: dict[str, float] = {f"{split}/faces": float(evaluation.faces)}
    for name, score in scores.items():
        for suffix, value in (("", score.value), ("/low", score.low), ("/high", score.high)):
            if value is not None:
                figures[f"{split}/{name}{suffix}"] = value
    return figures


def _in_a_line(problem: Exception) -> str:
    if isinstance(problem.__cause__, OSError):  # Lightning wraps it
        problem = problem.__cause__
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    text = " ".join(reason.split())
    return f"{type(problem).__name__}: {text[:300]}" if text else type(problem).__name__
