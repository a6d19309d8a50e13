"""Accuracy on corrupted images: one row of scores per corruption and level."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emodet.evaluation.corruptions import CORRUPTIONS, Corruption
from emodet.evaluation.figures import INK, PAPER, add_title, styled_figure, to_png
from emodet.evaluation.plots import share_axes
from emodet.evaluation.scores import Evaluation, Score


@dataclass(frozen=True, slots=True)
class CorruptedScores:
    """Scores at one level of one corruption; `label` is the level in words. The temperature is that of clean faces."""

    corruption: str
    level: float
    label: str
    accuracy: Score
    macro_f1: Score
    ece: Score


@dataclass(frozen=True, slots=True)
class Robustness:
    """The clean accuracy, and the scores of all `CORRUPTIONS`, levels from mild to harsh."""

    clean: Score
    rows: tuple[CorruptedScores, ...]
    title: str

    @property
    def mean(self) -> Score:
        """Mean accuracy over all corruptions and levels."""
        return Score("accuracy", float(np.mean([row.accuracy.value for row in self.rows])), n=self.clean.n)

    def as_csv(self) -> str:
        """The rows as CSV with a header, the clean faces first."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["corruption", "level", "label", "accuracy", "low", "high", "macro_f1", "calibration_error"])
        writer.writerow(["none", "", "clean", f"{self.clean.value:.6f}", "", "", "", ""])
        for row in self.rows:
            values = (row.accuracy.value, row.accuracy.low, row.accuracy.high, row.macro_f1.value, row.ece.value)
            cells = ("" if value is None else f"{value:.6f}" for value in values)
            writer.writerow([row.corruption, f"{row.level:g}", row.label, *cells])
        return out.getvalue()


def measure_robustness(clean: Evaluation, measure: Callable[[Corruption, float], Evaluation]) -> Robustness:
    """Scores of all corruptions; `measure` evaluates the faces of `clean` at a level of a corruption."""
    rows = []
    for name, corruption in CORRUPTIONS.items():
        for level in corruption.levels:
            found = measure(corruption, level)
            scores = found["accuracy"], found["macro_f1"], found["ece"]
            rows.append(CorruptedScores(name, level, corruption.label(level), *scores))
    return Robustness(clean["accuracy"], tuple(rows), clean.title)


def plot_robustness(robustness: Robustness) -> bytes:
    """Accuracy per corruption and level with 95 % intervals, as PNG; the dashed line is the clean accuracy."""
    names = list(dict.fromkeys(row.corruption for row in robustness.rows))
    with styled_figure(4.8, 1.25 + 0.62 * len(names)) as figure:
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            rows = [row for row in robustness.rows if row.corruption == name]
            height = 0.8 / len(rows)
            for step, row in enumerate(rows):
                y = place + (step - (len(rows) - 1) / 2) * height
                value, low, high = row.accuracy.value or 0.0, row.accuracy.low, row.accuracy.high
                axes.barh(y, value, 0.86 * height, color="C0", alpha=1 - 0.27 * step)
                if low is not None and high is not None:
                    axes.plot([low, high], [y, y], color=INK, linewidth=1)
                # A background of its own: the line of the clean accuracy runs behind it.
                box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
                axes.text((high or value) + 0.02, y, row.label, va="center", fontsize=6.5, bbox=box)
        axes.axvline(robustness.clean.value or 0.0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        share_axes(axes, names)
        axes.set_xlim(0, 1.32)
        add_title(figure, "Accuracy by corruption, mild to harsh", f"{robustness.title}; dashed: clean images")
        return to_png(figure)
