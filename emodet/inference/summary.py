"""What a run did, counted as it goes: for the lines at its end and for `summary.json`."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emodet.inference.faces import Face
from emodet.inference.meter import Meter

__all__ = ["SourceSummary", "Summary"]


@dataclass(slots=True)
class SourceSummary:
    """One input.

    Attributes:
        name: As in the rows.
        frames: How many were recognised.
        faces: How many faces those held together.
        emotions: How often each label was given.
        left_out: Frames of something live that were never looked at, since a newer one was there.
        error: Why it failed, or None.
        files: What was written about it.
    """

    name: str
    frames: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
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
        sources: One for each input, in order. Only inputs are kept, not frames.
        meter: Frame rate and latency over all of them.
    """

    def __init__(self, *, min_confidence: float) -> None:
        self.sources: list[SourceSummary] = []
        self.meter = Meter()
        self._min_confidence = min_confidence

    def begin(self, name: str) -> SourceSummary:
        """Start with the next input."""
        self.sources.append(SourceSummary(name))
        return self.sources[-1]

    @property
    def failed(self) -> list[SourceSummary]:
        """The inputs that failed, wholly or in the middle."""
        return [source for source in self.sources if source.error is not None]

    @property
    def coverage(self) -> float | None:
        """The share of faces whose emotion was certain; None without faces."""
        faces = sum(source.faces for source in self.sources)
        return 1 - self._emotions()["uncertain"] / faces if faces else None

    def lines(self) -> list[str]:
        """For people, one after the other."""
        frames, faces = sum(s.frames for s in self.sources), sum(s.faces for s in self.sources)
        done = len(self.sources) - len(self.failed)
        lines = [
            f"{done} of {len(self.sources)} input{'s' * (len(self.sources) != 1)} done, "
            f"{frames} frame{'s' * (frames != 1)}, {faces} face{'s' * (faces != 1)}"
        ]
        if faces:
            counts = ", ".join(f"{name} {count}" for name, count in self._emotions().most_common())
            lines.append(f"emotions: {counts}")
        if faces and self._min_confidence > 0:
            lines.append(f"coverage: {self.coverage:.1%} of the faces reach a confidence of {self._min_confidence:g}")
        if self.meter.frames:
            lines.append(
                f"speed: {self.meter.frame_rate:.1f} frames/s; latency p50 {self.meter.latency_ms(50):.1f} ms, "
                f"p95 {self.meter.latency_ms(95):.1f} ms"
            )
        left_out = sum(source.left_out for source in self.sources)
        if left_out:
            lines.append(f"left out: {left_out} live frames, for newer ones")
        return lines

    def to_json(self) -> str:
        """Everything, for programs."""
        sources: list[dict[str, Any]] = [
            {
                "source": source.name,
                "frames": source.frames,
                "faces": source.faces,
                "emotions": dict(source.emotions.most_common()),
                "left_out": source.left_out,
                "error": source.error,
                "files": source.files,
            }
            for source in self.sources
        ]
        values = {
            "sources": sources,
            "failed": len(self.failed),
            "min_confidence": self._min_confidence,
            "coverage": self.coverage,
            "frames_per_second": round(self.meter.frame_rate, 2),
            "latency_ms_p50": round(self.meter.latency_ms(50), 2),
            "latency_ms_p95": round(self.meter.latency_ms(95), 2),
        }
        return json.dumps(values, ensure_ascii=False, indent=2) + "\n"

    def _emotions(self) -> Counter[str]:
        return sum((source.emotions for source in self.sources), Counter[str]())
