"""Pictures of a comparison: values with intervals, curves, and how each searched value went."""

import math
from collections.abc import Sequence

from emodet.evaluation.figures import DARK, LIGHT, Theme, as_png, house_figure, over_figure
from emodet.sweeps.comparison import Comparison, Configuration
from emodet.sweeps.outcomes import ENDED_EARLY, FINISHED, Outcome

__all__ = ["plot_curves_of_runs", "plot_means", "plot_values", "varied_numbers"]

_MOST = 20
_BY_FACTORS = ("optimizer.lr", "optimizer.weight_decay")


def plot_means(comparison: Comparison, *, dark: bool = False) -> bytes | None:
    """Each configuration's seeds, mean and 95 % interval, the best on top, as PNG; None without a measured run."""
    from matplotlib.ticker import MaxNLocator

    theme = DARK if dark else LIGHT
    lower = comparison.lower_is_better
    shown = [each for each in comparison.configurations if any(run.kept(lower) for run in each.runs)][:_MOST]
    if not shown:
        return None
    with house_figure(6.4, 1.5 + 0.34 * len(shown), theme) as figure:
        axes = figure.add_subplot()
        axes.grid(False, axis="y")
        labelled: set[str] = set()

        def once(label: str) -> str:
            first = label not in labelled
            labelled.add(label)
            return label if first else ""

        for place, each in enumerate(shown):
            mean = each.selected
            if mean is not None and mean.low is not None and mean.high is not None:
                axes.plot(
                    [mean.low, mean.high],
                    [place, place],
                    color=theme.blue,
                    linewidth=5,
                    alpha=0.35,
                    solid_capstyle="butt",
                    label=once("95 % interval of the mean"),
                )
                axes.plot([mean.value] * 2, [place - 0.22, place + 0.22], color=theme.blue, linewidth=2.2)
            for run in each.runs:
                point = run.kept(lower)
                if point is None:
                    continue
                whole = run.state == FINISHED
                axes.plot(
                    [point[1]],
                    [place],
                    marker="o",
                    markersize=4.6,
                    linestyle="none",
                    color=theme.ink,
                    markerfacecolor=theme.ink if whole else theme.paper,
                    label=once("one run" if whole else "ended early or unfinished"),
                )
        axes.set_yticks(range(len(shown)), [_short(each) for each in shown], fontsize=8.2)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"{comparison.metric} of the kept epoch")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
        more = len(comparison.configurations) - len(shown)
        rest = f"{comparison.title}; {len(comparison.runs)} runs" + (f", {more} more not shown" if more else "")
        better = "lower" if lower else "higher"
        over_figure(figure, f"{comparison.metric} of each configuration ({better} is better)", rest)
        return as_png(figure)


def plot_curves_of_runs(comparison: Comparison, *, dark: bool = False) -> bytes | None:
    """The val metric of every run over the epochs, as PNG; None without any."""
    from matplotlib.ticker import MaxNLocator

    theme = DARK if dark else LIGHT
    shown = [run for run in comparison.runs if run.curve]
    if not shown:
        return None
    best = next((each.best for each in comparison.configurations if each.best is not None), None)
    with house_figure(6.4, 3.9, theme) as figure:
        axes = figure.add_subplot()
        labelled: set[str] = set()
        for run in sorted(shown, key=lambda each: each is best):
            label, colour, width, line = _manner(run, run is best, theme)
            axes.plot(
                [epoch for epoch, _ in run.curve],
                [value for _, value in run.curve],
                color=colour,
                linewidth=width,
                linestyle=line,
                alpha=1 if run is best else 0.75,
                label="" if label in labelled else label,
            )
            axes.plot(*run.curve[-1], marker="." if run.state == FINISHED else "x", markersize=5, color=colour)
            labelled.add(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(comparison.metric)
        figure.legend(loc="outside lower center", ncols=4, fontsize=8.5)
        over_figure(figure, "Every run's curve", f"{comparison.title}; a cross ends those that did not finish")
        return as_png(figure)


def plot_values(comparison: Comparison, *, dark: bool = False) -> bytes | None:
    """How each value that varied went, a panel per key, as PNG; None with fewer than four runs or a single key."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    theme = DARK if dark else LIGHT
    lower = comparison.lower_is_better
    measured = [
        (configuration, run, point[1])
        for configuration in comparison.configurations
        for run in configuration.runs
        if (point := run.kept(lower)) is not None
    ]
    columns = comparison.columns[:6]
    if len(measured) < 4 or not columns:
        return None
    across = min(2, len(columns))
    down = math.ceil(len(columns) / across)
    with house_figure(3.3 * across, 1.2 + 2.2 * down, theme) as figure:
        panels = figure.subplots(down, across, squeeze=False, sharey=True)
        # Below the second line of the title.
        figure.get_layout_engine().set(h_pad=0.13)  # type: ignore[union-attr,call-arg]
        for index, axes in enumerate(panels.flat):
            if index >= len(columns):
                axes.set_visible(False)
                continue
            column = columns[index]
            numbers = varied_numbers([configuration for configuration, _, _ in measured], column)
            names = sorted({configuration.label[column] for configuration, _, _ in measured})
            for whole in (True, False):
                chosen = [
                    (at, value)
                    for at, (configuration, run, value) in enumerate(measured)
                    if (run.state == FINISHED) == whole
                ]
                places = [numbers[at] if numbers else names.index(measured[at][0].label[column]) for at, _ in chosen]
                axes.plot(
                    places,
                    [value for _, value in chosen],
                    marker="o",
                    markersize=4.4,
                    linestyle="none",
                    color=theme.blue if whole else theme.quiet,
                    markerfacecolor=theme.blue if whole else theme.paper,
                    label=("finished" if whole else "not finished") if index == 0 and chosen else "",
                )
            if not numbers:
                axes.set_xticks(range(len(names)), [_cut(name, 12) for name in names], fontsize=8)
                axes.set_xlim(-0.5, len(names) - 0.5)
            elif min(numbers) > 0 and max(numbers) / min(numbers) >= 8 and column in _BY_FACTORS:
                axes.set_xscale("log")
                # Less than two decades have room for few numbers.
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelsize=8)
            axes.set_title(column, fontsize=9)
            if index % across == 0:
                axes.set_ylabel(comparison.metric, fontsize=8.5)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8.5)
        over_figure(figure, "What each value did", f"{comparison.title}; one point per run, its kept epoch")
        return as_png(figure)


def varied_numbers(configurations: Sequence[Configuration], column: str) -> list[float]:
    """A column's values as numbers; empty where one is none."""
    try:
        return [float(each.label[column]) for each in configurations]
    except ValueError:
        return []


def _manner(run: Outcome, best: bool, theme: Theme) -> tuple[str, str, float, str]:
    if best:
        return "the best", theme.blue, 2.4, "-"
    if run.state == FINISHED:
        return "finished", theme.ink, 1.0, "-"
    if run.state == ENDED_EARLY:
        return "ended early", theme.red, 1.0, "-"
    return "failed or unfinished", theme.quiet, 1.0, ":"


def _short(configuration: Configuration) -> str:
    parts = [f"{key.rsplit('.', 1)[-1]} {_cut(value, 14)}" for key, value in configuration.label.items()]
    lines = [", ".join(parts[at : at + 3]) for at in range(0, len(parts), 3)]
    return "\n".join(lines) or "all alike"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
