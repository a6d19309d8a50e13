"""Counts, frame rate and latency of a run, printed and in `summary.json`; its progress for `--resume`."""

import dataclasses
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emodet.emotions import UNCERTAIN
from emodet.errors import EmodetError, os_errors
from emodet.inference.faces import Face
from emodet.inference.rows import RowsError
from emodet.inference.sources import printable

_MAX_PRINTED = 5  # file names per printed line
_MAX_LISTED = 1000  # inputs, failed inputs, skipped files and written files in summary.json
_NOTE_EVERY = 10
_RESTART_HINT = "name another folder, or leave out --resume to start again"

_log = logging.getLogger(__name__)


class Meter:
    """Measures the frame rate, and the latency of the last 2000 frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.note = ""  # recent frame rate and latency, updated every ten frames
        self._latencies: deque[float] = deque(maxlen=2000)
        self._recent: deque[float] = deque(maxlen=60)  # finishing times of the last frames
        self._first = self._last = time.perf_counter()

    def add(self, latency_s: float | None, frames: int = 1) -> None:
        """Add finished frames; if their latency is None, only to the frame rate."""
        self.frames += frames
        self._last = time.perf_counter()
        if latency_s is None:
            return
        self._latencies.append(latency_s)
        self._recent.append(self._last)
        if self.frames % _NOTE_EVERY == 1:
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
    """Results of one input: numbers of frames, faces and each label, notes, error, and written files."""

    name: str
    frames: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter)
    left_out: int = 0  # frames of a live source that were dropped for newer ones
    damaged: int = 0  # frames of a video that could not be decoded
    notes: list[str] = field(default_factory=list)  # warnings of inputs that were read
    error: str | None = None  # reason of the failure
    files: list[str] = field(default_factory=list)

    def add(self, faces: Sequence[Face]) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(faces)
        self.emotions.update(face.emotion for face in faces)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Store an exception as this input's error; raise exceptions that end the run."""
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
    """Results of all inputs of a run, and skipped files. Lists contain at most the first 1000 items."""

    def __init__(self, *, min_confidence: float = 0) -> None:
        self.sources: list[SourceSummary] = []  # the first inputs, and the first failed ones
        self.total = SourceSummary("")  # sums over all inputs; the first written files
        self.inputs = self.failed = 0  # inputs that failed midway count as failed
        self.earlier = 0  # inputs that an earlier run finished
        self.skipped: dict[str, list[str]] = {}  # names of skipped files by reason
        self.skipped_count: Counter[str] = Counter()  # number of skipped files by reason
        self.meter = Meter()
        self.min_confidence = min_confidence

    def skip(self, path: Path, reason: str) -> None:
        """Count a file that a folder or glob skips."""
        self.skipped_count[reason] += 1
        names = self.skipped.setdefault(reason, [])
        if len(names) < _MAX_LISTED:
            names.append(printable(path))

    def add(self, source: SourceSummary) -> None:
        """Count a finished input."""
        self.inputs += 1
        self.failed += source.error is not None
        if self.inputs <= _MAX_LISTED or (source.error is not None and self.failed <= _MAX_LISTED):
            self.sources.append(source)
        for name in ("frames", "faces", "left_out", "damaged"):
            setattr(self.total, name, getattr(self.total, name) + getattr(source, name))
        self.total.emotions += source.emotions
        self.total.files.extend(source.files[: _MAX_LISTED - len(self.total.files)])

    @property
    def coverage(self) -> float | None:
        """Share of faces with a certain emotion; None without faces."""
        return 1 - self.total.emotions[UNCERTAIN] / self.total.faces if self.total.faces else None

    def lines(self) -> list[str]:
        """Return the lines to print."""
        total = self.total
        done = f"{self.inputs - self.failed} of {_count(self.inputs, 'input')} done"
        lines = [f"{done}, {_count(total.frames, 'frame')}, {_count(total.faces, 'face')}"]
        if self.earlier:
            lines.append(f"resumed: {_count(self.earlier, 'input')} done earlier")
        if total.faces:
            lines.append("emotions: " + ", ".join(f"{name} {count}" for name, count in total.emotions.most_common()))
        if total.faces and self.min_confidence > 0:
            lines.append(f"certain: {self.coverage:.1%} of the faces (confidence of {self.min_confidence:.3g} or more)")
        if self.meter.frames > 1:  # the first frame includes the start of the nets
            p50, p95 = self.meter.latency_ms(50), self.meter.latency_ms(95)
            latency = f"; latency p50 {p50:.1f} ms, p95 {p95:.1f} ms" if p95 else ""  # unknown for other processes
            lines.append(f"speed: {self.meter.frame_rate:.1f} frames/s{latency}")
        if total.left_out:
            lines.append(f"dropped: {total.left_out} live frames, replaced by newer ones")
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
        """Return the content of `summary.json`."""
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


