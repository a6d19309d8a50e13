"""Figures of an evaluation as PNG: confusion matrix, reliability diagram, recall per class, coverage, agreement."""

from typing import TYPE_CHECKING, Any

import numpy as np

from emodet.errors import EmodetError
from emodet.evaluation.figures import INK, PAPER, add_title, percent_axis, ramp, styled_figure, to_png
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import COVERAGES, Evaluation
from emodet.evaluation.table import format_score
from emodet.models.agreement import DIMENSIONS
from emodet.palette import class_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHED = (0, (4, 3))


def plot_confusion(evaluation: Evaluation) -> bytes:
    """The confusion matrix: per cell the share of the true class in percent, and below it the number of faces."""
    counts, names = evaluation.confusion, list(evaluation.class_names)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    side = max(3.6, 1.15 + 0.5 * len(names))
    with styled_figure(side, side + 0.25) as figure:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap=ramp(), vmin=0, vmax=1, aspect="equal")
        for (true, predicted), count in np.ndenumerate(counts):
            if not count:
                continue
            share = shares[true, predicted]
            text = "<1" if share < 0.005 else ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": PAPER if share > 0.62 else INK}
            weight = "bold" if true == predicted else "normal"
            axes.text(predicted, true - 0.14, text, weight=weight, fontsize=9.5, **style)
            axes.text(predicted, true + 0.28, f"{count:,}", fontsize=6.5, **style)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        # Lines between the cells.
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(False)
        axes.grid(True, which="minor")
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        add_title(figure, "Predictions for each true class, in percent", evaluation.title)
        return to_png(figure)


def plot_reliability(evaluation: Evaluation) -> bytes:
    """The reliability diagram: accuracy and mean confidence per bin of confidence, and the share of faces below."""
    bins = evaluation.bins
    filled = [each for each in bins if each.faces]
    low, width = [each.low for each in filled], 1 / len(bins)
    with styled_figure(4.6, 5.2) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        accuracy = [each.accuracy for each in filled]
        above.bar(low, accuracy, width, align="edge", edgecolor=PAPER, label="accuracy")
        confidence = [each.confidence for each in filled]
        ends = [at + width for at in low]
        above.hlines(confidence, low, ends, color="C1", linewidth=2.6, label="mean confidence")
        above.plot([0, 1], [0, 1], color=INK, linewidth=1.1, linestyle=_DASHED)
        above.legend(loc="lower right", facecolor=PAPER, frameon=True, framealpha=0.9, edgecolor="none")
        above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        error = evaluation["ece"]
        lines = [f"calibration error {format_score(error)}"]
        if error.low is not None and error.high is not None:
            lines.append(f"95 % interval {error.low:.3f} to {error.high:.3f}")
        if "uncalibrated/ece" in evaluation.scores:
            lines.append(f"uncalibrated: {format_score(evaluation['uncalibrated/ece'])}")
        place: dict[str, Any] = {"transform": above.transAxes, "va": "top", "fontsize": 9, "linespacing": 1.5}
        above.text(0.03, 0.97, "\n".join(lines), bbox=_text_box(), **place)
        shares = [each.faces / evaluation.faces for each in filled]
        below.bar(low, shares, width, align="edge", color="C2", edgecolor=PAPER)
        percent_axis(below.yaxis)
        below.set(xlabel="confidence", ylabel="faces")
        add_title(figure, "Confidence and accuracy", evaluation.title)
        return to_png(figure)


def plot_per_class(evaluation: Evaluation) -> bytes:
    """Recall per class with its 95 % interval; the dashed line is their mean, the balanced accuracy."""
    rows = [(name, evaluation[f"recall/{name}"]) for name in evaluation.class_names]
    with styled_figure(4.8, 1.25 + 0.36 * len(rows)) as figure:
        axes = figure.add_subplot()
        for place, ((_, recall), colour) in enumerate(zip(rows, class_colours(evaluation.class_names), strict=True)):
            if recall.value is None:
                axes.text(0.01, place, "no faces", va="center", color="C2", fontsize=8.5)
                continue
            axes.barh(place, recall.value, 0.62, color=colour, edgecolor="C2", linewidth=0.6)
            end = recall.value
            if recall.low is not None and recall.high is not None:
                end = recall.high
                reach = [[max(0.0, recall.value - recall.low)], [max(0.0, recall.high - recall.value)]]
                axes.errorbar(recall.value, place, xerr=reach, color=INK, linewidth=1.3, capsize=3)
            # A background of its own: the line of the mean runs behind it.
            axes.text(end + 0.02, place, format_score(recall), va="center", fontsize=8.5, bbox=_text_box())
        mean = evaluation["balanced_accuracy"].value
        if mean is not None:
            axes.axvline(mean, color=INK, linewidth=1, linestyle=_DASHED)
        share_axes(axes, [f"{name} ({recall.n:,})" for name, recall in rows])
        add_title(figure, "Recall with 95 % intervals", f"{evaluation.title}; dashed: mean over classes")
        return to_png(figure)


