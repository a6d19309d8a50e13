"""Figures of an evaluation and of a run as PNG: matplotlib without pyplot, a display or global state.

The style is `report.mplstyle`. Colours inside `styled_figure`: ``C0`` blue, ``C1`` red, ``C2`` grey, `INK` text,
`PAPER` background. Figures are narrow, so that text stays legible on a phone.
"""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import COVERAGES, Evaluation, Score
from emodet.evaluation.table import format_score
from emodet.files import write_atomically
from emodet.models.agreement import DIMENSIONS
from emodet.palette import class_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


INK, PAPER = "#1b2430", "#ffffff"
_TEXT_BOX: Mapping[str, Any] = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
_DASHED = (0, (4, 3))
_CURVE_COLOURS = {"train": "C2", "val": "C0", "test": "C1"}
_CURVE_LINES = {"macro_f1": "--", "balanced_accuracy": ":", "ccc_arousal": "--"}


@contextmanager
def styled_figure(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure (size in inches). The style ends with the block: draw and call `to_png` inside it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(Path(__file__).with_name("report.mplstyle")):
        yield Figure(figsize=(width, height))


def percent_axis(axis: "Axis") -> None:
    """Show an axis of shares in percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %" if value <= 1.0001 else "")


def to_png(figure: "Figure", title: str = "", subtitle: str = "") -> bytes:
    """Encode a finished figure below a bold title and a smaller line; the same content gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    if title:
        width, height = figure.get_size_inches()
        head, below = textwrap.wrap(title, int(10.5 * width)), textwrap.wrap(subtitle, int(14 * width))
        # Every line beyond the first two adds its height to the figure.
        height += 0.2 * (len(head) + len(below) - 2)
        figure.set_figheight(height)
        # Empty lines keep the room for the subtitle, whose size differs.
        lines = "\n".join([*head, *(" " for _ in below)])
        figure.suptitle(lines, x=0.02, ha="left", fontsize=10.5, weight="bold", linespacing=1.35)
        top = 0.98 - 0.235 * len(head) / height
        figure.text(0.02, top, "\n".join(below), ha="left", va="top", fontsize=8.5, linespacing=1.4)
    out = io.BytesIO()
    # Without matplotlib's name and version in it.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def plot_confusion(evaluation: Evaluation) -> bytes:
    """The confusion matrix: per cell the share of the true class in percent, and below it the number of faces."""
    counts, names = evaluation.confusion, list(evaluation.class_names)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    side = max(3.6, 1.15 + 0.5 * len(names))
    with styled_figure(side, side + 0.25) as figure:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        for (true, predicted), count in np.ndenumerate(counts):
            if not count:
                continue
            share = shares[true, predicted]
            text = "<1" if share < 0.005 else ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": PAPER if share > 0.66 else INK}
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
        return to_png(figure, "Predictions for each true class, in percent", evaluation.title)


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
        above.text(0.03, 0.97, "\n".join(lines), bbox=_TEXT_BOX, **place)
        shares = [each.faces / evaluation.faces for each in filled]
        below.bar(low, shares, width, align="edge", color="C2", edgecolor=PAPER)
        percent_axis(below.yaxis)
        below.set(xlabel="confidence", ylabel="faces")
        return to_png(figure, "Confidence and accuracy", evaluation.title)


def plot_per_class(evaluation: Evaluation) -> bytes:
    """Recall per class with its 95 % interval; the dashed line is their mean, the balanced accuracy."""
    rows = [(name, evaluation[f"recall/{name}"]) for name in evaluation.class_names]
    with styled_figure(4.8, 1.25 + 0.36 * len(rows)) as figure:
        axes = figure.add_subplot()
        for place, ((_, recall), colour) in enumerate(zip(rows, class_colours(evaluation.class_names), strict=True)):
            if recall.value is None:
                axes.text(0.01, place, "no faces", va="center", color="C2", fontsize=8.5)
            else:
                style = {"color": colour, "edgecolor": "C2", "linewidth": 0.6}
                draw_share(axes, place, 0.62, recall, format_score(recall), 8.5, **style)
        mean = evaluation["balanced_accuracy"].value
        if mean is not None:
            axes.axvline(mean, color=INK, linewidth=1, linestyle=_DASHED)
        share_axes(axes, [f"{name} ({recall.n:,})" for name, recall in rows])
        return to_png(figure, "Recall with 95 % intervals", f"{evaluation.title}; dashed: mean over classes")


def draw_share(axes: "Axes", y: float, height: float, share: Score, text: str, fontsize: float, **style: Any) -> None:
    """A horizontal bar of a share with its 95 % interval, and `text` behind it."""
    end = share.value or 0.0
    axes.barh(y, end, height, **style)
    if share.low is not None and share.high is not None:
        reach = [[max(0.0, end - share.low)], [max(0.0, share.high - end)]]
        axes.errorbar(end, y, xerr=reach, color=INK, linewidth=1.3, capsize=min(3, 5 * height))
        end = share.high
    # A background of its own: a line may run behind it.
    axes.text(end + 0.02, y, text, va="center", fontsize=fontsize, bbox=_TEXT_BOX)


def share_axes(axes: "Axes", names: list[str]) -> None:
    """Horizontal bars of shares: `names` from the top, 0 to 100 %, room for a number behind each bar."""
    axes.grid(False, axis="y")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.2)
    axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "25", "50", "75", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


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
        label = ""
        for share in COVERAGES:
            point, at = evaluation[f"accuracy@{share:g}"], evaluation[f"coverage@{share:g}"].value
            if point.value is None or at is None:
                continue
            axes.plot(at, point.value, "o", color="C0", markersize=5)
            if label != (label := format_score(point)):  # labels of one height would overlap
                axes.annotate(label, (at, point.value), (7, -11), textcoords="offset points", fontsize=8.5)
        lowest = min(float(accuracy[shown].min()), 0.98)
        axes.set(xlim=(1.06, 0), ylim=(lowest - 0.16 * (1 - lowest), 1 + 0.06 * (1 - lowest)))
        percent_axis(axes.xaxis)
        percent_axis(axes.yaxis)
        axes.set(xlabel="coverage, most confident faces first", ylabel="accuracy")
        return to_png(figure, "Accuracy by coverage", evaluation.title)


