"""Runs, sorted into configurations that differ in more than the seed: means with intervals, and what went wrong."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError
from emodet.models.metrics import lower_is_better
from emodet.sweeps.outcomes import ENDED_EARLY, FINISHED, Outcome, read_outcome
from emodet.sweeps.plan import Plan

__all__ = ["Comparison", "Configuration", "Mean", "Planned", "compare_runs", "find_runs", "mean_interval"]

_GROUPS = ("data", "augmentation", "net", "optimizer", "schedule", "trainer", "debug", "experiment")
# What a configuration may differ in and still be the same: where things lie, how fast they go, who is told.
_SAME = ("seed", "name", "resume", "threads", "data.root", "data.packs", "data.num_workers", "data.processes")
_SAME_PARTS = ("sweep.", "logger.")
REPORTED = ("accuracy", "macro_f1")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval; None with one seed.
        high: Upper end.
        count: How many seeds.
    """

    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: Value of each of `Comparison.columns`, as text.
        runs: All of them.
        finished: Those that count.
        selected: Mean of the val metric at each run's kept epoch; None without a finished run.
        reported: Means on the test faces, name to mean.
        best: The run whose checkpoint is best; None without any checkpoint.
        best_value: Its value.
    """

    label: Mapping[str, str]
    runs: tuple[Outcome, ...]
    finished: tuple[Outcome, ...]
    selected: Mean | None
    reported: Mapping[str, Mean]
    best: Outcome | None
    best_value: float | None

    @property
    def name(self) -> str:
        """The label in one line."""
        return ", ".join(f"{key}={value}" for key, value in self.label.items()) or "all alike"


@dataclass(frozen=True, slots=True)
class Planned:
    """A run that a sweep set out to run and never started."""

    folder: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        title: What is compared.
        metric: What they were selected by.
        lower_is_better: Its direction.
        columns: The keys in which configurations differ.
        configurations: The best first; those without a finished run last.
        runs: All runs, in the order in which they were started.
        not_started: Runs that never began.
        val_name: The split that `metric` was measured on.
        test_name: The split of the report.
    """

    title: str
    metric: str
    lower_is_better: bool
    columns: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    runs: tuple[Outcome, ...]
    not_started: tuple[Planned, ...]
    val_name: str
    test_name: str


def find_runs(folders: Sequence[Path]) -> tuple[list[Outcome], list[Planned]]:
    """The runs in folders of sweeps, folders of runs, and folders that hold these; each once.

    The runs of a search are those of its study, also where an earlier session put them elsewhere.

    Raises:
        EmodetError: A folder does not exist, holds no run, or one that is damaged.
    """
    found: dict[Path, None] = {}
    planned: dict[Path, Planned] = {}
    for folder in folders:
        if not folder.is_dir():
            raise EmodetError(f"{folder}: there is no such folder")
        within = list(_runs_within(folder.resolve(), planned))
        found.update(dict.fromkeys(within))
        if not within and not any(run.is_relative_to(folder.resolve()) for run in planned):
            raise EmodetError(f"{folder}: neither a sweep's folder nor a run's, and none lies in it")
    return [read_outcome(run) for run in found], [plan for run, plan in planned.items() if run not in found]


def _runs_within(folder: Path, planned: dict[Path, Planned]) -> Iterable[Path]:
    if (folder / ".hydra" / "config.yaml").is_file():
        yield folder
        return
    plan = Plan(folder)
    if plan.file.is_file():
        facts = plan.read()
        if facts.get("study") and Path(facts["study"]).is_file():
            from emodet.sweeps.study import studied_folders

            for run in studied_folders(Path(facts["study"])):
                if (run / ".hydra" / "config.yaml").is_file():
                    yield run
        for number, overrides in facts["runs"].items():
            planned[folder / number] = Planned(folder / number, tuple(overrides))
    children = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    for child in sorted(children, key=lambda each: (not each.name.isdigit(), each.name.zfill(9))):
        yield from _runs_within(child, planned) if child.name not in ("checkpoints", "csv", "wandb") else ()


