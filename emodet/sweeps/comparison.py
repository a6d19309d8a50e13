"""Groups runs into configurations that differ in nothing but the seed: means over seeds, with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emodet.errors import EmodetError
from emodet.models.metrics import lower_is_better
from emodet.sweeps.runs import FINISHED, PRUNED, Run

__all__ = ["REPORTED", "Comparison", "Configuration", "SeedMean", "compare_runs", "mean_interval"]

REPORTED = ("accuracy", "macro_f1")
"""Metrics of the test split that a comparison shows."""

# Keys that do not change what is trained.
_IGNORED = ("seed", "name", "resume", "threads", "data.root", "data.packs", "data.num_workers", "data.processes")
_IGNORED_GROUPS = ("logger", "sweep", "launcher", "hydra")


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over seeds.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval; None with one seed.
        high: Upper end.
        count: Number of seeds.
    """

    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: Value of each of `Comparison.columns`.
        runs: All of them.
        finished: Those that count.
        val: Mean of the monitored metric at the kept epochs; None without a finished run.
        test: Means on the test split, name to mean.
        best: The run with the best checkpoint; None without a checkpoint.
        best_value: Its value of the monitored metric.
    """

    label: Mapping[str, str]
    runs: tuple[Run, ...]
    finished: tuple[Run, ...]
    val: SeedMean | None
    test: Mapping[str, SeedMean]
    best: Run | None
    best_value: float | None

    @property
    def name(self) -> str:
        """The label on one line."""
        return ", ".join(f"{key}={value}" for key, value in self.label.items()) or "one configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side.

    Attributes:
        title: What is compared.
        metric: The monitored metric.
        lower_is_better: Its direction.
        columns: Keys in which configurations differ.
        configurations: The best first; those without a finished run last.
        runs: All runs, in the order of their numbers.
        test_name: Name of the test split.
    """

    title: str
    metric: str
    lower_is_better: bool
    columns: tuple[str, ...]
    configurations: tuple[Configuration, ...]
    runs: tuple[Run, ...]
    test_name: str


def compare_runs(runs: Sequence[Run], title: str) -> Comparison:
    """Group runs into configurations by the overrides of their command lines.

    Raises:
        EmodetError: There is no run, or they monitor different metrics.
    """
    metrics = sorted({run.metric for run in runs})
    if len(metrics) != 1:
        raise EmodetError(f"{title}: runs with one monitored metric are needed, not {metrics or 'no run'}")
    lower = lower_is_better(metrics[0])
    compared = [_compared(run) for run in runs]
    keys = list(dict.fromkeys(key for each in compared for key in each))
    columns = tuple(key for key in keys if len({each.get(key) for each in compared}) > 1)
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    for run, each in zip(runs, compared, strict=True):
        groups.setdefault(tuple(each.get(column) for column in columns), []).append(run)
    configurations = [
        _configuration(group, {key: _short(value) for key, value in zip(columns, values, strict=True)}, lower)
        for values, group in groups.items()
    ]
    return Comparison(
        title=title,
        metric=metrics[0],
        lower_is_better=lower,
        columns=columns,
        configurations=tuple(sorted(configurations, key=lambda each: _rank(each, lower))),
        runs=tuple(runs),
        test_name=", ".join(sorted({run.test_name for run in runs if run.test_name})),
    )


def _compared(run: Run) -> dict[str, str]:
    return {
        key: value
        for key, value in run.overrides.items()
        if key not in _IGNORED and key.replace("/", ".").split(".")[0] not in _IGNORED_GROUPS
    }


def _short(value: str | None) -> str:
    """A value for a table: searched numbers have many digits."""
    try:
        return f"{float(value or '–'):.4g}"
    except ValueError:
        return value or "–"


def _configuration(runs: Sequence[Run], label: Mapping[str, str], lower: bool) -> Configuration:
    kept = {id(run): point[1] for run in runs if (point := run.kept(lower)) is not None}
    finished = tuple(run for run in runs if run.state == FINISHED and id(run) in kept)
    candidates = [run for run in runs if run.checkpoint is not None and id(run) in kept]
    # Only checkpoints of finished and pruned runs are calibrated.
    candidates = [run for run in candidates if run.state in (FINISHED, PRUNED)] or candidates
    best = (min if lower else max)(candidates, key=lambda run: kept[id(run)]) if candidates else None
    return Configuration(
        label=label,
        runs=tuple(runs),
        finished=finished,
        val=mean_interval([kept[id(run)] for run in finished]) if finished else None,
        test={
            name: mean_interval([run.test[name] for run in finished])
            for name in REPORTED
            if finished and all(name in run.test for run in finished)
        },
        best=best,
        best_value=None if best is None else kept[id(best)],
    )


def _rank(configuration: Configuration, lower: bool) -> tuple[bool, bool, float]:
    value = configuration.val.value if configuration.val else configuration.best_value
    return configuration.val is None, value is None, 0 if value is None else value if lower else -value


def mean_interval(values: Sequence[float]) -> SeedMean:
    """Mean and its 95 % interval by Student's t: how seeds vary, not how faces do.

    Args:
        values: One per seed, at least one.
    """
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return SeedMean(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return SeedMean(mean, mean - half, mean + half, count)
