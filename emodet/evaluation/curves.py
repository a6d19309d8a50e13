"""A run's training curves as a picture."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emodet.errors import EmodetError
from emodet.evaluation.figures import LIGHT, as_png, house_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves"]


@dataclass(frozen=True, slots=True)
class _Curve:
    """One column of the table: its values, and after how many epochs (or steps, if no epochs are known)."""

    name: str
    places: tuple[float, ...]
    values: tuple[float, ...]


def plot_curves(metrics_csv: Path, png: Path) -> None:
    """Draw a run's loss, scores and learning rate from the table that Lightning's `CSVLogger` writes.

    Columns are found by name: ``*loss*``; ``*accuracy*``, ``*macro_f1*``; ``*/ccc_*``; ``lr-*``. What is missing is
    left out. The best validation value is marked. Gaps are values that were not finite.

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
    concordances = [curve for curve in curves if curve.name.partition("/")[2].startswith("ccc_")]
    # Parameter groups (with and without weight decay) mostly share their rate: one line for all that do.
    rates = list({curve.values: curve for curve in curves if curve.name.startswith("lr")}.values())
    panels = [
        (title, drawn)
        for title, drawn in (
            ("Loss", losses),
            ("Scores", scores),
            ("Concordance", concordances),
            ("Learning rate", rates),
        )
        if drawn
    ]
    if not losses and not scores:
        named = ", ".join(curve.name for curve in curves) or "none"
        raise EmodetError(f"{metrics_csv}: no loss and no accuracy to draw (columns with values: {named})")
    heights = [0.45 if title == "Learning rate" else 1.0 for title, _ in panels]
    with house_figure(5.2, 0.5 + 2.5 * sum(heights), LIGHT) as figure:
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
        data = as_png(figure)
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
        "train": (LIGHT.quiet, "-"),
        "val": (LIGHT.blue, "-"),
        "test": (LIGHT.red, "-"),
    }
    split, _, metric = curve.name.partition("/")
    colour, line = styles.get(split, (LIGHT.ink, "-"))
    line = {"macro_f1": "--", "balanced_accuracy": ":", "ccc_arousal": "--"}.get(metric, line)
    finite = [index for index, value in enumerate(curve.values) if math.isfinite(value)]
    label, lower_is_better = curve.name, "loss" in curve.name
    if split == "val" and len(finite) > 1:
        best = (min if lower_is_better else max)(finite, key=lambda index: curve.values[index])
        value = curve.values[best]
        axes.plot(curve.places[best], value, "o", color=colour, markersize=5, zorder=3)
        is_share = not lower_is_better and not metric.startswith("ccc_")
        label += f", best {100 * value:.1f} %" if is_share else f", best {value:.3f}"
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