def compare_runs(runs: Sequence[Outcome], not_started: Sequence[Planned], title: str) -> Comparison:
    """Sort runs into configurations.

    Args:
        runs: At least one.
        not_started: See `find_runs`.
        title: What is compared.

    Raises:
        EmodetError: There is none, or they were selected by different metrics.
    """
    if not runs:
        raise EmodetError(f"{title}: no run was started, so there is nothing to compare")
    metrics = sorted({run.metric for run in runs})
    if len(metrics) > 1:
        raise EmodetError(
            f"{title}: the runs were selected by different metrics ({', '.join(metrics)}) and cannot be compared"
        )
    lower = lower_is_better(metrics[0])
    columns = _columns(runs)
    groups: dict[str, list[Outcome]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_compared(run), sort_keys=True, default=str), []).append(run)
    configurations = [_configuration(group, columns, lower) for group in groups.values()]
    return Comparison(
        title=title,
        metric=metrics[0],
        lower_is_better=lower,
        columns=tuple(columns),
        configurations=tuple(sorted(configurations, key=lambda each: _rank(each, lower))),
        runs=tuple(runs),
        not_started=tuple(not_started),
        val_name=_common(run.val_name for run in runs),
        test_name=_common(run.test_name for run in runs),
    )


def _common(values: Iterable[str]) -> str:
    # "val (also used for model selection)" names the faces of both splits.
    return ", ".join(sorted({value.split(" (")[0] for value in values if value}))


def _compared(run: Outcome) -> dict[str, Any]:
    return {key: value for key, value in run.settings.items() if key not in _SAME and not key.startswith(_SAME_PARTS)}


def _columns(runs: Sequence[Outcome]) -> list[str]:
    """The keys that differ; a group's choice stands for what follows from it."""
    chosen = [group for group in _GROUPS if len({run.choices.get(group) for run in runs}) > 1]
    compared = [_compared(run) for run in runs]
    keys = list(dict.fromkeys(key for each in compared for key in each))
    differing = []
    for key in keys:
        if len({_text(each.get(key)) for each in compared}) == 1:
            continue
        group = key.split(".")[0]
        by_choice: dict[str | None, set[str]] = {}
        for run, each in zip(runs, compared, strict=True):
            by_choice.setdefault(run.choices.get(group), set()).add(_text(each.get(key)))
        follows = group in chosen and all(len(values) == 1 for values in by_choice.values())
        # An experiment sets what it likes: its name says it as far as each of its runs has the same.
        if "experiment" in chosen and not follows:
            by_choice = {}
            for run, each in zip(runs, compared, strict=True):
                by_choice.setdefault(run.choices.get("experiment"), set()).add(_text(each.get(key)))
            follows = all(len(values) == 1 for values in by_choice.values())
        if not follows:
            differing.append(key)
    return [*chosen, *differing]


def _configuration(runs: Sequence[Outcome], columns: Sequence[str], lower: bool) -> Configuration:
    label = {
        column: runs[0].choices.get(column, "") if column in _GROUPS else _text(runs[0].settings.get(column))
        for column in columns
    }
    finished = tuple(run for run in runs if run.state == FINISHED and run.kept(lower) is not None)
    values = [point[1] for run in finished if (point := run.kept(lower)) is not None]
    with_checkpoint = [(point[1], run) for run in runs if run.checkpoint and (point := run.kept(lower)) is not None]
    # A finished run's checkpoint is preferred: that of another one was not calibrated.
    of_finished = [each for each in with_checkpoint if each[1].state in (FINISHED, ENDED_EARLY)] or with_checkpoint
    best = (min if lower else max)(of_finished, key=lambda each: each[0]) if of_finished else None
    reported = {
        name: mean_interval([run.measured[name] for run in finished])
        for name in REPORTED
        if finished and all(name in run.measured for run in finished)
    }
    return Configuration(
        label=label,
        runs=tuple(runs),
        finished=finished,
        selected=mean_interval(values) if values else None,
        reported=reported,
        best=None if best is None else best[1],
        best_value=None if best is None else best[0],
    )


def _rank(configuration: Configuration, lower: bool) -> tuple[bool, bool, float]:
    value = configuration.selected.value if configuration.selected else configuration.best_value
    signed = math.inf if value is None else value if lower else -value
    return configuration.selected is None, value is None, signed


def mean_interval(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval by Student's t, as the few seeds of a comparison need it.

    The interval says how far the mean of ever more seeds may lie; it knows nothing of the choice of faces.

    Args:
        values: One per seed, at least one.
    """
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return Mean(mean, mean - half, mean + half, count)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "–"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
