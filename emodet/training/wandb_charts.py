"""An evaluation as charts of Weights & Biases' own.

They are of kinds that the service knows; others would have to be defined there first, over the network. The tables that
they are drawn from stand in a section of their own.
"""

from typing import TYPE_CHECKING

import numpy as np

from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation
from emodet.models.agreement import DIMENSIONS

if TYPE_CHECKING:
    from wandb.plot.custom_chart import CustomChart

__all__ = ["confusion_matrix", "faces_by_confidence", "recall_by_class", "reliability", "valence_arousal"]


def confusion_matrix(predictions: Predictions, title: str) -> "CustomChart":
    """Counts of answers to each true class."""
    import wandb

    return wandb.plot.confusion_matrix(
        y_true=predictions.emotion.tolist(),
        preds=predictions.predicted.tolist(),
        class_names=list(predictions.class_names),
        title=title,
        split_table=True,
    )


def reliability(evaluation: Evaluation, title: str) -> "CustomChart":
    """Accuracy by mean confidence of each bin that has faces, beside the diagonal."""
    import wandb

    filled = [(each.confidence, each.accuracy) for each in evaluation.bins if each.accuracy is not None]
    confidence = [pair[0] for pair in filled]
    return wandb.plot.line_series(
        xs=confidence,
        ys=[[pair[1] for pair in filled], confidence],
        keys=["accuracy", "perfectly calibrated"],
        title=title,
        xname="confidence",
        split_table=True,
    )


def faces_by_confidence(evaluation: Evaluation, title: str) -> "CustomChart":
    """How many faces the bins hold; the table also has their confidence and accuracy."""
    import wandb

    rows = [
        [f"{each.low:.2f} to {each.high:.2f}", each.faces, each.confidence, each.accuracy] for each in evaluation.bins
    ]
    table = wandb.Table(["confidence", "faces", "mean confidence", "accuracy"], rows)
    return wandb.plot.bar(table, "confidence", "faces", title, split_table=True)


def recall_by_class(evaluation: Evaluation, title: str) -> "CustomChart":
    """Recall; the table also has its interval, precision and F1."""
    import wandb

    rows = []
    for name in evaluation.class_names:
        recall, precision, f1 = (evaluation[f"{metric}/{name}"] for metric in ("recall", "precision", "f1"))
        rows.append([name, recall.value, recall.low, recall.high, precision.value, f1.value, recall.n])
    table = wandb.Table(["emotion", "recall", "low", "high", "precision", "f1", "faces"], rows)
    return wandb.plot.bar(table, "emotion", "recall", title, split_table=True)


def valence_arousal(predictions: Predictions, dimension: str, title: str) -> "CustomChart":
    """Predicted by annotated ``valence`` or ``arousal``, of the faces that have it annotated."""
    import wandb

    assert predictions.valence_arousal is not None and predictions.annotated is not None  # noqa: PT018
    number = DIMENSIONS.index(dimension)
    pairs = np.stack([predictions.annotated[:, number], predictions.valence_arousal[:, number]], axis=1)
    table = wandb.Table(["annotated", "predicted"], pairs[np.isfinite(pairs[:, 0])].tolist())
    return wandb.plot.scatter(table, "annotated", "predicted", title, split_table=True)
