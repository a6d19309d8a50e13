"""The torchmetrics that a run is followed by. Intervals and reports are in `emodet.evaluation`."""

from collections.abc import Sequence

import torch
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
)

__all__ = ["EmotionMetrics"]

CALIBRATION_BINS = 15


class EmotionMetrics(nn.Module):
    """Accuracy, macro F1, balanced accuracy, recall per class, confusion matrix, calibration error and NLL.

    States are summed over all processes. Faces without an emotion (-1) count nowhere.

    Args:
        names: The classes, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        classes = len(self.names)
        # Each metric's update would otherwise look at every label for values out of range, which waits for the GPU.
        self.accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
        self.macro_f1 = MulticlassF1Score(classes, average="macro", validate_args=False)
        self.balanced_accuracy = MulticlassRecall(classes, average="macro", validate_args=False)
        self.recall = MulticlassRecall(classes, average="none", validate_args=False)
        self.confusion_matrix = MulticlassConfusionMatrix(classes, validate_args=False)
        self.calibration_error = MulticlassCalibrationError(
            classes, n_bins=CALIBRATION_BINS, norm="l1", validate_args=False
        )
        self.nll = MeanMetric(nan_strategy="disable")

    def update(self, logits: torch.Tensor, emotion: torch.Tensor) -> None:
        """Count a batch: float logits (N, K) and int64 emotions (N,), -1 for none."""
        labelled = emotion >= 0
        logits, emotion = logits[labelled].float(), emotion[labelled]
        if not len(emotion):
            return
        probabilities = logits.softmax(dim=1)
        for metric in (
            self.accuracy,
            self.macro_f1,
            self.balanced_accuracy,
            self.recall,
            self.confusion_matrix,
            self.calibration_error,
        ):
            metric.update(probabilities, emotion)
        self.nll.update(nn.functional.cross_entropy(logits, emotion, reduction="none"))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name: accuracy, macro_f1, balanced_accuracy, calibration_error, nll, recall/CLASS."""
        scalars = {
            name: getattr(self, name).compute()
            for name in ("accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll")
        }
        recalls = zip(self.names, self.recall.compute(), strict=True)
        return {**scalars, **{f"recall/{name}": value for name, value in recalls}}

    def reset(self) -> None:
        """Forget everything counted so far."""
        for metric in self.children():
            metric.reset()  # type: ignore[operator]  # all children are metrics
