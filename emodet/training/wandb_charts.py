"""An evaluation as charts of Weights & Biases' own kinds.

Charts of other kinds would have to be defined in the service first, over the network.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation
from emodet.models.agreement import DIMENSIONS

__all__ = ["errors_table", "evaluation_charts"]


def evaluation_charts(evaluation: Evaluation, predictions: Predictions) -> dict[str, Callable[[], Any]]:
    """Functions that make the charts, by the charts' names."""
    from wandb import Table, plot

    def title(name: str) -> str:
        return f"{name.replace('_', ' ')}: {evaluation.data}, {evaluation.split}"

    def reliability() -> Any:
        filled = [each for each in evaluation.bins if each.accuracy is not None]
        confidence = [each.confidence for each in filled]
        return plot.line_series(
            xs=confidence,
            ys=[[each.accuracy for each in filled], confidence],
            keys=["accuracy", "perfectly calibrated"],
            title=title("reliability"),
            xname="confidence",
            split_table=True,
        )

    def bars(name: str, columns: list[str | int], rows: list[list[Any]]) -> Any:
        """A bar for each row: the first column names it, the second is its height, the others are in the table."""
        return plot.bar(Table(columns, rows), str(columns[0]), str(columns[1]), title(name), split_table=True)

    def scatter(name: str) -> Any:
        assert predictions.valence_arousal is not None and predictions.annotated is not None  # noqa: PT018
        number = DIMENSIONS.index(name)
        pairs = np.stack([predictions.annotated[:, number], predictions.valence_arousal[:, number]], axis=1)
        table = Table(["annotated", "predicted"], pairs[np.isfinite(pairs[:, 0])].tolist())
        return plot.scatter(table, "annotated", "predicted", title(name), split_table=True)

    def recall_of(name: str) -> list[Any]:
        recall, precision, f1 = (evaluation[f"{metric}/{name}"] for metric in ("recall", "precision", "f1"))
        return [name, recall.value, recall.low, recall.high, precision.value, f1.value, recall.n]

    bins = [
        [f"{each.low:.2f} to {each.high:.2f}", each.faces, each.confidence, each.accuracy] for each in evaluation.bins
    ]
    recalls = [recall_of(name) for name in evaluation.class_names]
    columns: list[str | int] = ["emotion", "recall", "low", "high", "precision", "f1", "faces"]
    return {
        "confusion_matrix": lambda: plot.confusion_matrix(
            y_true=predictions.emotion.tolist(),
            preds=predictions.predicted.tolist(),
            class_names=list(predictions.class_names),
            title=title("confusion_matrix"),
            split_table=True,
        ),
        "reliability": reliability,
        "faces_by_confidence": lambda: bars(
            "faces_by_confidence", ["confidence", "faces", "mean confidence", "accuracy"], bins
        ),
        "recall_by_class": lambda: bars("recall_by_class", columns, recalls),
        **{name: partial(scatter, name) for name in evaluation.dimensions},
    }


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
