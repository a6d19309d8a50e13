"""Figures of a comparison: means with intervals, and validation curves."""

from typing import TYPE_CHECKING

from emodet.evaluation.figures import INK, PAPER, add_title, styled_figure, to_png
from emodet.sweeps.runs import FINISHED, PRUNED, Run

if TYPE_CHECKING:
    from emodet.sweeps.comparison import Comparison, Configuration

_MAX_CONFIGURATIONS = 20


def plot_means(comparison: "Comparison") -> bytes | None:
    """Each configuration's runs, mean and 95 % interval, the best on top, as PNG; None without a validated run."""
    lower = comparison.lower_is_better
    shown = [each for each in comparison.configurations if any(run.kept(lower) for run in each.runs)]
    shown = shown[:_MAX_CONFIGURATIONS]
    if not shown:
        return None
    with styled_figure(6.4, 1.5 + 0.34 * len(shown)) as figure:
        axes = figure.add_subplot()
        axes.grid(False, axis="y")
        for place, each in enumerate(shown):
            score = each.scores.get(comparison.metric)
            if score is not None and score.value is not None and score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [place] * 2, color="C0", linewidth=5, alpha=0.35)
                axes.plot([score.value] * 2, [place - 0.22, place + 0.22], color="C0", linewidth=2.2)
            for run in each.runs:
                if (point := run.kept(lower)) is not None:
                    fill = INK if run.state == FINISHED else PAPER
                    axes.plot([point[1]], [place], "o", markersize=4.6, color=INK, markerfacecolor=fill)
        axes.set_yticks(range(len(shown)), [_short(each) for each in shown], fontsize=8.2)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel(f"{comparison.metric} of the kept epoch")
        better = "lower" if lower else "higher"
        subtitle = f"{comparison.title}. Bars: 95 % interval of the mean; open circles: runs that did not finish"
        add_title(figure, f"{comparison.metric} by configuration ({better} is better)", subtitle)
        return to_png(figure)


def plot_curves(comparison: "Comparison") -> bytes | None:
    """The monitored metric of every run over the epochs, as PNG; None without any."""
    from matplotlib.ticker import MaxNLocator

    shown = [run for run in comparison.runs if run.curve]
    if not shown:
        return None
    best = next((each.best for each in comparison.configurations if each.best is not None), None)
    with styled_figure(6.4, 3.9) as figure:
        axes = figure.add_subplot()
        labelled: set[str] = set()
        for run in sorted(shown, key=lambda each: each is best):
            label, colour, width, line = _line(run, run is best)
            epochs, values = [epoch + 1 for epoch, _ in run.curve], [value for _, value in run.curve]
            name = None if label in labelled else label
            axes.plot(epochs, values, color=colour, linewidth=width, linestyle=line, label=name)
            axes.plot(epochs[-1], values[-1], "." if run.state == FINISHED else "x", markersize=5, color=colour)
            labelled.add(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel(comparison.metric)
        figure.legend(loc="outside lower center", ncols=4)
        add_title(figure, "Validation curves", f"{comparison.title}. A cross ends a run that did not finish")
        return to_png(figure)


def _line(run: Run, best: bool) -> tuple[str, str, float, str]:
    if best:
        return "best", "C0", 2.4, "-"
    if run.state == FINISHED:
        return "finished", INK, 1.0, "-"
    return ("pruned", "C1", 1.0, "-") if run.state == PRUNED else ("failed or unfinished", "C2", 1.0, ":")


def _short(configuration: "Configuration") -> str:
    parts = [f"{key.rsplit('.', 1)[-1]} {_cut(value, 14)}" for key, value in configuration.label.items()]
    return "\n".join(", ".join(parts[at : at + 3]) for at in range(0, len(parts), 3)) or "one configuration"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
