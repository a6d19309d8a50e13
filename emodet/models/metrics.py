"""Metrics of a run, as torchmetrics. Intervals and reports are in `emodet.evaluation`.

All of them follow from sums over faces, kept in float64, so a figure does not depend on how faces are shared out to
batches and processes. Faces without an emotion (-1) count in no metric of the classes.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torchmetrics import Metric

from emodet.arrays import Float64
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


class TrainingMetrics(Metric):
    """Mean loss, accuracy and macro F1 of the classes `names`.

    `sources` are the data sets of a mix, in the order of `Batch`'s ``source``.

    Attributes:
        confusion: Faces by data set, emotion and prediction, last of other data sets: float64 (S + 1, K, K).
        loss: Sums of weighted losses and of their weights: float64 (2,).
    """

    full_state_update = False
    confusion: torch.Tensor
    loss: torch.Tensor

    def __init__(self, names: Sequence[str], sources: Sequence[str] = ()) -> None:
        super().__init__()
        self.names, self.sources = list(names), list(sources)
        self._add_sums(confusion=(len(sources) + 1, len(names), len(names)), loss=(2,))

    def _add_sums(self, **shapes: tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=_WIDE), dist_reduce_fx="sum")

    def update(
        self,
        logits: torch.Tensor,
        emotion: torch.Tensor,
        losses: torch.Tensor,
        weights: torch.Tensor,
        source: torch.Tensor | None = None,
    ) -> None:
        """Count a batch, without waiting for the GPU.

        Args:
            logits: float (N, K).
            emotion: int64 (N,), -1 for none.
            losses: Multiplied by their weights, of any shape.
            weights: Of the losses, of any shape.
            source: int64 (N,), from the number of `sources` on for others; None for a single data set.
        """
        place = emotion.clamp_min(0) * len(self.names) + logits.argmax(dim=1)
        if source is not None:
            place = place + source.clamp_max(len(self.sources)) * len(self.names) ** 2
        self.confusion.view(-1).index_add_(0, place, (emotion >= 0).to(_WIDE))
        self.loss += torch.stack([losses.to(_WIDE).sum(), weights.to(_WIDE).sum()])

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, float32."""
        means = _means(self.confusion.sum(dim=0))
        return {"loss": self._loss(), **{name: means[name] for name in _OF_SOURCES}}

    def _loss(self) -> torch.Tensor:
        return (self.loss[0] / self.loss[1]).float()


class SplitMetrics(TrainingMetrics):
    """All metrics of the val or test split: also the recall of each class, accuracy and macro F1 of each data set.

    Valence and arousal: concordance, root mean squared error and sign agreement over the annotated faces, where
    `va_weight`, the weight of their loss, is above 0. Not torchmetrics' `ConcordanceCorrCoef`: it takes variances over
    n - 1 and cannot leave out faces. Nor its calibration error, which keeps every prediction.

    Attributes:
        nll: Sum of the negative log likelihoods of the labels: float64 ().
        gaps: Sums of `calibration_gaps`: float64 (15,).
        agreement: Sums of `agreement_terms`: float64 (2, 8).
    """

    nll: torch.Tensor
    gaps: torch.Tensor
    agreement: torch.Tensor

    def __init__(self, names: Sequence[str], sources: Sequence[str] = (), va_weight: float = 0.0) -> None:
        super().__init__(names, sources)
        self.va_weight = va_weight
        self._add_sums(nll=(), gaps=(BINS,), agreement=(len(DIMENSIONS), len(TERMS)))

    def update(
        self,
        logits: torch.Tensor,
        emotion: torch.Tensor,
        losses: torch.Tensor,
        weights: torch.Tensor,
        source: torch.Tensor | None = None,
        valence_arousal: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        """Count a batch.

        `valence_arousal` is predicted and annotated, float (N, 2) each, NaN where not annotated; the others are those
        of `TrainingMetrics`.
        """
        super().update(logits, emotion, losses, weights, source)
        labelled = emotion >= 0
        logits, emotion = logits[labelled].float(), emotion[labelled]
        self.nll += F.cross_entropy(logits, emotion, reduction="none").to(_WIDE).sum()
        self._add("gaps", calibration_gaps(logits.softmax(dim=1).cpu().numpy(), emotion.cpu().numpy()))
        if valence_arousal is not None:
            self._add("agreement", agreement_terms(*(each.detach().cpu().numpy() for each in valence_arousal)))

    def _add(self, name: str, terms: Float64) -> None:
        sums = getattr(self, name)
        sums += torch.from_numpy(terms.sum(axis=0)).to(sums)

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, float32; classes and data sets without faces have none.

        ``loss`` is the whole training objective over the split, `ConcordanceLoss` over all faces included: the
        coefficient is no mean over batches.
        """
        matrix, faces = self.confusion.sum(dim=0), self.confusion.sum()
        error = expected_calibration_error(self.gaps.cpu().double().numpy(), faces.cpu().double().numpy())
        found = {"loss": self._loss(), **_means(matrix)}
        found |= {"calibration_error": torch.tensor(float(error)), "nll": (self.nll / faces).float()}
        recalls = zip(self.names, matrix.diagonal() / matrix.sum(dim=1), strict=True)
        found |= {f"recall/{name}": recall.float() for name, recall in recalls if not recall.isnan()}
        for name, of_source in zip(self.sources, self.confusion, strict=False):
            if of_source.any():
                found |= {f"{metric}/{name}": _means(of_source)[metric] for metric in _OF_SOURCES}
        if self.va_weight:
            agreement = self._agreement()
            if known := [agreement[name] for name in ("ccc_valence", "ccc_arousal") if name in agreement]:
                found["loss"] = found["loss"] + self.va_weight * (1 - torch.stack(known).mean()).to(found["loss"])
            found |= agreement
        return found

    def _agreement(self) -> dict[str, torch.Tensor]:
        """``ccc_valence`` and so on; what is not defined is left out."""
        sums = self.agreement.cpu().double().numpy()
        pairs = {name: measure(sums) for name, measure in AGREEMENTS.items()}
        values = {f"{name}_{each}": float(pairs[name][i]) for name in pairs for i, each in enumerate(DIMENSIONS)}
        return {name: torch.tensor(value) for name, value in values.items() if not math.isnan(value)}


def _means(counts: torch.Tensor) -> dict[str, torch.Tensor]:
    """Accuracy, macro F1 and balanced accuracy of counts (K, K), rows the true classes.

    A mean over classes is one over those that have faces: torchmetrics counts a class that was only predicted as 0.
    """
    right, true, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    present = true > 0
    scalars = {
        "accuracy": right.sum() / counts.sum(),
        "macro_f1": (2 * right / (true + predicted))[present].mean(),
        "balanced_accuracy": (right / true)[present].mean(),
    }
    return {name: value.float() for name, value in scalars.items()}
