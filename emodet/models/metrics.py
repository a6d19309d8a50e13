"""Metrics of a run, as torchmetrics. Intervals and reports are in `emodet.evaluation`.

Counts are whole numbers and sums are kept in float64, so a figure does not depend on how faces are shared out to
batches and processes. Faces without an emotion (-1) count nowhere.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix

from emodet.evaluation.calibration import BINS, calibration_gaps, expected_calibration_error
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, TERMS, agreement_names, agreement_terms

_OF_SOURCES = ("accuracy", "macro_f1")
_WIDE = torch.float32 if torch.backends.mps.is_available() else torch.float64  # Apple's GPUs have no float64


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error: its name ends in loss, nll or error, or it is a root mean squared one."""
    return metric.endswith(("loss", "nll", "error")) or metric.rpartition("/")[2].startswith("rmse")


def monitored_names(names: Sequence[str], sources: Sequence[str] = (), *, valence_arousal: bool = False) -> list[str]:
    """Names of the metrics that `SplitMetrics.compute` can have, after ``val/``; arguments as there."""
    means = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll")
    of_sources = (f"{metric}/{source}" for source in sources for metric in _OF_SOURCES)
    of_dimensions = agreement_names() if valence_arousal else []
    return [f"val/{name}" for name in (*means, *(f"recall/{name}" for name in names), *of_sources, *of_dimensions)]


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
            self.add_state(name, torch.zeros((), dtype=_WIDE), dist_reduce_fx="sum")

    def update(self, weighted: torch.Tensor, weights: torch.Tensor) -> None:
        """Count values that are multiplied by their weights already, and these weights, of any shape."""
        self.total += weighted.to(_WIDE).sum()
        self.weight += weights.to(self.weight).sum()

    def compute(self) -> torch.Tensor:
        """The mean, a float32 scalar."""
        return (self.total / self.weight).float()


class NegativeLogLikelihood(Mean):
    """The mean negative log likelihood of the labels."""

    def update(self, logits: torch.Tensor, emotion: torch.Tensor) -> None:
        """Count a batch: float logits (N, K) and int64 emotions (N,), -1 for none."""
        super().update(F.cross_entropy(logits.float(), emotion, ignore_index=-1, reduction="none"), emotion >= 0)


class ClassificationScores(MulticlassConfusionMatrix):
    """Accuracy, macro F1, balanced accuracy and recall/CLASS of the classes `names`, from one confusion matrix.

    A mean over classes is one over those that have faces; the others have no recall.
    """

    def __init__(self, names: Sequence[str]) -> None:
        # Validation would look at every label for values out of range, which waits for the GPU.
        super().__init__(len(names), ignore_index=-1, validate_args=False)
        self.names = list(names)

    def compute(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Float32 scalars by name."""
        matrix = self.confmat
        recalls = {
            f"recall/{name}": row[number] / row.sum()
            for number, (name, row) in enumerate(zip(self.names, matrix, strict=True))
            if row.sum() > 0
        }
        return {**_from_confusion(matrix), **recalls}


class CalibrationError(Metric):
    """The expected calibration error, from sums per bin: torchmetrics keeps and gathers every prediction."""

    full_state_update = False
    gaps: torch.Tensor
    faces: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, bins in (("gaps", (BINS,)), ("faces", ())):
            self.add_state(name, torch.zeros(bins, dtype=_WIDE), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, emotion: torch.Tensor) -> None:
        """Count a batch: float logits (N, K) and int64 emotions (N,), -1 for none."""
        labelled = emotion >= 0
        probabilities = logits[labelled].float().softmax(dim=1).cpu().numpy()
        gaps = calibration_gaps(probabilities, emotion[labelled].cpu().numpy())
        self.gaps += torch.from_numpy(gaps.sum(axis=0)).to(self.gaps)
        self.faces += len(gaps)

    def compute(self) -> torch.Tensor:
        """A float32 scalar."""
        error = expected_calibration_error(self.gaps.cpu().double().numpy(), self.faces.cpu().double().numpy())
        return torch.tensor(float(error))


def emotion_metrics(names: Sequence[str]) -> MetricCollection:
    """Accuracy, macro F1, balanced accuracy, recall/CLASS, calibration_error and nll.

    Updated with float logits (N, K) and int64 emotions (N,), -1 for none.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "scores": ClassificationScores(names),
        "calibration_error": CalibrationError(),
        "nll": NegativeLogLikelihood(),
    }
    return MetricCollection(metrics, compute_groups=False)


