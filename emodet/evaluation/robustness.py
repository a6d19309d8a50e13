"""How much of its accuracy a net keeps when pictures get worse."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emodet.evaluation.corruptions import CORRUPTIONS, Corruption
from emodet.evaluation.figures import DARK, LIGHT, Theme, as_png, house_figure, over_figure
from emodet.evaluation.statistics import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CorruptedResult", "Robustness", "measure_robustness", "plot_robustness"]


@dataclass(frozen=True, slots=True)
class CorruptedResult:
    """What was measured at one level of one corruption.

    Attributes:
        corruption: Its name.
        level: In the corruption's unit.
        label: The level in words.
        accuracy: With its 95 % interval from `low` to `high`.
        low: See `accuracy`.
        high: See `accuracy`.
        macro_f1: Mean over the classes that have faces.
        calibration_error: With the temperature fitted on clean faces.
    """

    corruption: str
    level: float
    label: str
    accuracy: float
    low: float
    high: float
    macro_f1: float
    calibration_error: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """The clean accuracy and that at every level of every corruption.

    Attributes:
        clean: Accuracy without corruption.
        rows: In the order of `CORRUPTIONS`, levels from mild to harsh.
        title: Data, split and number of faces.
    """

    clean: float
    rows: tuple[CorruptedResult, ...]
    title: str

    @property
    def mean(self) -> float:
        """Mean accuracy over all corruptions and levels."""
        return float(np.mean([row.accuracy for row in self.rows]))

    def as_csv(self) -> str:
        """The rows as CSV with a header, the clean faces first."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["corruption", "level", "label", "accuracy", "low", "high", "macro_f1", "calibration_error"])
        writer.writerow(["none", "", "as they are", f"{self.clean:.6f}", "", "", "", ""])
        for row in self.rows:
            figures = (row.accuracy, row.low, row.high, row.macro_f1, row.calibration_error)
            writer.writerow([row.corruption, f"{row.level:g}", row.label, *(f"{figure:.6f}" for figure in figures)])
        return out.getvalue()

    def as_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{'corruption':<13} {'level':<20} accuracy  95 % interval   macro F1  calibration error"]
        lines.append(f"{'none':<13} {'as they are':<20} {100 * self.clean:6.1f} %")
        lines.extend(
            f"{row.corruption:<13} {row.label:<20} {100 * row.accuracy:6.1f} %  "
            f"{100 * row.low:5.1f} to {100 * row.high:5.1f}  {100 * row.macro_f1:6.1f} %  {row.calibration_error:.3f}"
            for row in self.rows
        )
        lines.append(f"{'mean':<13} {'of all':<20} {100 * self.mean:6.1f} %")
        return "\n".join(lines)


def measure_robustness(clean: Evaluation, measure: Callable[[Corruption, float], Evaluation]) -> Robustness:
    """Measure at every level of every corruption.

    Args:
        clean: Of the faces as they are.
        measure: Gives the evaluation of the same faces at a level of a corruption.
    """
    rows = []
    for corruption in CORRUPTIONS.values():
        for level in corruption.levels:
            found = measure(corruption, level)
            rows.append(
                CorruptedResult(
                    corruption=corruption.name,
                    level=level,
                    label=corruption.label(level),
                    accuracy=_number(found.accuracy.value),
                    low=_number(found.accuracy.low),
                    high=_number(found.accuracy.high),
                    macro_f1=_number(found.macro_f1.value),
                    calibration_error=_number(found.calibrated.ece.value),
                )
            )
    return Robustness(
        _number(clean.accuracy.value), tuple(rows), f"{clean.data}, {clean.split} ({clean.faces:,} faces)"
    )


def plot_robustness(robustness: Robustness, *, dark: bool = False) -> bytes:
    """Accuracy per corruption and level with 95 % intervals, as PNG; the dashed line is the clean accuracy."""
    theme = DARK if dark else LIGHT
    names = list(dict.fromkeys(row.corruption for row in robustness.rows))
    with house_figure(4.8, 1.25 + 0.62 * len(names), theme) as figure:
        axes = figure.add_subplot()
        axes.grid(False, axis="y")
        for place, name in enumerate(names):
            _draw(axes, place, [row for row in robustness.rows if row.corruption == name], theme)
        axes.axvline(robustness.clean, color=theme.ink, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1.17)
        axes.set_xticks(np.arange(0, 1.01, 0.25), ["0", "25", "50", "75", "100 %"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        over_figure(figure, "Accuracy as pictures get worse, mild to harsh", f"{robustness.title}; dashed: as they are")
        return as_png(figure)


def _draw(axes: "Axes", place: int, rows: Sequence[CorruptedResult], theme: Theme) -> None:
    height = 0.8 / len(rows)
    for step, row in enumerate(rows):
        y = place + (step - (len(rows) - 1) / 2) * height
        axes.barh(y, row.accuracy, 0.86 * height, color=theme.blue, alpha=1 - 0.27 * step)
        axes.plot([row.low, row.high], [y, y], color=theme.ink, linewidth=1)
        # On paper of its own: the line of the clean accuracy runs behind it.
        paper = {"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6}
        axes.text(row.high + 0.02, y, row.label, va="center", fontsize=6.5, bbox=paper)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