def plot_valence_arousal(predictions: Predictions, evaluation: Evaluation) -> bytes:
    """Predicted by annotated valence and arousal; the dashed line is where both are equal."""
    from matplotlib import rcParams

    names = evaluation.dimensions
    if predictions.valence_arousal is None or predictions.annotated is None or not names:
        raise EmodetError("no face has valence and arousal both predicted and annotated")
    with styled_figure(2.55 * len(names) + 0.5, 3.7) as figure:
        for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
            number = DIMENSIONS.index(name)
            known = np.isfinite(predictions.annotated[:, number])
            annotated, predicted = (
                rows[known, number] for rows in (predictions.annotated, predictions.valence_arousal)
            )
            axes.axhline(0, color=rcParams["grid.color"], linewidth=0.8, zorder=0)
            axes.axvline(0, color=rcParams["grid.color"], linewidth=0.8, zorder=0)
            axes.scatter(annotated, predicted, 14, "C0", edgecolors="none", alpha=min(0.55, 300 / len(annotated)))
            axes.plot([-1, 1], [-1, 1], color=INK, linewidth=1, linestyle=_DASHED)
            axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            axes.grid(False)
            axes.set_title(name)
            lines = [f"{kind.upper()} {format_score(evaluation[f'{kind}_{name}'])}" for kind in ("ccc", "rmse")]
            place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 8.5, "linespacing": 1.4}
            axes.text(0.03, 0.97, "\n".join(lines), bbox=_TEXT_BOX, **place)
            axes.set_xlabel("annotated")
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel("predicted")
        return to_png(figure, "Valence and arousal", evaluation.title)


def read_curves(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[float, float]]:
    """Column to number of epochs done to value, of `RunFolder.metrics`; only columns with values."""
    curves: dict[str, dict[float, float]] = {}
    epoch = 0.0
    for row in rows:
        with suppress(ValueError):  # a number that a kill cut short
            epoch = float(row.get("epoch") or epoch)  # the learning rate's rows have none
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    # Of an epoch that is there twice, after a resume, the later row counts.
                    curves.setdefault(name, {})[epoch + 1] = float(value)
    return curves


def plot_curves(rows: Iterable[Mapping[str, str]], png: Path) -> None:
    """Draw a run's loss, scores and learning rate, of `RunFolder.metrics`, as a PNG file.

    Columns are found by name: ``*loss*``; ``*accuracy``, ``*macro_f1``; ``*/ccc_*``; ``lr-*``. What is missing is left
    out. The best validation value is marked. Gaps are values that were not finite.
    """
    from matplotlib.ticker import MaxNLocator

    curves = read_curves(rows)
    rates = {name: curve for name, curve in curves.items() if name.startswith("lr")}
    panels = {
        "Loss": {name: curve for name, curve in curves.items() if "loss" in name},
        "Scores": {name: curve for name, curve in curves.items() if name.endswith(("accuracy", "macro_f1"))},
        "Concordance": {name: curve for name, curve in curves.items() if "/ccc_" in name},
        # Parameter groups (with and without weight decay) mostly share their rate: one line for all that do.
        "Learning rate": {name: rates[name] for name in {tuple(rates[name].values()): name for name in rates}.values()},
    }
    if not panels["Loss"] and not panels["Scores"]:
        raise EmodetError(
            f"{png}: metrics.csv has no loss and no accuracy to draw (columns with values: "
            f"{', '.join(curves) or 'none'})"
        )
    panels = {title: drawn for title, drawn in panels.items() if drawn}
    heights = [0.45 if title == "Learning rate" else 1.0 for title in panels]
    with styled_figure(5.2, 0.5 + 2.5 * sum(heights)) as figure:
        all_axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (title, drawn) in zip(all_axes, panels.items(), strict=True):
            for name, curve in drawn.items():
                _draw_curve(axes, name, curve)
            axes.set_title(title)
            axes.margins(y=0.12)
            if title == "Scores":
                percent_axis(axes.yaxis)
            if title == "Learning rate":
                axes.set_ylim(bottom=0)
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            if len(drawn) > 1 or title != "Learning rate":
                axes.legend(loc="best")
        all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        all_axes[-1].set_xlabel("epoch")
        write_atomically(png, to_png(figure))


def _draw_curve(axes: "Axes", name: str, curve: Mapping[float, float]) -> None:
    split, _, metric = name.partition("/")
    finite = [value for value in curve.values() if math.isfinite(value)]
    label = name
    if split == "val" and finite:
        label += f", best {(min if 'loss' in name else max)(finite):.3f}"
    marker = "o" if len(finite) == 1 else ""
    (line,) = axes.plot(list(curve), list(curve.values()), marker=marker, markersize=4, label=label)
    line.set(color=_CURVE_COLOURS.get(split, INK), linestyle=_CURVE_LINES.get(metric, "-"))
