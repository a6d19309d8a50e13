"""The gate: what an exported file must hold to before it is written, measured against what it was made from."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.evaluation.calibration import softmax
from emodet.evaluation.outputs import SplitOutputs
from emodet.evaluation.scores import Evaluation
from emodet.modelfile import ModelFile

__all__ = [
    "LARGEST_ACCURACY_LOSS",
    "LARGEST_BESIDE",
    "LARGEST_DIFFERENCE",
    "LARGEST_ROW_ERROR",
    "SPEED_BATCHES",
    "Check",
    "Gate",
    "Speed",
    "accuracy_check",
    "accuracy_of",
    "agreements_of",
    "beside_checks",
    "difference_check",
    "machine",
    "measure_speed",
    "row_sum_check",
    "speed_check",
]

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
Verdict = Literal["passed", "failed", "warning", "recorded"]

LARGEST_DIFFERENCE = 1e-5
"""Of a probability of an unquantised file from the checkpoint's."""
LARGEST_BESIDE = 1e-4
"""Likewise of valence and arousal, which no softmax makes smaller."""
LARGEST_ROW_ERROR = 1e-5
"""Of the sum of a face's probabilities from 1."""
LARGEST_ACCURACY_LOSS = 0.005
"""Of the quantised file against fp32, as a share of the faces: half a point."""
SPEED_BATCHES = (1, 32)
_SECONDS_PER_FILE, _FEWEST_ROUNDS, _MOST_ROUNDS = 4.0, 7, 60


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the gate.

    Attributes:
        file: Which of the files: ``fp32``, ``int8``, ``pt2``.
        what: What was measured, in words.
        value: The measured value.
        limit: What it may be at most; None where it is only written down.
        faces: On how many faces.
        verdict: ``failed`` keeps the file from being written, ``warning`` from being the default.
    """

    file: str
    what: str
    value: float
    limit: float | None
    faces: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a file runs.

    Attributes:
        file: Which of the files.
        batch: Faces per call.
        median_ms: Of a call.
        faces_per_s: ``batch`` by the median.
        rounds: How many calls were timed, after two that were not.
    """

    file: str
    batch: int
    median_ms: float
    faces_per_s: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Everything that was measured before the files were written.

    Attributes:
        checks: In the order in which they were made.
        speeds: Of every `.onnx` file at every batch size.
        threads: That ONNX Runtime used.
        machine: See `machine`.
        compared_on: What the crops were that the files were compared on.
        judged_on: The labelled faces that accuracy was measured on, empty if none were at hand.
        written: File to whether it was written.
        default: Which model file to use where both are there: int8 if it was written and is nowhere slower.
    """

    checks: tuple[Check, ...]
    speeds: tuple[Speed, ...]
    threads: int
    machine: Mapping[str, Any]
    compared_on: str
    judged_on: str
    written: Mapping[str, bool]
    default: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are stored beside the files."""
        return asdict(self)

    def table(self) -> str:
        """The gate as plain text for a terminal."""
        rows = [("file", "check", "measured", "at most", "faces", "")]
        rows += [
            (
                each.file,
                each.what,
                _shown(each.value),
                "" if each.limit is None else _shown(each.limit),
                f"{each.faces:,}",
                each.verdict if each.verdict != "failed" else "FAILED",
            )
            for each in self.checks
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  "
            f"{row[4]:>{widths[4]}}  {row[5]}".rstrip()
            for row in rows
        ]
        lines += ["", f"compared on {self.compared_on}"]
        if self.judged_on:
            lines.append(f"judged on {self.judged_on}")
        if self.speeds:
            lines += ["", f"{'file':<6}  {'batch':>5}  {'median':>10}  {'faces/s':>9}"]
            lines += [
                f"{each.file:<6}  {each.batch:>5}  {each.median_ms:>7.2f} ms  {each.faces_per_s:>9,.0f}"
                for each in self.speeds
            ]
            lines.append(f"{self.threads} thread{'s' * (self.threads > 1)}, {self.machine['processor']}")
        return "\n".join(lines)


def difference_check(
    file: str,
    expected: Floats,
    found: Floats,
    *,
    limited: bool,
    of: str = "a probability",
    most: float = LARGEST_DIFFERENCE,
) -> Check:
    """The largest difference between two answers on the same faces.

    Args:
        file: Which file `found` is of.
        expected: (N, K).
        found: (N, K).
        limited: Whether more than `most` fails; otherwise it is written down.
        of: What the numbers are.
        most: See `limited`.
    """
    if expected.shape != found.shape:
        raise EmodetError(f"{file}: answers of shape {found.shape}, {expected.shape} were expected")
    value = float(np.abs(np.asarray(expected, np.float64) - found).max())
    verdict: Verdict = "recorded"
    if limited:
        verdict = "passed" if value <= most else "failed"
    elif not np.isfinite(value):
        verdict = "failed"
    against = "the checkpoint" if limited else "fp32"
    limit = most if limited else None
    return Check(file, f"largest difference of {of} from {against}", value, limit, len(found), verdict)


