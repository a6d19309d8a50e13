"""Pictures of an evaluation: confusion matrix, reliability diagram, recall per class, coverage."""

import numpy as np

from emodet.errors import EmodetError
from emodet.evaluation.figures import DARK, LIGHT, as_png, house_figure, over_figure
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.statistics import Evaluation
from emodet.models.agreement import DIMENSIONS
from emodet.palette import class_colours

__all__ = ["plot_confusion", "plot_coverage", "plot_per_class", "plot_reliability", "plot_valence_arousal"]

_SINGLE_FACES = 600  # above that points would cover each other, and fields are counted instead


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.data}, {evaluation.split} ({evaluation.faces:,} faces)"


def plot_confusion(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """The confusion matrix as PNG: per cell the share of the true class in percent, and below it the faces."""
    from matplotlib.colors import LinearSegmentedColormap

    theme = DARK if dark else LIGHT
    counts = evaluation.confusion
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    classes = len(counts)
    side = max(3.6, 1.15 + 0.5 * classes)
    with house_figure(side, side + 0.25, theme) as figure:
        axes = figure.add_subplot()
        axes.grid(False)
        ramp = LinearSegmentedColormap.from_list("share", theme.ramp)
        axes.imshow(shares, cmap=ramp, vmin=0, vmax=1, aspect="equal")
        for true in range(classes):
            for answer in range(classes):
                if not counts[true, answer]:
                    continue
                share = shares[true, answer]
                turned = share > 0.5  # the ramp passes from the paper's side to the ink's
                colour = theme.paper if turned else theme.ink
                weight = "bold" if true == answer else "normal"
                percent = "<1" if share < 0.005 else ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
                axes.text(
                    answer, true - 0.14, percent, ha="center", va="center", color=colour, weight=weight, fontsize=9.5
                )
                quiet = theme.paper if turned else theme.quiet if share < 0.15 else theme.ink
                axes.text(
                    answer,
                    true + 0.28,
                    f"{counts[true, answer]:,}",
                    ha="center",
                    va="center",
                    color=quiet,
                    fontsize=6.5,
                )
        rows = list(evaluation.class_names)
        axes.set_xticks(range(classes), rows, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(classes), rows)
        # Lines between the cells.
        axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.grid(True, which="minor", color=theme.grid, linewidth=0.8)
        axes.tick_params(which="both", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("answer")
        axes.set_ylabel("true class")
        over_figure(figure, "Answers to each true class, in percent", _title(evaluation))
        return as_png(figure)


def plot_reliability(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """The reliability diagram as PNG: accuracy by confidence, with the gap to the diagonal, and how many faces."""
    theme = DARK if dark else LIGHT
    bins = evaluation.bins
    with house_figure(4.6, 5.2, theme) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        labelled = False
        for each in bins:
            if each.accuracy is None or each.confidence is None:
                continue
            above.bar(
                each.low,
                each.accuracy,
                each.high - each.low,
                align="edge",
                color=theme.blue,
                edgecolor=theme.paper,
                label="" if labelled else "accuracy",
            )
            above.plot(
                [each.low + 0.006, each.high - 0.006],
                [each.confidence] * 2,
                color=theme.red,
                linewidth=2.6,
                solid_capstyle="butt",
                label="" if labelled else "mean confidence",
            )
            labelled = True
        above.plot([0, 1], [0, 1], color=theme.ink, linewidth=1.1, linestyle=(0, (4, 3)))
        above.legend(loc="lower right", facecolor=theme.paper, frameon=True, framealpha=0.9, edgecolor="none")
        above.set_xlim(0, 1)
        above.set_ylim(0, 1)
        above.set_ylabel("accuracy")
        error = evaluation.calibrated.ece
        text = f"calibration error {_three(error.value)}"
        if error.low is not None and error.high is not None:
            text += f"\n95 % interval {error.low:.3f} to {error.high:.3f}"
        if evaluation.uncalibrated is not None:
            text += f"\nat temperature 1: {_three(evaluation.uncalibrated.ece.value)}"
        above.text(0.03, 0.97, text, transform=above.transAxes, va="top", fontsize=9, linespacing=1.5)
        below.bar(
            [each.low for each in bins],
            [each.faces / evaluation.faces for each in bins],
            1 / len(bins),
            align="edge",
            color=theme.quiet,
            edgecolor=theme.paper,
        )
        below.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        below.set_xlabel("confidence")
        below.set_ylabel("faces")
        over_figure(figure, "Confidence and accuracy", _title(evaluation))
        return as_png(figure)


def _three(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def plot_per_class(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """Recall per class with its 95 % interval, as PNG; the line is their mean (the balanced accuracy)."""
    theme = DARK if dark else LIGHT
    rows = evaluation.per_class
    with house_figure(4.8, 1.25 + 0.36 * len(rows), theme) as figure:
        axes = figure.add_subplot()
        axes.grid(False, axis="y")
        for place, (row, colour) in enumerate(zip(rows, class_colours(evaluation.class_names), strict=True)):
            recall = row.recall
            if recall.value is None:
                axes.text(0.01, place, "no faces", va="center", color=theme.quiet, fontsize=8.5)
                continue
            axes.barh(place, recall.value, 0.62, color=colour, edgecolor=theme.quiet, linewidth=0.6)
            end = recall.value
            if recall.low is not None and recall.high is not None:
                reach = [[recall.value - recall.low], [recall.high - recall.value]]
                axes.errorbar(recall.value, place, xerr=np.maximum(reach, 0), color=theme.ink, linewidth=1.3, capsize=3)
                end = recall.high
            axes.text(end + 0.02, place, f"{100 * recall.value:.1f} %", va="center", fontsize=8.5)
        mean = evaluation.balanced_accuracy.value
        if mean is not None:
            axes.axvline(mean, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), [f"{row.name} ({row.faces:,})" for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 1.17)
        axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "25", "50", "75", "100 %"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        over_figure(figure, "Recall with 95 % intervals", f"{_title(evaluation)}; dashed: mean over classes")
        return as_png(figure)


def plot_coverage(predictions: Predictions, evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """Accuracy by the share of faces that get an answer, the surest first, as PNG."""
    theme = DARK if dark else LIGHT
    order = np.argsort(-predictions.confidence, kind="stable")
    right = (predictions.predicted == predictions.emotion)[order]
    answered = np.arange(1, len(right) + 1)
    accuracy = np.cumsum(right) / answered
    # The first few faces say nothing: 1 of 1 is 100 %.
    shown = answered >= max(1, round(0.05 * len(right)))
    with house_figure(4.6, 3.3, theme) as figure:
        axes = figure.add_subplot()
        axes.plot(answered[shown] / len(right), accuracy[shown], color=theme.blue, linewidth=1.8)
        for point in evaluation.coverage:
            if point.accuracy.value is None:
                continue
            axes.plot(point.coverage, point.accuracy.value, "o", color=theme.blue, markersize=5)
            axes.annotate(
                f"{100 * point.accuracy.value:.1f} %",
                (point.coverage, point.accuracy.value),
                xytext=(7, -11),
                textcoords="offset points",
                ha="left",
                fontsize=8.5,
            )
        axes.set_xlim(1.06, 0)
        lowest = min(float(accuracy[shown].min()), 0.98)
        axes.set_ylim(lowest - 0.16 * (1 - lowest), 1 + 0.06 * (1 - lowest))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %" if value <= 1.0001 else "")
        axes.set_xlabel("faces that get an answer, the surest first")
        axes.set_ylabel("accuracy on them")
        over_figure(figure, "Answering only when sure", _title(evaluation))
        return as_png(figure)


def plot_valence_arousal(predictions: Predictions, evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """Predicted valence and arousal by the annotated ones, as PNG; the dashed line is where both are the same.

    Few faces are points; many are counted in fields, the darker the more.

    Raises:
        EmodetError: There is nothing to draw: `Evaluation.per_dimension` is empty.
    """
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    if predictions.valence_arousal is None or predictions.annotated is None or not evaluation.per_dimension:
        raise EmodetError("no face has valence and arousal both predicted and annotated")
    theme = DARK if dark else LIGHT
    rows = evaluation.per_dimension
    with house_figure(2.55 * len(rows) + 0.5, 3.7, theme) as figure:
        for axes, row in zip(figure.subplots(1, len(rows), sharey=True, squeeze=False)[0], rows, strict=True):
            number = DIMENSIONS.index(row.name)
            known = np.isfinite(predictions.annotated[:, number])
            true, said = predictions.annotated[known, number], predictions.valence_arousal[known, number]
            axes.axhline(0, color=theme.grid, linewidth=0.8, zorder=0)
            axes.axvline(0, color=theme.grid, linewidth=0.8, zorder=0)
            if row.faces <= _SINGLE_FACES:
                axes.scatter(true, said, 14, theme.blue, edgecolors="none", alpha=0.55)
            else:
                ramp = LinearSegmentedColormap.from_list("faces", theme.ramp[1:])
                edges = np.linspace(-1, 1, 41)
                axes.hist2d(true, said, bins=[edges, edges], cmap=ramp, norm=LogNorm(vmin=1), cmin=1)
            axes.plot([-1, 1], [-1, 1], color=theme.ink, linewidth=1, linestyle=(0, (4, 3)))
            axes.set_xlim(-1.04, 1.04)
            axes.set_ylim(-1.04, 1.04)
            axes.set_aspect("equal")
            axes.grid(False)
            axes.set_xticks([-1, 0, 1])
            axes.set_yticks([-1, 0, 1])
            axes.set_title(row.name)
            figures = f"CCC {_three(row.ccc.value)}\nRMSE {_three(row.rmse.value)}"
            paper = {"facecolor": theme.paper, "edgecolor": "none", "alpha": 0.8, "pad": 2}
            at = {"transform": axes.transAxes, "va": "top", "fontsize": 8.5, "linespacing": 1.4}
            axes.text(0.03, 0.97, figures, bbox=paper, **at)
            axes.set_xlabel("annotated")
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel("predicted")
        over_figure(figure, "Valence and arousal", _title(evaluation))
        return as_png(figure)
