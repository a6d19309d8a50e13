"""A run's training curves: read from the CSV logger's table, and drawn as an image."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from emodet.errors import EmodetError
from emodet.evaluation.plots import INK, percent_axis, styled_figure, to_png
from emodet.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Mapping[float, float]

_COLOURS = {"train": "C2", "val": "C0", "test": "C1"}
_LINES = {"macro_f1": "--", "balanced_accuracy": ":", "ccc_arousal": "--"}


def read_curves(metrics_csv: Path) -> dict[str, dict[float, float]]:
    """Column to number of epochs done to value, from the table of Lightning's `CSVLogger`; only columns with values."""
    curves: dict[str, dict[float, float]] = {}
    try:
        with metrics_csv.open(newline="", encoding="utf-8") as stream:
            epoch = 0.0
            for row in csv.DictReader(stream):
                epoch = float(row.pop("epoch", None) or epoch)  # the learning rate's rows have none
                for name, value in row.items():
                    if (
                        value and name != "step"
                    ):  # of an epoch that is there twice, after a resume, the later row counts
                        curves.setdefault(name, {})[epoch + 1] = float(value)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise EmodetError(
            f"{metrics_csv}: cannot be read ({problem}); metrics.csv of the CSV logger is needed"
        ) from None
    return curves


def plot_curves(metrics_csv: Path, png: Path) -> None:
    """Draw a run's loss, scores and learning rate, from the table of Lightning's `CSVLogger`, as a PNG file.

    Columns are found by name: ``*loss*``; ``*accuracy``, ``*macro_f1``; ``*/ccc_*``; ``lr-*``. What is missing is left
    out. The best validation value is marked. Gaps are values that were not finite.
    """
    from matplotlib.ticker import MaxNLocator

    curves = read_curves(metrics_csv)
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
            f"{metrics_csv}: no loss and no accuracy to draw (columns with values: {', '.join(curves) or 'none'})"
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


def _draw_curve(axes: "Axes", name: str, curve: Curve) -> None:
    split, _, metric = name.partition("/")
    finite = [value for value in curve.values() if math.isfinite(value)]
    label = name
    if split == "val" and finite:
        label += f", best {(min if 'loss' in name else max)(finite):.3f}"
    marker = "o" if len(finite) == 1 else ""
    (line,) = axes.plot(list(curve), list(curve.values()), marker=marker, markersize=4, label=label)
    line.set(color=_COLOURS.get(split, INK), linestyle=_LINES.get(metric, "-"))