def beside_checks(file: str, expected: Floats | None, found: Floats | None, *, limited: bool) -> list[Check]:
    """`difference_check` of valence and arousal, (N, 2) or None; nothing where neither has them."""
    if expected is None and found is None:
        return []
    if expected is None or found is None:
        raise EmodetError(f"{file}: one of two answers has valence and arousal, the other has not")
    return [difference_check(file, expected, found, limited=limited, of="valence or arousal", most=LARGEST_BESIDE)]


def agreements_of(file: str, evaluation: Evaluation) -> list[Check]:
    """How well valence and arousal agree with what was annotated, for the record; nothing where that is not known."""
    checks = []
    for name in evaluation.dimensions:
        ccc = evaluation[f"ccc_{name}"]
        if ccc.value is not None:
            checks.append(Check(file, f"CCC of {name}", ccc.value, None, ccc.n, "recorded"))
    return checks


def row_sum_check(file: str, probabilities: Floats) -> Check:
    """How far a face's probabilities are from summing to 1, at most."""
    value = float(np.abs(np.asarray(probabilities, np.float64).sum(axis=1) - 1).max())
    verdict: Verdict = "passed" if value <= LARGEST_ROW_ERROR else "failed"
    what = "largest distance of a face's sum from 1"
    return Check(file, what, value, LARGEST_ROW_ERROR, len(probabilities), verdict)


def accuracy_of(file: str, answers: SplitOutputs) -> Check:
    """The share of the labelled faces that a file gets right, for the record."""
    faces = len(answers.emotion)
    return Check(file, "accuracy", _right(answers) / faces, None, faces, "recorded")


def accuracy_check(file: str, reference: SplitOutputs, found: SplitOutputs) -> Check:
    """How many more of the labelled faces the reference gets right, as a share; negative where it gets fewer."""
    if not np.array_equal(reference.index, found.index):
        raise EmodetError(f"{file}: answers on other faces than the reference")
    lost = _right(reference) - _right(found)
    value = lost / len(found.emotion)
    # Counted in faces: a limit of exactly half a point is not to be decided by rounding.
    verdict: Verdict = "passed" if lost <= LARGEST_ACCURACY_LOSS * len(found.emotion) + 1e-9 else "failed"
    return Check(file, "accuracy lost against fp32", value, LARGEST_ACCURACY_LOSS, len(found.emotion), verdict)


def speed_check(file: str, speeds: Sequence[Speed], reference: str = "fp32") -> list[Check]:
    """The time per face against the reference's, for each batch size; above 1 is slower, which is warned about."""
    checks = []
    for each in (speed for speed in speeds if speed.file == file):
        other = next(speed for speed in speeds if speed.file == reference and speed.batch == each.batch)
        value = each.median_ms / other.median_ms
        verdict: Verdict = "warning" if value > 1 else "recorded"
        checks.append(Check(file, f"time against {reference}, batch {each.batch}", value, None, each.batch, verdict))
    return checks


def measure_speed(
    models: Mapping[str, ModelFile], crops: UInt8, batches: Sequence[int] = SPEED_BATCHES
) -> tuple[Speed, ...]:
    """Time model files on the same crops.

    The files take turns, so that a machine that slows down slows all of them.

    Args:
        models: By the name of the file.
        crops: uint8 (n, size, size, 3); repeated where a batch needs more.
        batches: Faces per call.
    """
    speeds = []
    for batch in batches:
        faces = np.resize(crops, (batch, *crops.shape[1:]))
        times: dict[str, list[float]] = {name: [] for name in models}
        for model in models.values():
            model.run(faces, batch_size=batch)
            model.run(faces, batch_size=batch)
        end = time.perf_counter() + _SECONDS_PER_FILE * len(models)
        for number in range(_MOST_ROUNDS):
            for name, model in models.items():
                start = time.perf_counter()
                model.run(faces, batch_size=batch)
                times[name].append(time.perf_counter() - start)
            if number + 1 >= _FEWEST_ROUNDS and time.perf_counter() > end:
                break
        for name, taken in times.items():
            median = float(np.median(taken))
            speeds.append(Speed(name, batch, 1000 * median, batch / median, len(taken)))
    return tuple(speeds)


def machine() -> dict[str, Any]:
    """Processor, its cores that this process may use, whether it has the int8 instructions, and the runtime."""
    import onnxruntime

    described = _cpu_lines()
    flags = described.get("flags", "").split()
    return {
        "processor": described.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vnni": any("vnni" in flag for flag in flags) if flags else None,
        "system": f"{platform.system()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
    }


def _cpu_lines() -> dict[str, str]:
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return {}
    pairs = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _right(answers: SplitOutputs) -> int:
    return int((softmax(answers.logits).argmax(axis=1) == answers.emotion).sum())


def _shown(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
