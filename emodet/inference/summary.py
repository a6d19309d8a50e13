"""Counts, frame rate and latency of a run, for the lines at its end and for `summary.json`."""

import dataclasses
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emodet.emotions import UNCERTAIN
from emodet.errors import EmodetError
from emodet.inference.faces import Face
from emodet.inference.rows import RowsError
from emodet.inference.sources import printable

_NAMED = 5  # files named per line for people; summary.json has all
_KEPT = 1000  # inputs, failed inputs, skipped files, and files of a large run
_NOTED_EVERY = 10

_log = logging.getLogger(__name__)


class Meter:
    """Frame rate, and latency over the last 2000 frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.note = ""  # recent frame rate and latency, updated every ten frames
        self._latencies: deque[float] = deque(maxlen=2000)
        self._recent: deque[float] = deque(maxlen=60)  # when the last frames were finished
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
            rate = (len(self._recent) - 1) / max(1e-6, self._last - self._recent[0])
            self.note = f"{rate:.0f} fps  p50 {self.latency_ms(50):.0f} ms  p95 {self.latency_ms(95):.0f} ms"

    @property
    def frame_rate(self) -> float:
        """Frames per second since the start; 0 before the first frame."""
        return self.frames / max(1e-6, self._last - self._first)

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the last 2000 latencies in milliseconds; 0 before the first frame."""
        return float(np.percentile(self._latencies, percentile)) * 1000 if self._latencies else 0.0


@dataclass(slots=True)
class SourceSummary:
    """One input: counts of recognised frames, of their faces and of each label, and what was written."""

    name: str
    frames: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter)
    left_out: int = 0  # frames of a live source that were dropped for newer ones
    damaged: int = 0  # frames of a video that could not be decoded
    notes: list[str] = field(default_factory=list)  # what the user should know though the input was read
    error: str | None = None  # why it failed
    files: list[str] = field(default_factory=list)

    def add(self, faces: Sequence[Face]) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(faces)
        self.emotions.update(face.emotion for face in faces)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Make an exception this input's error; what ends the run is raised."""
        try:
            yield
        except BrokenPipeError:
            raise
        except EmodetError as error:
            self.error = str(error)
            if isinstance(error, RowsError):
                raise
        except Exception as error:
            _log.exception("a defect of emodet; please report it")
            self.error = f"{self.name}: {type(error).__name__} ({error})"


class Summary:
    """All inputs of a run, and the files that were skipped."""

    def __init__(self, *, min_confidence: float = 0) -> None:
        self.sources: list[SourceSummary] = []  # the first 1000, and the first 1000 that failed: there may be millions
        self.total = SourceSummary("")  # sums over all inputs; of their files, the first 1000
        self.inputs = self.failed = 0  # also those that failed in the middle
        self.earlier = 0  # inputs that an earlier run has done
        self.skipped: dict[str, list[str]] = {}  # reason to names of files that were skipped, the first 1000 of each
        self.skipped_count: Counter[str] = Counter()  # reason to their number
        self.meter = Meter()
        self.min_confidence = min_confidence

    def skip(self, path: Path, reason: str) -> None:
        """Count a file that a folder or glob skips."""
        self.skipped_count[reason] += 1
        names = self.skipped.setdefault(reason, [])
        if len(names) < _KEPT:
            names.append(printable(path))

    def add(self, source: SourceSummary) -> None:
        """Count an input that is finished."""
        self.inputs += 1
        self.failed += source.error is not None
        if self.inputs <= _KEPT or (source.error is not None and self.failed <= _KEPT):
            self.sources.append(source)
        for name in ("frames", "faces", "left_out", "damaged"):
            setattr(self.total, name, getattr(self.total, name) + getattr(source, name))
        self.total.emotions += source.emotions
        self.total.files.extend(source.files[: _KEPT - len(self.total.files)])

    @property
    def coverage(self) -> float | None:
        """The share of faces whose emotion is certain; None without faces."""
        return 1 - self.total.emotions[UNCERTAIN] / self.total.faces if self.total.faces else None

    def lines(self) -> list[str]:
        """For people."""
        total = self.total
        done = f"{self.inputs - self.failed} of {_count(self.inputs, 'input')} done"
        lines = [f"{done}, {_count(total.frames, 'frame')}, {_count(total.faces, 'face')}"]
        if self.earlier:
            lines.append(f"resumed: {_count(self.earlier, 'input')} done earlier")
        if total.faces:
            lines.append("emotions: " + ", ".join(f"{name} {count}" for name, count in total.emotions.most_common()))
        if total.faces and self.min_confidence > 0:
            lines.append(f"certain: {self.coverage:.1%} of the faces (confidence of {self.min_confidence:.3g} or more)")
        if self.meter.frames > 1:  # the first takes the start of the nets, too
            p50, p95 = self.meter.latency_ms(50), self.meter.latency_ms(95)
            latency = f"; latency p50 {p50:.1f} ms, p95 {p95:.1f} ms" if p95 else ""  # other processes' is not known
            lines.append(f"speed: {self.meter.frame_rate:.1f} frames/s{latency}")
        if total.left_out:
            lines.append(f"dropped: {total.left_out} live frames, for newer ones")
        for reason, names in self.skipped.items():
            count = self.skipped_count[reason]
            lines.append(f"skipped: {_count(count, 'file')}, {reason}: {_first_of(names, count)}")
        if self.failed:
            names = [source.name for source in self.sources if source.error is not None]
            lines.append(f"failed: {_count(self.failed, 'input')}: {_first_of(names, self.failed)}")
        if total.files:
            lines.append(f"written: {_first_of(total.files, len(total.files))}")
        return lines

    def to_json(self) -> str:
        """Everything, for programs."""
        sources = []
        for source in self.sources:
            values = dataclasses.asdict(source) | {"emotions": dict(source.emotions.most_common())}
            sources.append({"source": values.pop("name"), **values})
        summary = {
            "sources": sources,
            "inputs": self.inputs,
            "failed": self.failed,
            "frames": self.total.frames,
            "faces": self.total.faces,
            "emotions": dict(self.total.emotions.most_common()),
            "skipped": self.skipped,
            "skipped_count": dict(self.skipped_count),
            "min_confidence": self.min_confidence,
            "coverage": self.coverage,
            "frames_per_second": round(self.meter.frame_rate, 2),
            "latency_ms_p50": round(self.meter.latency_ms(50), 2),
            "latency_ms_p95": round(self.meter.latency_ms(95), 2),
        }
        return json.dumps(summary, ensure_ascii=False, indent=2) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _first_of(names: Sequence[str], count: int) -> str:
    """The first of `count` names, for a line."""
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
