"""The files of a comparison: tables as CSV and Markdown, pictures, and one page with all of it."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from emodet.errors import EmodetError
from emodet.evaluation.markup import data_uri, document, text
from emodet.sweeps.comparison import REPORTED, Comparison, Configuration, Mean, compare_runs, find_runs
from emodet.sweeps.comparison_plots import plot_curves_of_runs, plot_means, plot_values
from emodet.sweeps.outcomes import FINISHED, NOT_STARTED

__all__ = ["compare", "write_comparison"]

_PICTURES = (("comparison", plot_means), ("curves", plot_curves_of_runs), ("values", plot_values))


def compare(folders: Sequence[Path], output: Path) -> str:
    """Compare the runs in folders and write the files; see `find_runs` and `write_comparison`.

    Returns:
        The table and where the files are, for a console.

    Raises:
        EmodetError: There is nothing to compare, or it cannot be written.
    """
    runs, not_started = find_runs(folders)
    comparison = compare_runs(runs, not_started, " and ".join("/".join(each.resolve().parts[-2:]) for each in folders))
    write_comparison(comparison, output)
    rows = [["", comparison.metric, "95 % interval", "seeds"]]
    for each in comparison.configurations[:20]:
        mean = each.selected
        value = _number(mean) if mean else "" if each.best_value is None else f"({each.best_value:.4f})"
        rows.append([each.name, value, _interval(mean), str(len(each.finished))])
    lines = _aligned(rows)
    lines += [f"{state}: {named}: {why}" for state, named, why in _troubles(comparison, output)]
    return "\n".join([*lines, f"comparison:  {output / 'comparison.html'}"])


def write_comparison(comparison: Comparison, output: Path) -> None:
    """Write ``comparison.csv`` (configurations), ``runs.csv``, ``comparison.md``, ``comparison.html`` and the pictures.

    Args:
        comparison: What there is.
        output: The folder, made where it is missing; files of an earlier comparison are replaced.

    Raises:
        EmodetError: One of them cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise EmodetError(f"output={output}: could not be made ({problem.strerror or problem})") from None
    pictures = {name: picture for name, plot in _PICTURES if (picture := plot(comparison)) is not None}
    files = {
        "comparison.csv": _configurations_csv(comparison, output).encode(),
        "runs.csv": _runs_csv(comparison, output).encode(),
        "comparison.md": _markdown(comparison, output, list(pictures)).encode(),
        "comparison.html": _page(comparison, output, pictures).encode(),
        **{f"{name}.png": picture for name, picture in pictures.items()},
    }
    try:
        for name, content in files.items():
            unfinished = output / f"{name}.unfinished-{os.getpid()}"
            unfinished.write_bytes(content)
            unfinished.replace(output / name)
    except OSError as problem:
        raise EmodetError(f"output={output}: could not be written ({problem.strerror or problem})") from None


def _configurations_csv(comparison: Comparison, output: Path) -> str:
    rows: list[list[object]] = [
        [
            *comparison.columns,
            *("seeds", "metric", "mean", "low", "high"),
            *(f"report/{name}{part}" for name in REPORTED for part in ("", "/low", "/high")),
            *("best_value", "best_checkpoint", "runs", "not_finished"),
        ]
    ]
    for each in comparison.configurations:
        reported = [_parts(each.reported.get(name)) for name in REPORTED]
        rows.append(
            [
                *(each.label[column] for column in comparison.columns),
                *(len(each.finished), comparison.metric, *_parts(each.selected)),
                *(part for parts in reported for part in parts),
                *(_plain(each.best_value), _checkpoint(each, output), len(each.runs)),
                len(each.runs) - len(each.finished),
            ]
        )
    return _csv(rows)


def _runs_csv(comparison: Comparison, output: Path) -> str:
    rows: list[list[object]] = [
        [
            *("run", "state", "seed", *comparison.columns, "kept_epoch", comparison.metric),
            *(f"report/{name}" for name in REPORTED),
            *("epochs", "seconds", "reason"),
        ]
    ]
    labels = {id(run): each.label for each in comparison.configurations for run in each.runs}
    for run in comparison.runs:
        point = run.kept(comparison.lower_is_better)
        rows.append(
            [
                *(_place(run.folder, output), run.state, run.seed, *labels[id(run)].values()),
                *(("", "") if point is None else (point[0], _plain(point[1]))),
                *(_plain(run.measured.get(name)) for name in REPORTED),
                *(run.curve[-1][0] + 1 if run.curve else 0, "" if run.seconds is None else round(run.seconds)),
                run.reason,
            ]
        )
    for planned in comparison.not_started:
        empty = [""] * (len(rows[0]) - 3)
        rows.append([_place(planned.folder, output), NOT_STARTED, *empty, " ".join(planned.overrides)])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _table(comparison: Comparison, output: Path) -> list[list[str]]:
    head = [*comparison.columns, comparison.metric, "95 % interval", "seeds"]
    # The same faces would give the same figure again.
    twice = comparison.val_name == comparison.test_name
    shown = [name for name in REPORTED if not (twice and comparison.metric.endswith(f"/{name}"))]
    head += [f"{comparison.test_name or 'test'} {name}" for name in shown] + ["best checkpoint"]
    rows = [head]
    for each in comparison.configurations:
        mean, value = each.selected, each.best_value
        told = _number(mean) if mean else "–" if value is None else f"({value:.4f})"
        reported = [_number(each.reported.get(name)) for name in shown]
        rows.append(
            [
                *(each.label[column] for column in comparison.columns),
                *(told, _interval(mean), str(len(each.finished)), *reported, _checkpoint(each, output)),
            ]
        )
    return rows


