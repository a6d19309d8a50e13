"""Metrics of a run, as torchmetrics. Intervals and reports are in `emodet.evaluation`.

Counts are whole numbers and sums are kept in float64, so a figure does not depend on how the faces were shared out to
batches and processes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix

from emodet.models.agreement import AGREEMENTS, DIMENSIONS, TERMS, agreement_names

__all__ = [
    "WIDE",
    "CalibrationError",
    "ClassificationScores",
    "Mean",
    "NegativeLogLikelihood",
    "SourceMetrics",
    "SplitMetrics",
    "TrainingMetrics",
    "ValenceArousalMetrics",
    "emotion_metrics",
    "lower_is_better",
    "monitored_names",
]

CALIBRATION_BINS = 15
_OF_SOURCES = ("accuracy", "macro_f1")
WIDE = torch.float32 if torch.backends.mps.is_available() else torch.float64
"""What sums are kept in; Apple's GPUs have no float64."""


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error: its name ends in loss, nll or error, or it is a root mean squared one."""
    return metric.endswith(("loss", "nll", "error")) or metric.rpartition("/")[2].startswith("rmse")


def monitored_names(names: Sequence[str], sources: Sequence[str] = (), *, valence_arousal: bool = False) -> list[str]:
    """What a run can be followed by on its val faces.

    Args:
        names: The classes.
        sources: The data sets of a mix.
        valence_arousal: Whether the net has a valence/arousal head.

    Returns:
        Those that `SplitMetrics.compute` can have, after ``val/``.
    """
    means = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll")
    of_sources = (f"{metric}/{source}" for source in sources for metric in _OF_SOURCES)
    of_dimensions = agreement_names() if valence_arousal else []
    return [f"val/{name}" for name in (*means, *(f"recall/{name}" for name in names), *of_sources, *of_dimensions)]


def emotion_metrics(names: Sequence[str]) -> MetricCollection:
    """Accuracy, macro F1, balanced accuracy, recall/CLASS, calibration_error and nll.

    Updated with float logits (N, K) and int64 emotions (N,); faces without an emotion (-1) count nowhere.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "scores": ClassificationScores(names),
        "calibration_error": CalibrationError(),
        "nll": NegativeLogLikelihood(),
    }
    return MetricCollection(metrics, compute_groups=False)


class ClassificationScores(MulticlassConfusionMatrix):
    """Accuracy, macro F1, balanced accuracy and recall/CLASS, from one confusion matrix.

    A mean over classes is one over those that have faces; the others have no recall.

    Args:
        names: The classes, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Validation would look at every label for values out of range, which waits for the GPU.
        super().__init__(len(names), ignore_index=-1, validate_args=False)
        self.names = list(names)

    def compute(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Scalars by name."""
        matrix = super().compute()
        recalls = {
            f"recall/{name}": row[number] / row.sum()
            for number, (name, row) in enumerate(zip(self.names, matrix, strict=True))
            if row.sum() > 0
        }
        return {**_from_confusion(matrix), **recalls}


