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

    def add(self, latency_s: float) -> None:
        """Add a finished frame."""
        self.frames += 1
        self._last = time.perf_counter()
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
    """All inputs of a run, in order; `skipped` holds the files that were passed over, as reason to names."""

    def __init__(self, *, min_confidence: float) -> None:
        self.sources: list[SourceSummary] = []
        self.skipped: dict[str, list[str]] = {}
        self.meter = Meter()
        self._min_confidence = min_confidence

    def begin(self, name: str) -> SourceSummary:
        """Start the next input."""
        self.sources.append(SourceSummary(name))
        return self.sources[-1]

    @property
    def failed(self) -> list[SourceSummary]:
        """Inputs that failed, wholly or in the middle."""
        return [source for source in self.sources if source.error is not None]

    @property
    def coverage(self) -> float | None:
        """The share of faces whose emotion is certain; None without faces."""
        faces = sum(source.faces for source in self.sources)
        return 1 - self._emotions()["uncertain"] / faces if faces else None

    def lines(self) -> list[str]:
        """For people."""
        frames, faces, failed = sum(s.frames for s in self.sources), sum(s.faces for s in self.sources), self.failed
        done = f"{len(self.sources) - len(failed)} of {_count(len(self.sources), 'input')} done"
        lines = [f"{done}, {_count(frames, 'frame')}, {_count(faces, 'face')}"]
        if faces:
            lines.append("emotions: " + ", ".join(f"{name} {count}" for name, count in self._emotions().most_common()))
        if faces and self._min_confidence > 0:
            lines.append(f"coverage: {self.coverage:.1%} of the faces reach a confidence of {self._min_confidence:g}")
        if self.meter.frames:
            p50, p95 = self.meter.latency_ms(50), self.meter.latency_ms(95)
            lines.append(f"speed: {self.meter.frame_rate:.1f} frames/s; latency p50 {p50:.1f} ms, p95 {p95:.1f} ms")
        if dropped := sum(source.left_out for source in self.sources):
            lines.append(f"dropped: {dropped} live frames, for newer ones")
        for reason, names in self.skipped.items():
            lines.append(f"skipped: {_count(len(names), 'file')}, {reason}: {_some(names)}")
        if failed:
            lines.append(f"failed: {_some([source.name for source in failed])}")
        if files := [file for source in self.sources for file in source.files]:
            lines.append(f"written: {_some(files)}")
        return lines

    def to_json(self) -> str:
        """Everything, for programs."""
        sources = []
        for source in self.sources:
            values = dataclasses.asdict(source) | {"emotions": dict(source.emotions.most_common())}
            sources.append({"source": values.pop("name"), **values})
        summary = {
            "sources": sources,
            "failed": len(self.failed),
            "skipped": self.skipped,
            "min_confidence": self._min_confidence,
            "coverage": self.coverage,
            "frames_per_second": round(self.meter.frame_rate, 2),
            "latency_ms_p50": round(self.meter.latency_ms(50), 2),
            "latency_ms_p95": round(self.meter.latency_ms(95), 2),
        }
        return json.dumps(summary, ensure_ascii=False, indent=2) + "\n"

    def _emotions(self) -> Counter[str]:
        return sum((source.emotions for source in self.sources), Counter[str]())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
