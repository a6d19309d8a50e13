"""Comparison of runs, grouped into configurations over seeds: CSV tables, figures, and one page."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from emodet.errors import EmodetError
from emodet.evaluation.pages import render
from emodet.evaluation.plots import INK, PAPER, styled_figure, to_png
from emodet.evaluation.scores import Score
from emodet.files import csv_text, write_files
from emodet.models.metrics import lower_is_better
from emodet.sweeps.runs import FINISHED, PRUNED, Run, find_runs

REPORTED = ("accuracy", "macro_f1")
"""Metrics on test in a comparison."""

# Keys that do not change the training.
_IGNORED = ("seed", "name", "resume", "threads", "data.root", "data.packs", "data.num_workers", "data.processes")
_IGNORED_GROUPS = ("logger", "sweep", "launcher", "hydra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Runs that differ only in the seed.

    Attributes:
        label: Value of each of `Comparison.columns`.
        runs: All runs of the configuration.
        scores: Means over the finished runs: the monitored metric at the kept epochs under its name, metrics in
            `REPORTED` as ``test/NAME``.
        best: Run with the best checkpoint; None without a checkpoint.
    """

    label: Mapping[str, str]
    runs: tuple[Run, ...]
    scores: Mapping[str, Score]
    best: Run | None

    @property
    def best_value(self) -> float | None:
        """The monitored metric of the best run."""
        return self.best.kept[1] if self.best and self.best.kept else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of configurations.

    Attributes:
        metric: The monitored metric.
        columns: Keys that differ between configurations.
        configurations: Configurations, best first; those without a finished run last.
        runs: All runs, ordered by number.
    """

    title: str
    metric: str
    columns: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    runs: tuple[Run, ...]


class CompareRuns(Callback):
    """Hydra callback that compares the runs of a sweep at its end; the exit status is 1 if a run did not finish."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the comparison into the sweep's folder and print the table."""
        folder = Path(str(config.hydra.sweep.dir)).resolve()
        try:
            print(compare([folder], folder))
            unfinished = sum(run.state not in (FINISHED, PRUNED) for run in find_runs([folder]))
        except EmodetError as problem:
            raise SystemExit(f"error: {problem}") from None
        if unfinished:
            raise SystemExit(f"{unfinished} run(s) of the sweep did not finish")


def compare(folders: Sequence[Path], output: Path) -> str:
    """Compare the runs in `folders` and write the files to `output`. Returns the table as text.

    The files: ``comparison.csv`` (configurations), ``runs.csv``, ``comparison.html`` and figures as PNG.
    """
    title = " and ".join("/".join(each.resolve().parts[-2:]) for each in folders)
    comparison = compare_runs(find_runs(folders), title)
    figures = {"comparison": plot_means(comparison), "curves": plot_curves(comparison)}
    head, *rows = _table(comparison, output)
    unfinished = [
        (os.path.relpath(run.folder, output), run.state, run.reason) for run in comparison.runs if run.state != FINISHED
    ]
    values = {"head": head, "rows": rows, "figures": figures, "unfinished": unfinished}
    files = {
        "comparison.csv": _csv(_configuration_row(each, comparison, output) for each in comparison.configurations),
        "runs.csv": _csv(_run_row(run, comparison, output) for run in comparison.runs),
        "comparison.html": render("comparison.html", title=title, comparison=comparison, **values),
        **{f"{name}.png": png for name, png in figures.items()},
    }
    write_files(output, files)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    lines += [f"{state}: {place}: {reason}" for place, state, reason in unfinished]
    return "\n".join([*lines, f"comparison:  {output / 'comparison.html'}"])