class SourceMetrics(nn.Module):
    """Accuracy and macro F1 on the faces of each data set of a mix.

    Args:
        names: The classes, in order.
        sources: The data sets, in the order of `Batch`'s ``source``.
    """

    def __init__(self, names: Sequence[str], sources: Sequence[str]) -> None:
        super().__init__()
        self.classes, self.sources = len(names), list(sources)
        # One matrix over pairs of data set and class: choosing the faces of each would wait for the GPU each time.
        pairs = [f"{source}/{name}" for source in self.sources for name in names]
        self.confusion_matrix = _confusion_matrix(pairs) if pairs else None

    def update(self, logits: torch.Tensor, emotion: torch.Tensor, source: torch.Tensor) -> None:
        """Count a batch: float logits (N, K), int64 emotions (N,), -1 for none, int64 data sets (N,)."""
        labelled = emotion >= 0
        if self.confusion_matrix is None or not len(emotion):
            return
        start = source[labelled] * self.classes
        self.confusion_matrix.update(start + logits[labelled].argmax(dim=1), start + emotion[labelled])

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name: accuracy/SOURCE, macro_f1/SOURCE; none for a data set without faces, or without a mix."""
        if self.confusion_matrix is None:
            return {}
        matrix, size, found = self.confusion_matrix.compute(), self.classes, {}
        for number, source in enumerate(self.sources):
            own = matrix[number * size : (number + 1) * size, number * size : (number + 1) * size]
            if own.sum() > 0:
                scalars = _from_confusion(own)
                found.update({f"{metric}/{source}": scalars[metric] for metric in _OF_SOURCES})
        return found

    def reset(self) -> None:
        """Reset all states."""
        if self.confusion_matrix is not None:
            self.confusion_matrix.reset()


class Mean(Metric):
    """A mean from two sums: of weighted values, and of their weights.

    Not torchmetrics' `MeanMetric`: it either looks for NaN, which waits for the GPU, or (1.9) leaves the weights out.
    """

    full_state_update = False
    total: torch.Tensor
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.zeros((), dtype=WIDE), dist_reduce_fx="sum")

    def update(self, weighted: torch.Tensor, weights: torch.Tensor) -> None:
        """Count values that bear their weights already, and these weights, of any shape."""
        self.total += weighted.to(WIDE).sum()
        self.weight += weights.to(self.weight).sum()

    def compute(self) -> torch.Tensor:
        """The mean, a float32 scalar."""
        return (self.total / self.weight).float()


class NegativeLogLikelihood(Mean):
    """The mean negative log likelihood of the labels."""

    def update(self, logits: torch.Tensor, emotion: torch.Tensor) -> None:  # type: ignore[override]
        """Count a batch: float logits (N, K) and int64 emotions (N,), -1 for none."""
        losses = nn.functional.cross_entropy(logits.float(), emotion, ignore_index=-1, reduction="none")
        super().update(losses, emotion >= 0)


class CalibrationError(Metric):
    """The expected calibration error with equally wide bins: torchmetrics' ``norm="l1"``, from sums per bin.

    torchmetrics keeps every prediction and gathers them from all processes.
    """

    full_state_update = False
    faces: torch.Tensor
    confidence: torch.Tensor
    right: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("faces", "confidence", "right"):
            self.add_state(name, torch.zeros(CALIBRATION_BINS, dtype=WIDE), dist_reduce_fx="sum")
        # As torchmetrics has them, in float32.
        self.edges: torch.Tensor
        self.register_buffer("edges", torch.linspace(0, 1, CALIBRATION_BINS + 1), persistent=False)

    def update(self, logits: torch.Tensor, emotion: torch.Tensor) -> None:
        """Count a batch: float logits (N, K) and int64 emotions (N,), -1 for none."""
        labelled = emotion >= 0
        logits, emotion = logits[labelled].float(), emotion[labelled]
        confidence, answer = logits.softmax(dim=1).max(dim=1)
        bins = (torch.bucketize(confidence, self.edges.float(), right=True) - 1).clamp(0, CALIBRATION_BINS - 1)
        self.faces.index_add_(0, bins, torch.ones_like(confidence, dtype=WIDE))
        self.confidence.index_add_(0, bins, confidence.to(WIDE))
        self.right.index_add_(0, bins, (answer == emotion).to(WIDE))

    def compute(self) -> torch.Tensor:
        """The mean distance between confidence and accuracy, weighted by the bins' faces: a scalar."""
        return ((self.confidence - self.right).abs().sum() / self.faces.sum()).float()