class Progress:
    """The file ``progress.jsonl``: the run's settings, then one line per finished batch of inputs; a context manager.

    A line contains the size of the rows file after the batch, and name, number of faces and error of each input. A
    resumed run truncates the rows file to the size in the last complete line, and repeats later inputs as well as
    inputs that failed without a row.

    Attributes:
        resumed: Whether to append to existing rows.
        earlier: Number of inputs that an earlier run finished.
    """

    def __init__(self, rows: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Start a progress file, or resume it; raises `EmodetError` if it is missing, damaged or of other settings."""
        self._rows, self._path = rows, rows.with_name("progress.jsonl")
        self._done: set[int] = set()
        self.resumed = False
        header = json.dumps(settings, ensure_ascii=False)
        with os_errors(f"--output {rows.parent}: {self._path.name} could not be opened"):
            if resume and (self._path.exists() or rows.exists()):
                self.resumed = self._resume(json.loads(header)) > 0
            else:
                self._path.write_text(header + "\n", encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        self.earlier = len(self._done)

    def __contains__(self, name: str) -> bool:
        return hash(name) in self._done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # `add` has already reported a full disk
            self._file.close()

    def add(self, inputs: Sequence[SourceSummary]) -> None:
        """Record finished inputs, after their rows were written."""
        lines = [[each.name, each.faces, *([each.error] if each.error else [])] for each in inputs]
        with os_errors(f"{self._path}: could not be written", kind=RowsError):
            line = {"size": self._rows.stat().st_size, "inputs": lines}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def _resume(self, header: Mapping[str, Any]) -> int:
        """Truncate both files after the last complete batch; returns the size of the rows file."""
        for path in (self._path, self._rows):
            if not path.exists():
                raise EmodetError(f"--resume: there is no {path}; {_RESTART_HINT}")
        end = size = 0
        try:
            with self._path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):  # the run was killed while writing this line
                        break
                    values = json.loads(line)
                    if not end:
                        _compare(values, header)
                    else:
                        size = values["size"]
                        self._done.update(hash(each[0]) for each in values["inputs"] if len(each) == 2 or each[1])
                    end += len(line)
            if not end:  # emptied by a power cut, say: the rows stay
                raise ValueError
        except (ValueError, TypeError, LookupError):
            raise EmodetError(f"--resume: {self._path} is damaged; {_RESTART_HINT}") from None
        if self._rows.stat().st_size < size:
            raise EmodetError(f"--resume: {self._rows} is shorter than {self._path.name} states; {_RESTART_HINT}")
        for path, length in ((self._path, end), (self._rows, size)):
            with path.open("r+b") as file:
                file.truncate(length)
        return size


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _first_of(names: Sequence[str], count: int) -> str:
    """Join the first of `count` names for a line."""
    more = f" and {count - _MAX_PRINTED} more" if count > _MAX_PRINTED else ""
    return ", ".join(names[:_MAX_PRINTED]) + more


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        values = ", ".join(f"{key}={new.get(key)} instead of {old.get(key)}" for key in changed)
        raise EmodetError(f"--resume: the rows were made with other settings: {values}; {_RESTART_HINT}")