def compare_runs(runs: Sequence[Run], title: str) -> Comparison:
    """Group runs, which must monitor one metric, into configurations by the overrides of their command lines."""
    metrics = sorted({run.metric for run in runs})
    if len(metrics) != 1:
        raise EmodetError(f"{title}: runs with one monitored metric are needed, not {metrics or 'no run'}")
    metric = metrics[0]
    sign = 1 if lower_is_better(metric) else -1
    compared = [{key: value for key, value in run.overrides.items() if _is_compared(key)} for run in runs]
    keys = list(dict.fromkeys(key for each in compared for key in each))
    columns = tuple(key for key in keys if len({each.get(key) for each in compared}) > 1)
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    for run, each in zip(runs, compared, strict=True):
        groups.setdefault(tuple(map(each.get, columns)), []).append(run)
    configurations = [
        _configuration(group, dict(zip(columns, map(_short, values), strict=True)), metric, sign)
        for values, group in groups.items()
    ]

    def rank(configuration: Configuration) -> tuple[bool, float]:
        mean, best = configuration.scores[metric].value, configuration.best_value
        value = best if mean is None else mean
        return mean is None, math.inf if value is None else sign * value

    return Comparison(
        title=title,
        metric=metric,
        columns=columns,
        configurations=tuple(sorted(configurations, key=rank)),
        runs=tuple(runs),
    )


def _is_compared(key: str) -> bool:
    return key not in _IGNORED and key.replace("/", ".").split(".")[0] not in _IGNORED_GROUPS


def _short(value: str | None) -> str:
    """Shorten a value for a table, since searched numbers have many digits; integers are unchanged."""
    with suppress(ValueError):
        return f"{float(value or '–'):.4g}" if not (value or "").isdecimal() else str(value)
    return value or "–"


def _configuration(runs: Sequence[Run], label: Mapping[str, str], metric: str, sign: int) -> Configuration:
    finished = [run for run in runs if run.state == FINISHED and run.kept]
    values = {metric: [run.kept[1] for run in finished if run.kept]}
    for name in REPORTED:
        known = all(name in run.test for run in finished)
        values[f"test/{name}"] = [run.test[name] for run in finished] if known else []
    candidates = [(sign * run.kept[1], run) for run in runs if run.checkpoint is not None and run.kept]
    # Only checkpoints of finished and pruned runs are calibrated.
    candidates = [each for each in candidates if each[1].state in (FINISHED, PRUNED)] or candidates
    best = min(candidates, key=lambda each: each[0], default=(0, None))[1]
    scores = {name: mean_interval(name, each) for name, each in values.items()}
    return Configuration(label=label, runs=tuple(runs), scores=scores, best=best)


def mean_interval(name: str, values: Sequence[float]) -> Score:
    """Return the mean over seeds and its 95 % interval by Student's t; no interval for a single value."""
    from scipy.stats import t

    count, mean = len(values), fmean(values) if values else None
    if mean is None or count == 1:
        return Score(name, mean, n=count)
    half = float(t.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)
    return Score(name, mean, mean - half, mean + half, count)


def _table(comparison: Comparison, output: Path) -> list[list[str]]:
    """Return the rows for the page and the terminal."""
    head = [*comparison.columns, comparison.metric, "95 % interval", "seeds", *(f"test {name}" for name in REPORTED)]
    rows = [[*head, "best checkpoint"]]
    for each in comparison.configurations:
        score, *tests = each.scores.values()
        value, best = _figure(score.value), _figure(each.best_value)
        interval = "–" if score.low is None else f"{_figure(score.low)} to {_figure(score.high)}"
        shown = [f"({best})" if value == "–" != best else value, interval, str(score.n)]
        rows.append([*each.label.values(), *shown, *(_figure(test.value) for test in tests), _checkpoint(each, output)])
    return rows


def _configuration_row(each: Configuration, comparison: Comparison, output: Path) -> dict[str, object]:
    """Return a row of ``comparison.csv`` by column."""
    seeds = each.scores[comparison.metric].n
    row = {**each.label, "seeds": seeds, "metric": comparison.metric}
    for name, score in each.scores.items():
        ends = ("mean", "low", "high") if name == comparison.metric else (name, f"{name}/low", f"{name}/high")
        row |= zip(ends, map(_rounded, (score.value, score.low, score.high)), strict=True)
    row |= {"best_value": _rounded(each.best_value), "best_checkpoint": _checkpoint(each, output)}
    return row | {"runs": len(each.runs), "not_finished": len(each.runs) - seeds}