class SourceMetrics(nn.Module):
    """Accuracy and macro F1 on the faces of each data set of a mix: accuracy/SOURCE, macro_f1/SOURCE.

    `names` are the classes, `sources` the data sets in the order of `Batch`'s ``source``.
    """

    def __init__(self, names: Sequence[str], sources: Sequence[str]) -> None:
        super().__init__()
        self.scores = nn.ModuleList(ClassificationScores(names) for _ in sources)
        self.names = list(sources)

    def update(self, logits: torch.Tensor, emotion: torch.Tensor, source: torch.Tensor) -> None:
        """Count a batch: float logits (N, K), int64 emotions (N,), -1 for none, int64 data sets (N,)."""
        for number, scores in enumerate(self._each()):
            scores.update(logits, torch.where(source == number, emotion, -1))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name; none for a data set without faces."""
        found = {}
        for name, scores in zip(self.names, self._each(), strict=True):
            values = scores.compute()
            found.update({f"{metric}/{name}": values[metric] for metric in _OF_SOURCES})
        return {name: value for name, value in found.items() if not value.isnan()}

    def reset(self) -> None:
        """Reset all states."""
        for scores in self._each():
            scores.reset()

    def _each(self) -> list[ClassificationScores]:
        return [scores for scores in self.scores if isinstance(scores, ClassificationScores)]


class ValenceArousalMetrics(Metric):
    """Concordance, root mean squared error and sign agreement of valence and of arousal, over the annotated faces.

    Not torchmetrics' `ConcordanceCorrCoef`: it takes variances over n - 1 and cannot leave out faces.
    """

    full_state_update = False
    sums: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(DIMENSIONS), len(TERMS), dtype=_WIDE), dist_reduce_fx="sum")

    def update(self, predicted: torch.Tensor, annotated: torch.Tensor) -> None:
        """Count a batch: float (N, 2), and the same annotated, NaN where not."""
        terms = agreement_terms(predicted.detach().cpu().numpy(), annotated.cpu().numpy())
        self.sums += torch.from_numpy(terms.sum(axis=0)).to(self.sums)

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, ``ccc_valence`` and so on, float32; what is not defined is left out."""
        sums = self.sums.cpu().double().numpy()
        found = {
            f"{name}_{dimension}": float(measure(sums[number]))
            for name, measure in AGREEMENTS.items()
            for number, dimension in enumerate(DIMENSIONS)
        }
        return {name: torch.tensor(value) for name, value in found.items() if not math.isnan(value)}


class SplitMetrics(nn.Module):
    """All metrics of the val or test split: of the classes `names`, and of the data sets `sources` of a mix.

    `va_weight` is the weight of the valence/arousal loss; 0 without that head.
    """

    def __init__(self, names: Sequence[str], sources: Sequence[str] = (), va_weight: float = 0.0) -> None:
        super().__init__()
        self.scores, self.loss = emotion_metrics(names), Mean()
        self.sources, self.valence_arousal = SourceMetrics(names, sources), ValenceArousalMetrics()
        self.va_weight = va_weight

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name; ``loss`` is the whole training objective over the split."""
        values = {"loss": self.loss.compute(), **self.scores.compute(), **self.sources.compute()}
        if self.va_weight:
            agreement = self.valence_arousal.compute()
            values.update(agreement)
            # `ConcordanceLoss` over all faces, as the coefficient is no mean over batches; 0 without annotated faces.
            if known := [agreement[name] for name in ("ccc_valence", "ccc_arousal") if name in agreement]:
                values["loss"] = values["loss"] + self.va_weight * (1 - torch.stack(known).mean()).to(values["loss"])
        return values

    def reset(self) -> None:
        """Reset all states."""
        for metric in (self.scores, self.loss, self.sources, self.valence_arousal):
            metric.reset()


class TrainingMetrics(nn.Module):
    """Accuracy, macro F1 and mean loss of an unfinished epoch, which a checkpoint can store."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.scores, self.loss = ClassificationScores(names), Mean()

    def update(self, logits: torch.Tensor, emotion: torch.Tensor, loss: torch.Tensor) -> None:
        """Count a batch: float logits (N, K), int64 emotions (N,), -1 for none, and its mean loss."""
        self.scores.update(logits, emotion)
        self.loss.update(loss * len(logits), torch.tensor(len(logits)))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name: loss, accuracy, macro_f1."""
        scores = self.scores.compute()
        return {"loss": self.loss.compute(), "accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"]}

    def reset(self) -> None:
        """Reset all states."""
        self.scores.reset()
        self.loss.reset()

    def counts(self) -> dict[str, torch.Tensor]:
        """The states of this process, as tensors by name."""
        parts = (("scores", self.scores), ("loss", self.loss))
        return {f"{name}.{state}": getattr(part, state) for name, part in parts for state in part.metric_state}

    def restore(self, counts: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `counts` returned."""
        for place, value in counts.items():
            name, _, state = place.partition(".")
            metric = self.get_submodule(name)
            setattr(metric, state, value.to(getattr(metric, state)))


def _from_confusion(matrix: torch.Tensor) -> dict[str, torch.Tensor]:
    """Accuracy, macro F1 and balanced accuracy of counts (K, K), rows the true classes."""
    counts = matrix.to(_WIDE)
    right, true, answered = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    present = true > 0
    scalars = {
        "accuracy": right.sum() / counts.sum(),
        "macro_f1": (2 * right / (true + answered))[present].mean(),
        "balanced_accuracy": (right / true)[present].mean(),
    }
    return {name: value.float() for name, value in scalars.items()}