def share_axes(axes: "Axes", names: list[str]) -> None:
    """Horizontal bars of shares: `names` from the top, 0 to 100 %, room for a number behind each bar."""
    axes.grid(False, axis="y")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.2)
    axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "25", "50", "75", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _text_box() -> dict[str, Any]:
    return {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.5}


def plot_coverage(predictions: Predictions, evaluation: Evaluation) -> bytes:
    """Accuracy by coverage: the share of faces, most confident first, that get an answer."""
    order = np.argsort(-predictions.confidence, kind="stable")
    correct = (predictions.predicted == predictions.emotion)[order]
    answered = np.arange(1, len(correct) + 1)
    accuracy = np.cumsum(correct) / answered
    # The first few faces tell nothing: 1 of 1 is 100 %.
    shown = answered >= max(1, round(0.05 * len(correct)))
    with styled_figure(4.6, 3.3) as figure:
        axes = figure.add_subplot()
        axes.plot(answered[shown] / len(correct), accuracy[shown], linewidth=1.8)
        for share in COVERAGES:
            point, at = evaluation[f"accuracy@{share:g}"], evaluation[f"coverage@{share:g}"].value
            if point.value is None or at is None:
                continue
            axes.plot(at, point.value, "o", color="C0", markersize=5)
            axes.annotate(format_score(point), (at, point.value), (7, -11), textcoords="offset points", fontsize=8.5)
        lowest = min(float(accuracy[shown].min()), 0.98)
        axes.set(xlim=(1.06, 0), ylim=(lowest - 0.16 * (1 - lowest), 1 + 0.06 * (1 - lowest)))
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.set(xlabel="coverage, most confident faces first", ylabel="accuracy")
        add_title(figure, "Accuracy by coverage", evaluation.title)
        return to_png(figure)


def plot_valence_arousal(predictions: Predictions, evaluation: Evaluation) -> bytes:
    """Predicted by annotated valence and arousal; the dashed line is where both are equal.

    Raises:
        EmodetError: No face has valence or arousal both predicted and annotated.
    """
    names = evaluation.dimensions
    if predictions.valence_arousal is None or predictions.annotated is None or not names:
        raise EmodetError("no face has valence and arousal both predicted and annotated")
    with styled_figure(2.55 * len(names) + 0.5, 3.7) as figure:
        for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            number = DIMENSIONS.index(name)
            known = np.isfinite(predictions.annotated[:, number])
            _draw_agreement(axes, predictions.annotated[known, number], predictions.valence_arousal[known, number])
            axes.set_title(name)
            lines = [f"{kind.upper()} {format_score(evaluation[f'{kind}_{name}'])}" for kind in ("ccc", "rmse")]
            place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 8.5, "linespacing": 1.4}
            axes.text(0.03, 0.97, "\n".join(lines), bbox=_text_box(), **place)
            axes.set_xlabel("annotated")
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel("predicted")
        add_title(figure, "Valence and arousal", evaluation.title)
        return to_png(figure)


def _draw_agreement(axes: "Axes", annotated: np.ndarray, predicted: np.ndarray) -> None:
    from matplotlib import rcParams

    axes.axhline(0, color=rcParams["grid.color"], linewidth=0.8, zorder=0)
    axes.axvline(0, color=rcParams["grid.color"], linewidth=0.8, zorder=0)
    alpha = min(0.55, 300 / len(annotated))
    axes.scatter(annotated, predicted, 14, "C0", edgecolors="none", alpha=alpha)
    axes.plot([-1, 1], [-1, 1], color=INK, linewidth=1, linestyle=_DASHED)
    axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.grid(False)
