"""Files of a comparison: tables as CSV and Markdown, figures, and one page."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from emodet.errors import EmodetError
from emodet.evaluation.pages import render
from emodet.files import write_atomically
from emodet.sweeps.comparison import REPORTED, Comparison, Configuration, SeedMean, compare_runs
from emodet.sweeps.comparison_plots import plot_curves, plot_means, plot_values
from emodet.sweeps.runs import FINISHED, PRUNED, find_runs

__all__ = ["CompareRuns", "compare", "write_comparison"]

_FIGURES = {"comparison": plot_means, "curves": plot_curves, "values": plot_values}


class CompareRuns(Callback):
    """Compares the runs of a sweep when it ends; exit status 1 where a run did not finish."""

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
    """Compare the runs in `folders`, write the files to `output`, and return the table as text.

    Raises:
        EmodetError: There is nothing to compare, or a file cannot be written.
    """
    title = " and ".join("/".join(each.resolve().parts[-2:]) for each in folders)
    comparison = compare_runs(find_runs(folders), title)
    write_comparison(comparison, output)
    rows = [["", comparison.metric, "95 % interval", "seeds"]]
    rows += [
        [each.name, _val(each), _interval(each.val), str(len(each.finished))] for each in comparison.configurations
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{state}: {place}: {reason}" for place, state, reason in _unfinished(comparison, output)]
    return "\n".join([*lines, f"comparison:  {output / 'comparison.html'}"])


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write ``comparison.csv`` (configurations), ``runs.csv``, ``comparison.md``, ``comparison.html`` and figures.

    Raises:
        EmodetError: A file cannot be written.
    """
    figures = {
        name: (light, plot(comparison, dark=True))
        for name, plot in _FIGURES.items()
        if (light := plot(comparison)) is not None
    }
    head, *rows = _table(comparison, output)
    view: dict[str, Any] = {
        "title": comparison.title,
        "head": head,
        "rows": rows,
        "unfinished": _unfinished(comparison, output),
    }
    view |= {"note": _note(comparison), "figures": figures}
    files: dict[str, bytes | str] = {
        "comparison.csv": _configurations_csv(comparison, output),
        "runs.csv": _runs_csv(comparison, output),
        "comparison.md": _markdown(view),
        "comparison.html": render("comparison.html", **view),
        **{f"{name}.png": pair[0] for name, pair in figures.items()},
    }
    try:
        for name, content in files.items():
            write_atomically(output / name, content)
    except OSError as problem:
        raise EmodetError(f"output={output}: cannot be written ({problem.strerror or problem})") from None


def _configurations_csv(comparison: Comparison, output: Path) -> str:
    ends = ("", "/low", "/high")
    head = [*comparison.columns, "seeds", "metric", "mean", "low", "high"]
    head += [f"test/{name}{end}" for name in REPORTED for end in ends]
    rows: list[list[object]] = [[*head, "best_value", "best_checkpoint", "runs", "not_finished"]]
    for each in comparison.configurations:
        test = [part for name in REPORTED for part in _parts(each.test.get(name))]
        values = [*each.label.values(), len(each.finished), comparison.metric, *_parts(each.val), *test]
        best = [_rounded(each.best_value), _checkpoint(each, output)]
        rows.append([*values, *best, len(each.runs), len(each.runs) - len(each.finished)])
    return _csv(rows)


def _runs_csv(comparison: Comparison, output: Path) -> str:
    head = ["run", "state", "seed", *comparison.columns, "kept_epoch", comparison.metric]
    rows: list[list[object]] = [[*head, *(f"test/{name}" for name in REPORTED), "epochs", "reason"]]
    labels = {id(run): each.label for each in comparison.configurations for run in each.runs}
    for run in comparison.runs:
        epoch, value = run.kept(comparison.lower_is_better) or ("", None)
        row = [_relative(run.folder, output), run.state, run.seed, *labels[id(run)].values(), epoch, _rounded(value)]
        test = [_rounded(run.test.get(name)) for name in REPORTED]
        rows.append([*row, *test, run.curve[-1][0] + 1 if run.curve else 0, run.reason])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _table(comparison: Comparison, output: Path) -> list[list[str]]:
    head = [*comparison.columns, comparison.metric, "95 % interval", "seeds"]
    rows = [[*head, *(f"test {name}" for name in REPORTED), "best checkpoint"]]
    for each in comparison.configurations:
        test = [_mean(each.test.get(name)) for name in REPORTED]
        row = [*each.label.values(), _val(each), _interval(each.val), str(len(each.finished))]
        rows.append([*row, *test, _checkpoint(each, output)])
    return rows


def _note(comparison: Comparison) -> str:
    finished = sum(run.state == FINISHED for run in comparison.runs)
    return (
        f"{finished} of {len(comparison.runs)} runs finished. {comparison.metric} is that of each run's kept epoch; "
        f"the test metrics are on {comparison.test_name or 'the test split'}. Means are over seeds, with 95 % "
        "intervals of Student's t, which measure how seeds vary, not how faces do. In brackets: the best value of runs "
        "that did not finish. The best of many configurations is an optimistic choice."
    )


def _unfinished(comparison: Comparison, output: Path) -> list[tuple[str, str, str]]:
    """Folder, state and reason of each run that did not finish."""
    return [(_relative(run.folder, output), run.state, run.reason) for run in comparison.runs if run.state != FINISHED]


def _markdown(view: dict[str, Any]) -> str:
    lines = [f"# {view['title']}", "", view["note"], ""]
    lines += [f"| {' | '.join(view['head'])} |", f"|{'---|' * len(view['head'])}"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in view["rows"]]
    if view["unfinished"]:
        lines += ["", "Not finished:", "", *(f"- {place}, {state}: {why}" for place, state, why in view["unfinished"])]
    lines += ["", *(f"![{name}]({name}.png)" for name in view["figures"]), ""]
    return "\n".join(lines)


def _mean(mean: SeedMean | None) -> str:
    return "–" if mean is None else f"{mean.value:.4f}"


def _val(each: Configuration) -> str:
    if each.val is None and each.best_value is not None:
        return f"({each.best_value:.4f})"
    return _mean(each.val)


def _interval(mean: SeedMean | None) -> str:
    return "–" if mean is None or mean.low is None else f"{mean.low:.4f} to {mean.high:.4f}"


def _parts(mean: SeedMean | None) -> tuple[object, ...]:
    return ("", "", "") if mean is None else tuple(_rounded(each) for each in (mean.value, mean.low, mean.high))


def _rounded(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def _checkpoint(each: Configuration, output: Path) -> str:
    return "" if each.best is None or each.best.checkpoint is None else _relative(each.best.checkpoint, output)


def _relative(path: Path, output: Path) -> str:
    try:
        return os.path.relpath(path, output)
    except ValueError:  # another drive
        return str(path)
