"""Counts, frame rate and latency of a run, for the lines at its end and for `summary.json`."""

import dataclasses
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emodet.inference.faces import Face

__all__ = ["Meter", "SourceSummary", "Summary"]

_NAMED = 5  # files named per line for people; summary.json has all
_KEPT = 1000  # failed inputs, and files, of a large run
_NOTED_EVERY = 10


class Meter:
    """Frame rate, and latency over the last 2000 frames.

    Attributes:
        frames: Number of frames.
        note: Recent frame rate and latency as text, updated every ten frames.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.note = ""
        self._latencies: deque[float] = deque(maxlen=2000)
        self._recent: deque[float] = deque(maxlen=60)
        self._first = self._last = time.perf_counter()

    def add(self, latency_s: float | None, frames: int = 1) -> None:
        """Add finished frames; without a latency they count for the rate only."""
        self.frames += frames
        self._last = time.perf_counter()
        if latency_s is None:
            return
        self._latencies.append(latency_s)
        self._recent.append(self._last)
        if self.frames % _NOTED_EVERY == 1:
            span = self._recent[-1] - self._recent[0]
            rate = (len(self._recent) - 1) / span if span > 0 else 0.0
            self.note = f"{rate:.0f} fps  p50 {self.latency_ms(50):.0f} ms  p95 {self.latency_ms(95):.0f} ms"

    @property
    def frame_rate(self) -> float:
        """Frames per second since the start; 0 before the first frame."""
        return self.frames / (self._last - self._first) if self.frames and self._last > self._first else 0.0

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the last 2000 latencies in milliseconds; 0 before the first frame."""
        return float(np.percentile(self._latencies, percentile)) * 1000 if self._latencies else 0.0


@dataclass(slots=True)
class SourceSummary:
    """One input: counts of recognised frames, of their faces and of each label, and what was written.

    Attributes:
        left_out: Frames of a live source that were dropped for newer ones.
        damaged: Frames of a video that could not be decoded.
        notes: What the user should know though the input was read.
        error: Why it failed, or None.
    """

    name: str
    frames: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    damaged: int = 0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    files: list[str] = field(default_factory=list)

    def add(self, faces: Sequence[Face]) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(faces)
        self.emotions.update(face.emotion for face in faces)


class Summary:
    """All inputs of a run, and the files that were passed over.

    Attributes:
        sources: Inputs in order; of folded ones only the first 1000 that failed.
        total: Sums over the folded inputs that are not in `sources`; `inputs` is their number, `failures` of those
            that failed.
        skipped: Reason to names of files that were passed over; `skipped_count`: reason to their number.
    """

    def __init__(self, *, min_confidence: float) -> None:
        self.sources: list[SourceSummary] = []
        self.total = SourceSummary("")
        self.inputs = self.failures = self.earlier = 0
        self.skipped: dict[str, list[str]] = {}
        self.skipped_count: Counter[str] = Counter()
        self.meter = Meter()
        self._min_confidence = min_confidence

    def fold(self, source: SourceSummary) -> None:
        """Count a finished input without keeping it, unless it failed: there may be millions."""
        if source.error is not None and len(self.sources) < _KEPT:
            self.sources.append(source)
            return
        self.inputs += 1
        self.failures += source.error is not None
        self.total.frames += source.frames
        self.total.faces += source.faces
        self.total.emotions += source.emotions
        self.total.damaged += source.damaged
        if len(self.total.files) < _KEPT:
            self.total.files.extend(source.files)

    @property
    def failed(self) -> int:
        """Number of inputs that failed, wholly or in the middle."""
        return self.failures + sum(source.error is not None for source in self.sources)

    @property
    def coverage(self) -> float | None:
        """The share of faces whose emotion is certain; None without faces."""
        faces = self._sum("faces")
        return 1 - self._emotions()["uncertain"] / faces if faces else None

    def lines(self) -> list[str]:
        """For people."""
        inputs, faces = self.inputs + len(self.sources), self._sum("faces")
        done = f"{inputs - self.failed} of {_count(inputs, 'input')} done"
        lines = [f"{done}, {_count(self._sum('frames'), 'frame')}, {_count(faces, 'face')}"]
        if self.earlier:
            lines.append(f"resumed: {_count(self.earlier, 'input')} done earlier")
        if faces:
            lines.append("emotions: " + ", ".join(f"{name} {count}" for name, count in self._emotions().most_common()))
        if faces and self._min_confidence > 0:
            lines.append(f"coverage: {self.coverage:.1%} of the faces reach a confidence of {self._min_confidence:g}")
        if self.meter.frames:
            p50, p95 = self.meter.latency_ms(50), self.meter.latency_ms(95)
            lines.append(f"speed: {self.meter.frame_rate:.1f} frames/s; latency p50 {p50:.1f} ms, p95 {p95:.1f} ms")
        if dropped := self._sum("left_out"):
            lines.append(f"dropped: {dropped} live frames, for newer ones")
        for reason, names in self.skipped.items():
            count = self.skipped_count[reason]
            lines.append(f"skipped: {_count(count, 'file')}, {reason}: {_some(names, count)}")
        if self.failed:
            named = [source.name for source in self.sources if source.error is not None]
            lines.append(f"failed: {_count(self.failed, 'input')}: {_some(named, self.failed)}")
        if files := [file for source in (*self.sources, self.total) for file in source.files]:
            lines.append(f"written: {_some(files, len(files))}")
        return lines

    def to_json(self) -> str:
        """Everything, for programs."""
        sources = []
        for source in self.sources:
            values = dataclasses.asdict(source) | {"emotions": dict(source.emotions.most_common())}
            sources.append({"source": values.pop("name"), **values})
        summary = {
            "sources": sources,
            "inputs": self.inputs + len(self.sources),
            "failed": self.failed,
            "frames": self._sum("frames"),
            "faces": self._sum("faces"),
            "emotions": dict(self._emotions().most_common()),
            "skipped": self.skipped,
            "skipped_count": dict(self.skipped_count),
            "min_confidence": self._min_confidence,
            "coverage": self.coverage,
            "frames_per_second": round(self.meter.frame_rate, 2),
            "latency_ms_p50": round(self.meter.latency_ms(50), 2),
            "latency_ms_p95": round(self.meter.latency_ms(95), 2),
        }
        return json.dumps(summary, ensure_ascii=False, indent=2) + "\n"

    def _sum(self, name: str) -> int:
        return sum(getattr(source, name) for source in (*self.sources, self.total))

    def _emotions(self) -> Counter[str]:
        return sum((source.emotions for source in (*self.sources, self.total)), Counter[str]())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _some(names: Sequence[str], count: int) -> str:
    """The first of `count` names."""
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