def _run_row(run: Run, comparison: Comparison, output: Path) -> dict[str, object]:
    """Return a row of ``runs.csv`` by column."""
    label = next(each.label for each in comparison.configurations if run in each.runs)
    epoch, value = run.kept or ("", None)
    return {
        **{"run": os.path.relpath(run.folder, output), "state": run.state, "seed": run.seed, **label},
        **{"kept_epoch": epoch, comparison.metric: _rounded(value)},
        **{f"test/{name}": _rounded(run.test.get(name)) for name in REPORTED},
        **{"epochs": run.curve[-1][0] + 1 if run.curve else 0, "reason": run.reason},
    }


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Format rows with the same columns as CSV with a header."""
    every = list(rows)
    return csv_text([every[0], *(row.values() for row in every)])


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _rounded(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def _checkpoint(each: Configuration, output: Path) -> str:
    return "" if each.best is None or each.best.checkpoint is None else os.path.relpath(each.best.checkpoint, output)


_MAX_CONFIGURATIONS = 20
_LINES = {"best": ("C0", 2.4, "-"), FINISHED: (INK, 1.0, "-"), PRUNED: ("C1", 1.0, "-")}


def plot_means(comparison: Comparison) -> bytes | None:
    """Plot runs, mean and 95 % interval of each configuration, best on top, as PNG; None without a validated run."""
    shown = [each for each in comparison.configurations if any(run.kept for run in each.runs)][:_MAX_CONFIGURATIONS]
    if not shown:
        return None
    with styled_figure(6.4, 1.5 + 0.34 * len(shown)) as figure:
        axes = figure.add_subplot()
        axes.grid(False, axis="y")
        for place, each in enumerate(shown):
            score = each.scores[comparison.metric]
            if score.value is not None and score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [place] * 2, color="C0", linewidth=5, alpha=0.35)
                axes.plot([score.value] * 2, [place - 0.22, place + 0.22], color="C0", linewidth=2.2)
            for run in each.runs:
                if run.kept is not None:
                    fill = INK if run.state == FINISHED else PAPER
                    axes.plot([run.kept[1]], [place], "o", markersize=4.6, color=INK, markerfacecolor=fill)
        axes.set_yticks(range(len(shown)), [_title(each) for each in shown], fontsize=8.2)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel(f"{comparison.metric} of the kept epoch")
        better = "lower" if lower_is_better(comparison.metric) else "higher"
        subtitle = f"{comparison.title}. Bars: 95 % interval of the mean; open circles: runs that did not finish"
        return to_png(figure, f"{comparison.metric} by configuration ({better} is better)", subtitle)


def plot_curves(comparison: Comparison) -> bytes | None:
    """Plot the monitored metric of every run over the epochs, as PNG; None without values."""
    from matplotlib.ticker import MaxNLocator

    shown = [run for run in comparison.runs if run.curve]
    if not shown:
        return None
    best = next((each.best for each in comparison.configurations if each.best is not None), None)
    with styled_figure(6.4, 3.9) as figure:
        axes = figure.add_subplot()
        labelled: set[str] = set()
        for run in sorted(shown, key=lambda each: each is best):
            kind = "best" if run is best else run.state if run.state in _LINES else "failed or unfinished"
            colour, width, line = _LINES.get(kind, ("C2", 1.0, ":"))
            epochs, values = [epoch + 1 for epoch, _ in run.curve], [value for _, value in run.curve]
            name = None if kind in labelled else kind
            axes.plot(epochs, values, color=colour, linewidth=width, linestyle=line, label=name)
            axes.plot(epochs[-1], values[-1], "." if run.state == FINISHED else "x", markersize=5, color=colour)
            labelled.add(kind)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel(comparison.metric)
        figure.legend(loc="outside lower center", ncols=4)
        return to_png(figure, "Validation curves", f"{comparison.title}. A cross ends a run that did not finish")


def _title(configuration: Configuration) -> str:
    parts = [
        f"{key.rsplit('.', 1)[-1]} {value if len(value) <= 14 else value[:13] + '…'}"
        for key, value in configuration.label.items()
    ]
    return "\n".join(", ".join(parts[at : at + 3]) for at in range(0, len(parts), 3)) or "one configuration"
