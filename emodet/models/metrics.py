"""Metrics of a run, with torchmetrics. Metrics of a split are the scores of the report, see `emodet.evaluation.scores`.

They do not depend on the distribution of faces to batches and processes. Metrics of classes ignore faces without an
emotion (-1).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.models.agreement import agreement_names, ratio

_WIDE = torch.float32 if torch.backends.mps.is_available() else torch.float64  # Apple's GPUs have no float64


def lower_is_better(metric: str) -> bool:
    """Return whether a lower value is better: the name ends in loss, nll or error, or the metric is an RMSE."""
    return metric.endswith(("loss", "nll", "error")) or metric.rpartition("/")[2].startswith("rmse")


def monitored_names(names: Sequence[str], sources: Sequence[str] = (), *, valence_arousal: bool = False) -> list[str]:
    """Return the names of metrics that validation can log, for these classes and data sets of a mix."""
    means = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll")
    of_sources = (f"{metric}/{source}" for source in sources for metric in ("accuracy", "macro_f1"))
    of_dimensions = agreement_names() if valence_arousal else []
    return [f"val/{name}" for name in (*means, *(f"recall/{name}" for name in names), *of_sources, *of_dimensions)]


class TrainingMetrics(Metric):
    """Mean loss, accuracy and macro F1 over K classes, from sums, so that an update does not wait for the GPU."""

    full_state_update = False
    confusion: torch.Tensor  # faces by emotion and prediction: (K, K)
    loss: torch.Tensor  # sum of the losses, and of the faces: (2,)

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name, shape in {"confusion": (classes, classes), "loss": (2,)}.items():
            self.add_state(name, torch.zeros(shape, dtype=_WIDE), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, emotion: torch.Tensor, loss: torch.Tensor) -> None:
        """Add a batch: logits (N, K), emotion (N,), and its mean loss."""
        place = emotion.clamp_min(0) * logits.shape[1] + logits.argmax(dim=1)
        self.confusion.view(-1).index_add_(0, place, (emotion >= 0).to(_WIDE))
        self.loss += len(logits) * torch.stack([loss, torch.ones_like(loss)]).to(_WIDE)

    def compute(self) -> dict[str, float]:
        """Return defined scalars by name."""
        counts, loss = (each.cpu().double().numpy() for each in (self.confusion, self.loss))
        right, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
        present = true > 0
        f1 = ratio(2 * right[present], (true + predicted)[present])
        means = {"loss": (loss[0], loss[1]), "accuracy": (right.sum(), true.sum()), "macro_f1": (f1.sum(), len(f1))}
        return {name: float(above / below) for name, (above, below) in means.items() if below > 0}


class FaceOutputs(Metric):
    """Collects predictions and annotations of all faces of a split, over all processes.

    Rows are those of `Batch`, ``logits``, (N, K), and with a valence/arousal head ``predicted``, (N, 2).
    """

    full_state_update = False

    def __init__(self, has_va_head: bool) -> None:
        super().__init__()
        rows = ("index", "emotion", "source", "target", "logits", "valence_arousal")
        self.rows = (*rows, "predicted") if has_va_head else rows
        for name in self.rows:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, rows: Mapping[str, Any]) -> None:
        """Add the rows of a batch, even of an empty one, so that all processes have the same states to gather."""
        for name in self.rows:
            getattr(self, name).append(rows[name])

    def compute(self) -> dict[str, torch.Tensor]:
        """Return all rows, in the order of ``index``."""
        found = {name: dim_zero_cat(getattr(self, name)) for name in self.rows}
        order = found["index"].argsort()
        return {name: rows[order] for name, rows in found.items()}


def split_scores(
    outputs: Mapping[str, torch.Tensor], class_names: Sequence[str], source_names: Sequence[str], temperature: float
) -> dict[str, float]:
    """Return the defined scores of `FaceOutputs` that can be monitored, by name."""
    labelled = outputs["emotion"] >= 0
    rows: dict[str, Any] = {name: each[labelled].cpu().numpy() for name, each in outputs.items()}
    if not len(rows["index"]):
        return {}
    has_va_head = "predicted" in rows
    names = np.array([*source_names, ""])  # faces of further data sets count in the whole
    predictions = Predictions(
        keys=rows["index"].tolist(),
        emotion=rows["emotion"],
        probabilities=softmax(rows["logits"], temperature),
        class_names=class_names,
        split="val",
        data="val",
        sources=names[rows["source"].clip(max=len(source_names))].tolist() if source_names else None,
        valence_arousal=rows["predicted"] if has_va_head else None,
        annotated=rows["valence_arousal"] if has_va_head else None,
    )
    scores = dict(evaluate_predictions(predictions, resamples=0).scores)
    scores["calibration_error"] = scores["ece"]
    known = monitored_names(class_names, source_names, valence_arousal=has_va_head)
    return {name: each.value for name, each in scores.items() if f"val/{name}" in known and each.value is not None}