class TrainingMetrics(nn.Module):
    """Accuracy, macro F1 and mean loss of an unfinished epoch, which a checkpoint can store.

    Args:
        names: The classes, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.confusion_matrix = _confusion_matrix(names)
        self.loss = Mean()

    def update(self, logits: torch.Tensor, emotion: torch.Tensor, loss: torch.Tensor) -> None:
        """Count a batch: float logits (N, K), int64 emotions (N,), -1 for none, and its mean loss."""
        labelled = emotion >= 0
        self.confusion_matrix.update(logits[labelled], emotion[labelled])
        self.loss.update(loss * len(logits), torch.tensor(len(logits)))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name: loss, accuracy, macro_f1."""
        scalars = _from_confusion(self.confusion_matrix.compute())
        return {"loss": self.loss.compute(), "accuracy": scalars["accuracy"], "macro_f1": scalars["macro_f1"]}

    def reset(self) -> None:
        """Reset all states."""
        self.confusion_matrix.reset()
        self.loss.reset()

    def counts(self) -> dict[str, torch.Tensor]:
        """The states of this process, as tensors by name."""
        return dict(self._states())

    def restore(self, counted: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `counts` returned."""
        for name, value in self._states():
            metric, state = name.split(".")
            setattr(getattr(self, metric), state, counted[name].to(value))

    def _states(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, metric in (("confusion_matrix", self.confusion_matrix), ("loss", self.loss)):
            for key, value in metric.metric_state.items():
                if isinstance(value, torch.Tensor):  # none of these has a list
                    yield f"{name}.{key}", value


class ValenceArousalMetrics(Metric):
    """Concordance, root mean squared error and sign agreement of valence and of arousal, over the annotated faces.

    Not torchmetrics' `ConcordanceCorrCoef`: it knows no faces without annotation, waits for the GPU in each batch, and
    takes variances over n - 1. Sums are added up over all processes.
    """

    full_state_update = False
    sums: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(DIMENSIONS), len(TERMS), dtype=WIDE), dist_reduce_fx="sum")

    def update(self, predicted: torch.Tensor, annotated: torch.Tensor) -> None:
        """Count a batch: float (N, 2), and the same annotated, NaN where not. See `agreement_terms`."""
        known = annotated.isfinite()
        x, y = (torch.where(known, values, 0).to(WIDE) for values in (predicted, annotated))
        same_sign = known & (x.sign() == y.sign())
        terms = (known.to(WIDE), x, y, x * x, y * y, x * y, (x - y).square(), same_sign.to(WIDE))
        self.sums += torch.stack(terms, dim=2).sum(dim=0)

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, ``ccc_valence`` and so on, float32; what is not defined is left out."""
        sums = self.sums.cpu().double().numpy()
        found = {
            f"{name}_{dimension}": float(measure(sums[number]))
            for name, measure in AGREEMENTS.items()
            for number, dimension in enumerate(DIMENSIONS)
        }
        return {name: torch.tensor(value) for name, value in found.items() if not math.isnan(value)}

    @staticmethod
    def loss(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """`ConcordanceLoss` over all counted faces, from what `compute` returned; 0 without annotated faces."""
        known = [values[name] for name in (f"ccc_{dimension}" for dimension in DIMENSIONS) if name in values]
        return 1 - torch.stack(known).mean() if known else torch.zeros(())


class SplitMetrics(nn.Module):
    """All metrics of the val or test split.

    Args:
        names: The classes, in order.
        sources: The data sets of a mix.
        va_weight: Weight of the valence/arousal loss; 0 without that head.
    """

    def __init__(self, names: Sequence[str], sources: Sequence[str] = (), va_weight: float = 0.0) -> None:
        super().__init__()
        self.scores, self.loss = emotion_metrics(names), Mean()
        self.sources, self.valence_arousal = SourceMetrics(names, sources), ValenceArousalMetrics()
        self.va_weight = va_weight

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name; ``loss`` is the whole training objective over the split."""
        loss = self.loss.compute()
        values = {**self.scores.compute(), **self.sources.compute()}
        if self.va_weight:
            agreement = self.valence_arousal.compute()
            # The coefficient is one of all faces, not a mean over batches.
            loss = loss + self.va_weight * self.valence_arousal.loss(agreement).to(loss)
            values.update(agreement)
        return {"loss": loss, **values}

    def reset(self) -> None:
        """Reset all states."""
        for metric in (self.scores, self.loss, self.sources, self.valence_arousal):
            metric.reset()


def _confusion_matrix(names: Sequence[str]) -> MulticlassConfusionMatrix:
    # Its update would otherwise look at every label for values out of range, which waits for the GPU.
    return MulticlassConfusionMatrix(len(names), validate_args=False)


def _from_confusion(matrix: torch.Tensor) -> dict[str, torch.Tensor]:
    """Accuracy, macro F1 and balanced accuracy of counts (K, K), rows the true classes."""
    counts = matrix.to(torch.float32 if matrix.device.type == "mps" else torch.float64)
    right, true, answered = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    present = true > 0
    scalars = {
        "accuracy": right.sum() / counts.sum(),
        "macro_f1": (2 * right / (true + answered))[present].mean(),
        "balanced_accuracy": (right / true)[present].mean(),
    }
    return {name: value.float() for name, value in scalars.items()}