def _words(comparison: Comparison) -> str:
    finished = sum(run.state == FINISHED for run in comparison.runs)
    val, test = comparison.val_name or "val", comparison.test_name or "test"
    same = "the same faces that chose the epoch, so optimistic" if val == test else f"{test} faces"
    return (
        f"{finished} of {len(comparison.runs) + len(comparison.not_started)} runs finished. {comparison.metric} is "
        f"that of each run's kept epoch on the {val} faces; the other figures are of the test faces ({same}). Means "
        "are over seeds, with 95 % intervals of Student's t; they say how seeds vary, not how faces do. In brackets: "
        "the best value of runs that did not finish and count in no mean. Of many configurations, the first was also "
        "lucky."
    )


def _troubles(comparison: Comparison, output: Path) -> list[tuple[str, str, str]]:
    """State, run and reason of all that did not finish."""
    found = [
        (run.state, f"run {_place(run.folder, output)}", run.reason) for run in comparison.runs if run.state != FINISHED
    ]
    return found + [
        (NOT_STARTED, f"run {_place(each.folder, output)}", " ".join(each.overrides)) for each in comparison.not_started
    ]


def _markdown(comparison: Comparison, output: Path, pictures: Sequence[str]) -> str:
    head, *rows = _table(comparison, output)
    lines = [f"# {comparison.title}", "", _words(comparison), ""]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    troubles = _troubles(comparison, output)
    if troubles:
        lines += ["", "Not finished:", ""] + [f"- {named}, {state}: {why}" for state, named, why in troubles]
    lines += ["", *(f"![{name}]({name}.png)" for name in pictures), ""]
    return "\n".join(lines)


def _page(comparison: Comparison, output: Path, pictures: dict[str, bytes]) -> str:
    head, *rows = _table(comparison, output)
    cells = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    table = (
        f'<div class="wide"><table class="keys"><thead><tr>{"".join(f"<th>{text(cell)}</th>" for cell in head)}</tr>'
        f"</thead><tbody>\n{cells}</tbody></table></div>"
    )
    troubles = "".join(
        f"<li>{text(named)}, {text(state)}: {text(why)}</li>" for state, named, why in _troubles(comparison, output)
    )
    callout = f"<section><h2>Not finished</h2><ul>{troubles}</ul></section>" if troubles else ""
    dark = {name: plot(comparison, dark=True) for name, plot in _PICTURES if name in pictures}
    shown = "".join(
        f'<section><picture><source srcset="{data_uri(dark[name] or b"", "png")}" '
        f'media="(prefers-color-scheme: dark)"><img src="{data_uri(picture, "png")}" alt="{text(name)}"></picture>'
        "</section>"
        for name, picture in pictures.items()
    )
    body = (
        f"<header><h1>{text(comparison.title)}</h1></header>\n<main><section><p>{text(_words(comparison))}</p>{table}"
        f"</section>{shown}{callout}</main>"
    )
    return document(comparison.title, body)


def _number(mean: Mean | None) -> str:
    return "–" if mean is None else f"{mean.value:.4f}"


def _interval(mean: Mean | None) -> str:
    return "–" if mean is None or mean.low is None else f"{mean.low:.4f} to {mean.high:.4f}"


def _parts(mean: Mean | None) -> tuple[object, object, object]:
    return ("", "", "") if mean is None else (_plain(mean.value), _plain(mean.low), _plain(mean.high))


def _plain(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def _checkpoint(configuration: Configuration, output: Path) -> str:
    best = configuration.best
    return "" if best is None or best.checkpoint is None else _place(best.checkpoint, output)


def _place(path: Path, output: Path) -> str:
    """A path as it reads from the comparison's folder."""
    try:
        return os.path.relpath(path, output)
    except ValueError:  # another drive
        return str(path)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
