"""Metrics of a run, as torchmetrics. Intervals and reports are in `emodet.evaluation`.

All of them follow from sums over faces, kept in float64, so a figure does not depend on how faces are shared out to
batches and processes. Faces without an emotion (-1) count in no metric of the classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torchmetrics import Metric

from emodet.arrays import Float64
from emodet.evaluation.calibration import BINS, calibration_gaps, expected_calibration_error
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, TERMS, agreement_names, agreement_terms, ratio

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


class SplitMetrics(Metric):
    """Metrics of a split: also the recall of each class, accuracy and macro F1 of each data set of a mix.

    Valence and arousal: concordance, root mean squared error and sign agreement over the annotated faces. Not
    torchmetrics' `ConcordanceCorrCoef`: it takes variances over n - 1 and cannot leave out faces. Nor its calibration
    error, which keeps every prediction.

    Args:
        names: The classes.
        sources: The data sets of a mix, in the order of `Batch`'s ``source``.
        va_weight: Weight of the loss on valence and arousal; at 0 they are not measured.
        brief: Mean loss, accuracy and macro F1 alone, as in training: counting a batch does not wait for the GPU.
    """

    full_state_update = False
    confusion: torch.Tensor  # faces by data set, emotion and prediction, last of other data sets: (S + 1, K, K)
    loss: torch.Tensor  # sums of weighted losses and of their weights: (2,)
    nll: torch.Tensor  # sum of the negative log likelihoods of the labels: ()
    gaps: torch.Tensor  # sums of `calibration_gaps`: (15,)
    agreement: torch.Tensor  # sums of `agreement_terms`: (2, 8)

    def __init__(
        self, names: Sequence[str], sources: Sequence[str] = (), va_weight: float = 0.0, *, brief: bool = False
    ) -> None:
        super().__init__()
        self.names, self.sources, self.va_weight, self.brief = list(names), list(sources), va_weight, brief
        shapes: dict[str, tuple[int, ...]] = {"confusion": (len(sources) + 1, len(names), len(names)), "loss": (2,)}
        if not brief:
            shapes |= {"nll": (), "gaps": (BINS,), "agreement": (len(DIMENSIONS), len(TERMS))}
        self.counted = tuple(shapes)
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=_WIDE), dist_reduce_fx="sum")

    def update(
        self,
        logits: torch.Tensor,
        emotion: torch.Tensor,
        losses: torch.Tensor,
        weights: torch.Tensor,
        source: torch.Tensor | None = None,
        valence_arousal: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        """Count a batch: logits (N, K), emotions (N,), -1 for none, and losses, multiplied by their weights.

        `source` (N,) is from the number of `sources` on for others; None for a single data set. Valence and arousal are
        predicted and annotated, (N, 2) each, NaN where not annotated.
        """
        place = emotion.clamp_min(0) * len(self.names) + logits.argmax(dim=1)
        if source is not None:
            place = place + source.clamp_max(len(self.sources)) * len(self.names) ** 2
        self.confusion.view(-1).index_add_(0, place, (emotion >= 0).to(_WIDE))
        self.loss += torch.stack([losses.to(_WIDE).sum(), weights.to(_WIDE).sum()])
        if self.brief:
            return
        labelled = emotion >= 0
        logits, emotion = logits[labelled].float(), emotion[labelled]
        self.nll += F.cross_entropy(logits, emotion, reduction="none").to(_WIDE).sum()
        terms = {"gaps": calibration_gaps(logits.softmax(dim=1).cpu().numpy(), emotion.cpu().numpy())}
        if valence_arousal is not None:
            terms["agreement"] = agreement_terms(*(each.detach().cpu().numpy() for each in valence_arousal))
        for name, of_faces in terms.items():
            getattr(self, name).add_(torch.from_numpy(of_faces.sum(axis=0)).to(self.loss))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, float32; classes and data sets without faces have none, nor has undefined agreement.

        ``loss`` is the whole training objective over the split, `ConcordanceLoss` over all faces included: the
        coefficient is no mean over batches.
        """
        sums = {name: getattr(self, name).cpu().double().numpy() for name in self.counted}
        matrix, faces, loss = sums["confusion"].sum(axis=0), sums["confusion"].sum(), ratio(*sums["loss"])
        means, parts = _means(matrix), dict[str, Float64]()
        if self.brief:
            means = {name: means[name] for name in _OF_SOURCES}
        else:
            means |= {"calibration_error": expected_calibration_error(sums["gaps"], faces)}
            means |= {"nll": ratio(sums["nll"], faces)}
            recalls = ratio(matrix.diagonal(), matrix.sum(axis=1))
            parts |= {f"recall/{name}": recall for name, recall in zip(self.names, recalls, strict=True)}
            for source, of_source in zip(self.sources, map(_means, sums["confusion"]), strict=False):
                parts |= {f"{metric}/{source}": of_source[metric] for metric in _OF_SOURCES}
        if self.va_weight:
            measured = [measure(sums["agreement"]) for measure in AGREEMENTS.values()]
            parts |= zip(agreement_names(), np.concatenate(measured), strict=True)
            known = [parts[f"ccc_{name}"] for name in DIMENSIONS if not np.isnan(parts[f"ccc_{name}"])]
            loss = loss + self.va_weight * (1 - np.mean(known)) if known else loss
        found = {"loss": loss, **means} | {name: value for name, value in parts.items() if not np.isnan(value)}
        return {
            name: torch.tensor(value, dtype=torch.float32, device=self.loss.device) for name, value in found.items()
        }


def _means(counts: Float64) -> dict[str, Float64]:
    """Accuracy, macro F1 and balanced accuracy of counts (K, K), rows the true classes.

    A mean over classes is one over those that have faces: torchmetrics counts a class that was only predicted as 0.
    """
    right, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    present = true > 0
    of_classes = {"macro_f1": ratio(2 * right, true + predicted), "balanced_accuracy": ratio(right, true)}
    means = {name: ratio(values[present].sum(), present.sum()) for name, values in of_classes.items()}
    return {"accuracy": ratio(right.sum(), counts.sum()), **means}
