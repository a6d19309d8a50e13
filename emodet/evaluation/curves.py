"""A run's training curves as an image."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from emodet.errors import EmodetError
from emodet.evaluation.figures import INK, styled_figure, to_png
from emodet.evaluation.plots import percent_axis
from emodet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves"]

_COLOURS = {"train": "C2", "val": "C0", "test": "C1"}
_LINES = {"macro_f1": "--", "balanced_accuracy": ":", "ccc_arousal": "--"}


class _Curve(NamedTuple):
    """One column of the table: its values, and after how many epochs."""

    name: str
    places: tuple[float, ...]
    values: tuple[float, ...]


def plot_curves(metrics_csv: Path, png: Path) -> None:
    """Draw a run's loss, scores and learning rate from the table that Lightning's `CSVLogger` writes.

    Columns are found by name: ``*loss*``; ``*accuracy``, ``*macro_f1``; ``*/ccc_*``; ``lr-*``. What is missing is left
    out. The best validation value is marked. Gaps are values that were not finite.

    Args:
        metrics_csv: The logger's ``metrics.csv``, with a column ``epoch`` and rows that fill only some.
        png: The file to write; an existing one is replaced.

    Raises:
        EmodetError: The table cannot be read, or holds no loss and no score.
    """
    from matplotlib.ticker import MaxNLocator

    curves = _read_curves(metrics_csv)
    panels = {
        "Loss": [curve for curve in curves if "loss" in curve.name],
        "Scores": [curve for curve in curves if curve.name.endswith(("accuracy", "macro_f1"))],
        "Concordance": [curve for curve in curves if "/ccc_" in curve.name],
        # Parameter groups (with and without weight decay) mostly share their rate: one line for all that do.
        "Learning rate": list({curve.values: curve for curve in curves if curve.name.startswith("lr")}.values()),
    }
    if not panels["Loss"] and not panels["Scores"]:
        named = ", ".join(curve.name for curve in curves) or "none"
        raise EmodetError(f"{metrics_csv}: no loss and no accuracy to draw (columns with values: {named})")
    panels = {title: drawn for title, drawn in panels.items() if drawn}
    heights = [0.45 if title == "Learning rate" else 1.0 for title in panels]
    with styled_figure(5.2, 0.5 + 2.5 * sum(heights)) as figure:
        all_axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (title, drawn) in zip(all_axes, panels.items(), strict=True):
            for curve in drawn:
                _draw_curve(axes, curve)
            axes.set_title(title)
            axes.margins(y=0.12)
            if title == "Scores":
                percent_axis(axes, "y")
            if title == "Learning rate":
                axes.set_ylim(bottom=0)
                axes.yaxis.set_major_locator(MaxNLocator(3))
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            if len(drawn) > 1 or title != "Learning rate":
                axes.legend(loc="best")
        all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        all_axes[-1].set_xlabel("epoch")
        write_atomically(png, to_png(figure))


def _read_curves(metrics_csv: Path) -> list[_Curve]:
    """The table's columns with values."""
    try:
        with metrics_csv.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise EmodetError(
            f"{metrics_csv}: cannot be read ({problem}); metrics.csv of the CSV logger is needed"
        ) from None
    curves = []
    for name in [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch", None)]:
        epoch, points = 0.0, {}
        for row in rows:
            epoch = float(row["epoch"]) if row.get("epoch") else epoch  # the learning rate's rows have none
            if row.get(name):  # of an epoch that is there twice, after a resume, the later row counts
                points[epoch + 1] = float(row[name])
        if points:
            curves.append(_Curve(name, tuple(points), tuple(points.values())))
    return curves


def _draw_curve(axes: "Axes", curve: _Curve) -> None:
    split, _, metric = curve.name.partition("/")
    label, line = curve.name, _LINES.get(metric, "-")
    finite = [value for value in curve.values if math.isfinite(value)]
    if split == "val" and finite:
        best = min(finite) if "loss" in curve.name else max(finite)
        label += f", best {best:.3f}"
    marker = "o" if len(finite) == 1 else ""
    axes.plot(
        curve.places,
        curve.values,
        color=_COLOURS.get(split, INK),
        linestyle=line,
        marker=marker,
        markersize=4,
        label=label,
    )
