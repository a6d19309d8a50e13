"""Counts of a run, for the lines at its end and for `summary.json`."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from emodet.inference.faces import Face
from emodet.inference.meter import Meter

__all__ = ["SourceSummary", "Summary"]

_NAMED = 5  # files named per line for people; summary.json has all


@dataclass(slots=True)
class SourceSummary:
    """One input.

    Attributes:
        name: As in the rows.
        frames: Recognised frames.
        faces: Faces in them.
        emotions: How often each label was given.
        left_out: Frames of a live source that were dropped for newer ones.
        damaged: Frames of a video that could not be decoded.
        notes: What the user should know though the input was read.
        error: Why it failed, or None.
        files: Files written for it.
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
    """All inputs of a run.

    Attributes:
        sources: One per input, in order. Frames are not kept.
        skipped: Files that were passed over: reason to names.
        meter: Frame rate and latency over all inputs.
    """

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
        total = _count(len(self.sources), "input")
        lines = [
            f"{len(self.sources) - len(failed)} of {total} done, {_count(frames, 'frame')}, {_count(faces, 'face')}"
        ]
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
