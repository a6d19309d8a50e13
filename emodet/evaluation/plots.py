"""Pictures: confusion matrix, reliability diagram, recall per class, coverage, training curves, contact sheets.

matplotlib is imported inside the functions and used without pyplot, so nothing here touches a global state or needs a
screen. Figures are narrow on purpose: their letters stay readable on a phone.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.statistics import Evaluation
from emodet.palette import class_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "contact_sheet",
    "plot_confusion",
    "plot_coverage",
    "plot_curves",
    "plot_per_class",
    "plot_reliability",
]

UInt8 = npt.NDArray[np.uint8]

_DPI = 160


@dataclass(frozen=True, slots=True)
class _Theme:
    """Colours of paper, ink and what stands between; the page's style sheet has the same ones."""

    paper: str
    ink: str
    quiet: str
    grid: str
    blue: str
    red: str
    ramp: tuple[str, ...]


_LIGHT = _Theme(
    paper="#FFFFFF",
    ink="#1B2430",
    quiet="#5A6676",
    grid="#E3E7EC",
    blue="#2B6CB0",
    red="#C2413B",
    ramp=("#FFFFFF", "#DCE8F5", "#9DC1E4", "#4C8CC9", "#1F5A9A", "#123A68"),
)
_DARK = _Theme(
    paper="#171C24",
    ink="#E8ECF1",
    quiet="#A3AEBC",
    grid="#2C3440",
    blue="#6CB0EE",
    red="#F0857D",
    ramp=("#171C24", "#1D3550", "#255583", "#3A7FBD", "#6CB0EE", "#B9DCFA"),
)


@contextmanager
def _figure(width: float, height: float, theme: _Theme) -> Iterator["Figure"]:
    """An empty figure (inches) in the house style; the style ends with the block, so draw and encode inside it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "svg.fonttype": "none",
    }
    with rc_context(style):
        yield Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    # Without the library's name and version in it, the same figures give the same bytes.
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.data}, {evaluation.split} ({evaluation.faces:,} faces)"


def plot_confusion(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """The confusion matrix as PNG: per cell the share of the true class in percent, and below it the faces."""
    from matplotlib.colors import LinearSegmentedColormap

    theme = _DARK if dark else _LIGHT
    counts = evaluation.confusion
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    classes = len(counts)
    side = max(3.6, 1.15 + 0.5 * classes)
    with _figure(side, side + 0.25, theme) as figure:
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
        _over_figure(figure, "Answers to each true class, in percent", _title(evaluation))
        return _png(figure)


def _over_figure(figure: "Figure", head: str, rest: str) -> None:
    """A bold title and a quiet line below it, at the figure's left edge; call it last."""
    # The empty second line keeps the room in which the layout would otherwise put the axes.
    figure.suptitle(f"{head}\n ", x=0.02, ha="left", fontsize=10.5, weight="bold", linespacing=1.35)
    height = figure.get_figheight()
    figure.text(0.02, 0.98 - 0.235 / height, rest, ha="left", va="top", fontsize=8.5)


