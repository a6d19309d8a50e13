"""Reading of run folders for a comparison, including failed, interrupted, killed and running ones."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emodet.errors import EmodetError
from emodet.evaluation.plots import read_curves
from emodet.models.metrics import lower_is_better
from emodet.training.folder import RunFolder

FINISHED = "finished"
PRUNED = "pruned"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One training run.

    Attributes:
        state: `FINISHED`, `PRUNED`, failed, interrupted by a signal, or unfinished (killed, or still running).
        reason: Reason why the run is not finished; empty if unknown.
        overrides: Overrides of the command line, values by key.
        metric: Name of the monitored metric.
        curve: Pairs of epoch and value of the metric.
        kept: Pair of the kept epoch; None before the first validation.
        checkpoint: Checkpoint of the kept epoch, or None.
        test: Metrics on test by name; empty before the report.
    """

    folder: Path
    state: str
    reason: str
    overrides: Mapping[str, str]
    seed: int
    metric: str
    curve: tuple[tuple[int, float], ...]
    kept: tuple[int, float] | None
    checkpoint: Path | None
    test: Mapping[str, float]
    test_name: str


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Find the runs in folders of sweeps or runs, or in folders that contain them; each run once."""
    found: dict[Path, None] = {}
    for folder in folders:
        within = list(_runs_within(folder.resolve()))
        if not within:
            raise EmodetError(f"{folder}: no such folder, or not that of a run or a sweep, and contains none")
        found |= dict.fromkeys(within)
    return [_read_run(folder) for folder in found]


def _runs_within(folder: Path) -> Iterator[Path]:
    if (folder / ".hydra" / "overrides.yaml").is_file():
        yield folder
        return
    children = [child for child in folder.glob("[!.]*") if child.is_dir()]
    for child in sorted(children, key=lambda each: (not each.name.isdigit(), each.name.zfill(9))):
        yield from _runs_within(child)


def _read_run(folder: Path) -> Run:
    """Read a run folder; its files are parsed as plain data."""
    try:
        run = RunFolder(folder)
        facts = run.facts_so_far()
        # A run that failed early has no configuration of its own.
        config = run.config if run.config.is_file() else folder / ".hydra" / "config.yaml"
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        listed = facts.get("overrides") or yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text()) or []
        pairs = (str(each).lstrip("+").partition("=") for each in listed)
        metric = str(settings["training"]["monitor"])
        test = facts.get("results", {}).get("test", {})
        state, reason = _state(facts)
        points = read_curves(run.metrics()).get(metric, {})
        curve = tuple((int(epochs) - 1, value) for epochs, value in sorted(points.items()))
        finite, kept = [point for point in curve if math.isfinite(point[1])], None
        if finite and ((settings.get("callbacks") or {}).get("best") or {}).get("keep") == "last":
            kept = finite[-1]
        elif finite:
            kept = (min if lower_is_better(metric) else max)(finite, key=lambda point: point[1])
        return Run(
            folder=folder,
            state=state,
            reason=reason,
            overrides={key: value for key, _, value in pairs if not key.startswith("callbacks.pruning")},
            seed=int(settings["seed"]),
            metric=metric,
            curve=curve,
            kept=kept,
            checkpoint=run.best if run.best.is_file() else None,
            test={name: float(each["value"]) for name, each in test.items() if each.get("value") is not None},
            test_name=str(facts.get("splits", {}).get("test", "")),
        )
    except Exception as problem:  # damaged files raise various exceptions
        raise EmodetError(f"{folder}: not a run folder, or damaged ({problem!r})") from None


def _state(facts: Mapping[str, Any]) -> tuple[str, str]:
    # A resumed run contains the state of its earlier attempts; the latest one is valid.
    started, left, ended = (str(facts.get(name, "")) for name in ("started", "left", "ended"))
    if ended and ended > left and ended >= started:
        return (PRUNED, str(facts["pruned"])) if facts.get("pruned") else (FINISHED, "")
    if left and left >= started:
        if facts.get("failed"):
            return "failed", str(facts["failed"])
        if facts.get("interrupted"):
            return "interrupted", f"stopped by {facts['interrupted']}"
    return "unfinished", "killed, or still running"
