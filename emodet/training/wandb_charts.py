"""An evaluation as charts of Weights & Biases' own kinds.

Charts of other kinds would have to be defined in the service first, over the network.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation
from emodet.models.agreement import DIMENSIONS

if TYPE_CHECKING:
    from wandb.plot.custom_chart import CustomChart

__all__ = ["errors_table", "evaluation_charts"]


def evaluation_charts(evaluation: Evaluation, predictions: Predictions) -> dict[str, Callable[[], Any]]:
    """Functions that make the charts, by the charts' names."""

    def title(name: str) -> str:
        return f"{name.replace('_', ' ')}: {evaluation.data}, {evaluation.split}"

    charts: dict[str, Callable[[], Any]] = {
        "confusion_matrix": partial(_confusion_matrix, predictions, title("confusion_matrix")),
        "reliability": partial(_reliability, evaluation, title("reliability")),
        "faces_by_confidence": partial(_faces_by_confidence, evaluation, title("faces_by_confidence")),
        "recall_by_class": partial(_recall_by_class, evaluation, title("recall_by_class")),
    }
    for name in evaluation.dimensions:
        charts[name] = partial(_valence_arousal, predictions, name, title(name))
    return charts


def errors_table(predictions: Predictions, worst: Sequence[int], crops: Sequence[npt.NDArray[np.uint8]] | None) -> Any:
    """A table of errors.

    Args:
        predictions: The predictions.
        worst: Positions of the errors in them.
        crops: uint8 (H, W, 3), RGB, one for each error; None leaves the column out.
    """
    import wandb

    names = predictions.class_names
    rows: list[list[Any]] = []
    for place, index in enumerate(worst):
        row = [
            predictions.keys[index],
            names[predictions.emotion[index]],
            names[predictions.predicted[index]],
            float(predictions.confidence[index]),
            *(float(share) for share in predictions.probabilities[index]),
        ]
        rows.append(row if crops is None else [wandb.Image(crops[place]), *row])
    columns = [] if crops is None else ["face"]
    columns += ["key", "emotion", "predicted", "confidence", *(f"p_{name}" for name in names)]
    return wandb.Table(list[str | int](columns), rows)


def _confusion_matrix(predictions: Predictions, title: str) -> "CustomChart":
    """Counts of answers to each true class."""
    import wandb

    return wandb.plot.confusion_matrix(
        y_true=predictions.emotion.tolist(),
        preds=predictions.predicted.tolist(),
        class_names=list(predictions.class_names),
        title=title,
        split_table=True,
    )


def _reliability(evaluation: Evaluation, title: str) -> "CustomChart":
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


def _faces_by_confidence(evaluation: Evaluation, title: str) -> "CustomChart":
    """How many faces the bins hold; the table also has their confidence and accuracy."""
    import wandb

    rows = [
        [f"{each.low:.2f} to {each.high:.2f}", each.faces, each.confidence, each.accuracy] for each in evaluation.bins
    ]
    table = wandb.Table(["confidence", "faces", "mean confidence", "accuracy"], rows)
    return wandb.plot.bar(table, "confidence", "faces", title, split_table=True)


def _recall_by_class(evaluation: Evaluation, title: str) -> "CustomChart":
    """Recall; the table also has its interval, precision and F1."""
    import wandb

    rows = []
    for name in evaluation.class_names:
        recall, precision, f1 = (evaluation[f"{metric}/{name}"] for metric in ("recall", "precision", "f1"))
        rows.append([name, recall.value, recall.low, recall.high, precision.value, f1.value, recall.n])
    table = wandb.Table(["emotion", "recall", "low", "high", "precision", "f1", "faces"], rows)
    return wandb.plot.bar(table, "emotion", "recall", title, split_table=True)


def _valence_arousal(predictions: Predictions, dimension: str, title: str) -> "CustomChart":
    """Predicted by annotated ``valence`` or ``arousal``, of the faces that have it annotated."""
    import wandb

    assert predictions.valence_arousal is not None and predictions.annotated is not None  # noqa: PT018
    number = DIMENSIONS.index(dimension)
    pairs = np.stack([predictions.annotated[:, number], predictions.valence_arousal[:, number]], axis=1)
    table = wandb.Table(["annotated", "predicted"], pairs[np.isfinite(pairs[:, 0])].tolist())
    return wandb.plot.scatter(table, "annotated", "predicted", title, split_table=True)
