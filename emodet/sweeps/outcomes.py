"""What became of a run, read from its folder alone: also of one that was killed, or is still running."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emodet.errors import EmodetError

__all__ = ["ENDED_EARLY", "FAILED", "FINISHED", "INTERRUPTED", "NOT_STARTED", "UNFINISHED", "Outcome", "read_outcome"]

FINISHED = "finished"
ENDED_EARLY = "ended early"
FAILED = "failed"
INTERRUPTED = "interrupted"
UNFINISHED = "unfinished"
NOT_STARTED = "not started"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A run.

    Attributes:
        folder: Its folder.
        state: `FINISHED`; `ENDED_EARLY` by the pruner, and whole; `FAILED`; `INTERRUPTED` by a signal; `UNFINISHED`,
            which a killed run and one that still runs have in common.
        reason: Why it is not finished; empty where nothing is known.
        choices: The options of the configuration's groups.
        settings: The composed configuration, one entry per value, dots between the keys.
        seed: Its seed.
        metric: What its best epoch was selected by.
        keeps_last: Whether it kept its last epoch (``training.keep=last``) instead.
        curve: (epoch, value of the metric), rising epochs.
        checkpoint: Of the kept epoch; None where there is none.
        measured: Metrics of the report, name to value; empty where there is none.
        val_name: The split that selected, empty where not known.
        test_name: The split that was reported on, likewise.
        seconds: From start to end, None where one is not known.
    """

    folder: Path
    state: str
    reason: str
    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int
    metric: str
    keeps_last: bool
    curve: tuple[tuple[int, float], ...]
    checkpoint: Path | None
    measured: Mapping[str, float]
    val_name: str
    test_name: str
    seconds: float | None

    def kept(self, lower_is_better: bool) -> tuple[int, float] | None:
        """Epoch and value of the kept epoch; None before the first validation."""
        finite = [point for point in self.curve if math.isfinite(point[1])]
        if not finite:
            return None
        if self.keeps_last:
            return finite[-1]
        return (min if lower_is_better else max)(finite, key=lambda point: point[1])


def read_outcome(folder: Path) -> Outcome:
    """Read a run's folder.

    Raises:
        EmodetError: It is none, or damaged.
    """
    config, hydra = folder / ".hydra" / "config.yaml", folder / ".hydra" / "hydra.yaml"
    try:
        composed = OmegaConf.to_container(OmegaConf.load(config), resolve=False)
        choices = OmegaConf.to_container(OmegaConf.load(hydra).hydra.runtime.choices, resolve=False)
        assert isinstance(composed, dict)
        assert isinstance(choices, dict)
        settings = dict(_flat(composed))
        metric, seed = str(settings["training.monitor"]), int(settings["seed"])
    except Exception as problem:  # a damaged file can fail in any way
        raise EmodetError(f"{folder}: not the folder of a run ({problem})") from None
    facts = _facts(folder)
    state, reason = _state(facts)
    best = folder / "checkpoints" / "best.ckpt"
    report = facts.get("results", {}).get("test", {})
    splits = facts.get("splits", {})
    return Outcome(
        folder=folder,
        state=state,
        reason=reason,
        choices={str(key): str(value) for key, value in choices.items() if "/" not in str(key)},
        settings=settings,
        seed=seed,
        metric=metric,
        keeps_last=settings.get("training.keep") == "last",
        curve=_curve(folder, metric),
        checkpoint=best if best.is_file() else None,
        measured={name: float(each["value"]) for name, each in report.items() if each.get("value") is not None},
        val_name=str(splits.get("val", "")),
        test_name=str(splits.get("test", "")),
        seconds=_seconds(facts),
    )


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / "run.json"
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise EmodetError(f"{file}: damaged ({problem})") from None
    return facts if isinstance(facts, dict) else {}


def _state(facts: Mapping[str, Any]) -> tuple[str, str]:
    # A run that was resumed keeps the marks of its first attempt; what came last counts.
    left, ended = str(facts.get("left", "")), str(facts.get("ended", ""))
    if ended and ended > left:
        early = facts.get("ended_early")
        return (ENDED_EARLY, str(early["reason"])) if early else (FINISHED, "")
    if left and left >= str(facts.get("started", "")):
        if facts.get("failed"):
            return FAILED, str(facts["failed"])
        if facts.get("interrupted"):
            return INTERRUPTED, f"stopped by {facts['interrupted']}"
    return UNFINISHED, "no end was noted: it was killed, or it is still running"


def _seconds(facts: Mapping[str, Any]) -> float | None:
    from datetime import datetime

    try:
        started, ended = (datetime.fromisoformat(facts[key]) for key in ("started", "ended"))
    except (KeyError, TypeError, ValueError):
        return None
    return (ended - started).total_seconds()


def _curve(folder: Path, metric: str) -> tuple[tuple[int, float], ...]:
    points: dict[int, float] = {}
    for file in sorted(folder.glob("csv/*/metrics.csv"), key=lambda each: int(each.parent.name)):
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                value, epoch = row.get(metric), row.get("epoch")
                if not value or not epoch:
                    continue
                try:
                    points[int(epoch)] = float(value)
                except ValueError:  # a row that a kill cut off
                    continue
    return tuple(sorted(points.items()))


def _flat(value: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, member in value.items():
        name = f"{prefix}{key}"
        if isinstance(member, Mapping):
            yield from _flat(member, f"{name}.")
        else:
            yield name, member