def plot_reliability(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """The reliability diagram as PNG: accuracy by confidence, with the gap to the diagonal, and how many faces."""
    theme = _DARK if dark else _LIGHT
    bins = evaluation.bins
    with _figure(4.6, 5.2, theme) as figure:
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
        _over_figure(figure, "Confidence and accuracy", _title(evaluation))
        return _png(figure)


def _three(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def plot_per_class(evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """Recall per class with its 95 % interval, as PNG; the line is their mean (the balanced accuracy)."""
    theme = _DARK if dark else _LIGHT
    rows = evaluation.per_class
    with _figure(4.8, 1.25 + 0.36 * len(rows), theme) as figure:
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
        _over_figure(figure, "Recall with 95 % intervals", f"{_title(evaluation)}; dashed: mean over classes")
        return _png(figure)


def plot_coverage(predictions: Predictions, evaluation: Evaluation, *, dark: bool = False) -> bytes:
    """Accuracy by the share of faces that get an answer, the surest first, as PNG."""
    theme = _DARK if dark else _LIGHT
    order = np.argsort(-predictions.confidence, kind="stable")
    right = (predictions.predicted == predictions.emotion)[order]
    answered = np.arange(1, len(right) + 1)
    accuracy = np.cumsum(right) / answered
    # The first few faces say nothing: 1 of 1 is 100 %.
    shown = answered >= max(1, round(0.05 * len(right)))
    with _figure(4.6, 3.3, theme) as figure:
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
        _over_figure(figure, "Answering only when sure", _title(evaluation))
        return _png(figure)


@dataclass(frozen=True, slots=True)
class _Curve:
    """One column of the table: its values, and after how many epochs (or steps, if no epochs are known)."""

    name: str
    places: tuple[float, ...]
    values: tuple[float, ...]


def plot_curves(metrics_csv: Path, png: Path) -> None:
    """Draw a run's loss, scores and learning rate from the table that Lightning's `CSVLogger` writes.

    Columns are found by name: ``*loss*``; ``*accuracy*``, ``*macro_f1*``; ``lr-*``. What is missing is left out. The
    best validation value is marked. Gaps are values that were not finite.

    Args:
        metrics_csv: The logger's ``metrics.csv``, with columns ``step`` and ``epoch`` and rows that fill only some.
        png: The picture to write; an existing one is replaced.

    Raises:
        EmodetError: The table cannot be read, or holds no loss and no score.
    """
    from matplotlib.ticker import MaxNLocator

    curves, unit = _read_curves(metrics_csv)
    losses = [curve for curve in curves if "loss" in curve.name]
    scores = [curve for curve in curves if curve.name.endswith(("accuracy", "macro_f1"))]
    # Parameter groups (with and without weight decay) mostly share their rate: one line for all that do.
    rates = list({curve.values: curve for curve in curves if curve.name.startswith("lr")}.values())
    panels = [
        (title, drawn) for title, drawn in (("Loss", losses), ("Scores", scores), ("Learning rate", rates)) if drawn
    ]
    if not losses and not scores:
        named = ", ".join(curve.name for curve in curves) or "none"
        raise EmodetError(f"{metrics_csv}: no loss and no accuracy to draw (columns with values: {named})")
    heights = [0.45 if title == "Learning rate" else 1.0 for title, _ in panels]
    with _figure(5.2, 0.5 + 2.5 * sum(heights), _LIGHT) as figure:
        all_axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (title, drawn) in zip(all_axes, panels, strict=True):
            for curve in drawn:
                _draw_curve(axes, curve)
            axes.set_title(title)
            axes.margins(y=0.12)
            if title == "Scores":
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
            if title == "Learning rate":
                axes.set_ylim(bottom=0)
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            if len(drawn) > 1 or title != "Learning rate":
                axes.legend(loc="best")
        all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        all_axes[-1].set_xlabel(unit)
        data = _png(figure)
    partial = png.with_name(f".{png.name}.partial")
    partial.write_bytes(data)
    partial.replace(png)


def _read_curves(metrics_csv: Path) -> tuple[list[_Curve], str]:
    """The table's columns with values, and what their places count: ``epoch`` or ``step``."""
    try:
        with metrics_csv.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise EmodetError(f"{metrics_csv}: cannot be read ({problem}); it is the CSV logger's metrics.csv") from None
    ends: dict[float, float] = {}  # an epoch's last step; the logger leaves one of the two out of some rows
    for row in rows:
        step, epoch = _float(row.get("step")), _float(row.get("epoch"))
        if step is not None and epoch is not None:
            ends[epoch] = max(step, ends.get(epoch, step))
    # Lightning counts steps and epochs from 0: after the last step of epoch 0, one epoch is done.
    done = sorted((step + 1, epoch + 1) for epoch, step in ends.items())
    found = []
    for name in [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch", None)]:
        points: dict[float, float] = {}
        for number, row in enumerate(rows):
            value, step = _float(row.get(name)), _float(row.get("step"))
            if value is not None:  # a step that is there twice, after a resume: the later one counts
                points[number if step is None else step + 1] = value
        places = sorted(points)
        if not places:
            continue
        values = tuple(points[place] for place in places)
        if done:
            places = np.interp(places, [0, *(step for step, _ in done)], [0, *(epoch for _, epoch in done)]).tolist()
        found.append(_Curve(name, tuple(places), values))
    return found, "epoch" if done else "step"


def _float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _draw_curve(axes: "Axes", curve: _Curve) -> None:
    styles: dict[str, tuple[str, str]] = {
        "train": (_LIGHT.quiet, "-"),
        "val": (_LIGHT.blue, "-"),
        "test": (_LIGHT.red, "-"),
    }
    split, _, metric = curve.name.partition("/")
    colour, line = styles.get(split, (_LIGHT.ink, "-"))
    line = {"macro_f1": "--", "balanced_accuracy": ":"}.get(metric, line)
    finite = [index for index, value in enumerate(curve.values) if math.isfinite(value)]
    label, lower_is_better = curve.name, "loss" in curve.name
    if split == "val" and len(finite) > 1:
        best = (min if lower_is_better else max)(finite, key=lambda index: curve.values[index])
        value = curve.values[best]
        axes.plot(curve.places[best], value, "o", color=colour, markersize=5, zorder=3)
        label += f", best {value:.3f}" if lower_is_better else f", best {100 * value:.1f} %"
    marker = "o" if len(finite) == 1 else ""
    axes.plot(
        curve.places,
        curve.values,
        color=colour,
        linestyle=line,
        linewidth=1.5,
        marker=marker,
        markersize=4,
        label=label,
    )


def contact_sheet(
    images: Sequence[UInt8] | UInt8, captions: Sequence[str] | None = None, columns: int = 8, *, tile: int = 112
) -> UInt8:
    """Lay pictures out in rows on white, each with its caption below.

    Args:
        images: N pictures, uint8, (H, W, 3), RGB, of any sizes: each is fitted into its tile with its shape kept.
        captions: N texts; a line break starts a new line, and what is wider than the tile ends in an ellipsis.
        columns: Pictures in a row.
        tile: Side of the square that each picture is fitted into, in pixels.

    Returns:
        uint8, (H, W, 3), RGB.

    Raises:
        EmodetError: There are no pictures, their number is not that of the captions, `columns` or `tile` is below 1,
            or a picture is not uint8 (H, W, 3).
    """
    import cv2
    from PIL import Image, ImageDraw, ImageFont

    if len(images) == 0:
        raise EmodetError("images: none given, so there is nothing to lay out")
    if captions is not None and len(captions) != len(images):
        raise EmodetError(f"captions: {len(captions)} of them for {len(images)} pictures; one for each is needed")
    if columns < 1 or tile < 8:
        raise EmodetError(f"columns={columns}, tile={tile}: at least 1 column and 8 pixels are needed")
    columns = min(columns, len(images))
    gap, size = 8, max(9, round(tile / 9))
    font = ImageFont.load_default(size)
    lines = [caption.split("\n") for caption in captions] if captions is not None else []
    line_height = round(1.3 * size)
    height = tile + gap + (line_height * max(map(len, lines)) + 4 if lines else 0)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * height + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(images):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise EmodetError(f"images[{index}]: {picture.dtype} of shape {picture.shape}; uint8 (H, W, 3) is needed")
        scale = tile / max(picture.shape[:2])
        to = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        fitted = cv2.resize(picture, to, interpolation=method)
        left, top = gap + index % columns * (tile + gap), gap + index // columns * height
        sheet.paste(
            Image.fromarray(np.asarray(fitted, dtype=np.uint8)), (left + (tile - to[0]) // 2, top + (tile - to[1]) // 2)
        )
        for number, line in enumerate(lines[index] if lines else ()):
            text = _cut(line, tile, font)
            pen.text((left, top + tile + 3 + number * line_height), text, fill=(27, 36, 48), font=font)
    return np.array(sheet, dtype=np.uint8)


def _cut(text: str, width: int, font: Any) -> str:
    """The text, or as much of it as fits into `width` pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
