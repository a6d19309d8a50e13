"""Parity report: comparison of exported files with their checkpoint, and their speed."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emodet.arrays import Floats, UInt8
from emodet.cpu import available_cores, cpu_info
from emodet.evaluation.scores import Evaluation
from emodet.modelfile import ModelFile

Outputs = tuple[Floats, Floats | None]
Verdict = Literal["passed", "failed", "warning", "recorded"]

MAX_DIFFERENCE = 1e-5
"""Maximum difference between probabilities of an unquantised file and of the checkpoint."""
MAX_DIMENSION_DIFFERENCE = 1e-4
"""Maximum difference of valence and arousal, which are not reduced by a softmax."""
MAX_ROW_ERROR = 1e-5
"""Maximum difference between the sum of a face's probabilities and 1."""
MAX_ACCURACY_LOSS = 0.005
"""Maximum loss of accuracy of the quantised file compared with fp32: half a point."""
_SPEED_BATCHES = (1, 32)
_SECONDS_PER_FILE, _MIN_ROUNDS, _MAX_ROUNDS = 4.0, 7, 60


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    file: str  # fp32 or int8
    what: str  # description of the measurement
    value: float
    limit: float | None  # maximum value that passes; None if the value is only recorded
    faces: int
    verdict: Verdict = "recorded"  # a file with "failed" is not written, one with "warning" is not the default


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Results of the checks before the files are written."""

    checks: tuple[Check, ...]
    threads: int
    machine: Mapping[str, Any]
    compared_on: str  # description of the crops of the comparison
    judged_on: str  # labelled faces of the accuracy; empty without data
    written: Mapping[str, bool]  # whether each file is written
    default: str | None  # recommended model file: int8 if it is written and never slower

    def failures(self) -> list[Check]:
        """Return the failed checks."""
        return [check for check in self.checks if check.verdict == "failed"]

    def table(self) -> str:
        """Return the report as plain text."""
        lines = [f"{'file':<4}  {'check':<59}  {'measured':>9}  {'limit':>7}  {'faces':>7}"]
        for each in self.checks:
            limit = "" if each.limit is None else _text(each.limit)
            verdict = "FAILED" if each.verdict == "failed" else each.verdict
            lines.append(
                f"{each.file:<4}  {each.what:<59}  {_text(each.value):>9}  {limit:>7}  {each.faces:>7,}  {verdict}"
            )
        lines += ["", f"compared on {self.compared_on}"]
        lines += [f"accuracy on {self.judged_on}"] if self.judged_on else []
        lines.append(f"{self.threads} thread{'s' * (self.threads > 1)}, {self.machine['processor']}")
        return "\n".join(lines)


def difference_checks(file: str, expected: Outputs, found: Outputs, *, limited: bool) -> list[Check]:
    """Check differences of probabilities (N, K), and of valence and arousal (N, 2) if any, and row sums.

    `limited`: whether `MAX_DIFFERENCE` and `MAX_DIMENSION_DIFFERENCE` apply; otherwise only values that are not finite
    fail.
    """
    named = (("a probability", MAX_DIFFERENCE), ("valence or arousal", MAX_DIMENSION_DIFFERENCE))
    checks = []
    for one, other, (name, limit) in zip(expected, found, named, strict=True):
        if one is None or other is None:
            continue
        value = float(np.abs(np.asarray(one, np.float64) - other).max())
        what = f"largest difference of {name} from {'the checkpoint' if limited else 'fp32'}"
        checks.append(_check(file, what, value, limit if limited else None, len(other)))
    value = float(np.abs(np.asarray(found[0], np.float64).sum(axis=1) - 1).max())
    return [*checks, _check(file, "largest distance of a face's sum from 1", value, MAX_ROW_ERROR, len(found[0]))]


def _check(file: str, what: str, value: float, limit: float | None, faces: int) -> Check:
    """Create a check that fails above its limit, or if the value is not finite."""
    fails = not (np.isfinite(value) if limit is None else value <= limit)
    return Check(file, what, value, limit, faces, "failed" if fails else "recorded" if limit is None else "passed")


def score_checks(file: str, found: Evaluation, fp32: Evaluation) -> list[Check]:
    """Check accuracy on labelled faces, its loss against fp32 (negative: a gain), and valence/arousal agreement."""
    faces, correct, reference = found.faces, *(int(each.confusion.trace()) for each in (found, fp32))
    checks = [Check(file, "accuracy", correct / faces, None, faces)]
    if file != "fp32":
        lost = reference - correct
        # Counted in faces, so that rounding does not decide about a loss of exactly half a point.
        verdict: Verdict = "passed" if lost <= MAX_ACCURACY_LOSS * faces + 1e-9 else "failed"
        checks.append(Check(file, "accuracy lost against fp32", lost / faces, MAX_ACCURACY_LOSS, faces, verdict))
    rows = ((name, found[f"ccc_{name}"]) for name in found.dimensions)
    return checks + [
        Check(file, f"CCC of {name}", ccc.value, None, ccc.n) for name, ccc in rows if ccc.value is not None
    ]


def speed_checks(medians: Mapping[tuple[str, int], float]) -> list[Check]:
    """Check time per call, and its ratio to fp32 for each batch size; a ratio above 1 is a warning."""
    checks = [Check(file, f"milliseconds, batch {n}", median, None, n) for (file, n), median in medians.items()]
    for (file, n), median in medians.items():
        if file != "fp32":
            value = median / medians["fp32", n]
            verdict: Verdict = "warning" if value > 1 else "recorded"
            checks.append(Check(file, f"time against fp32, batch {n}", value, None, n, verdict))
    return checks


def measure_speed(models: Mapping[str, ModelFile], crops: UInt8) -> dict[tuple[str, int], float]:
    """Measure milliseconds by file and batch size: the median of up to 60 calls after two warm-up calls.

    Calls of the files alternate, so that a slow phase of the machine affects all of them. `crops`, uint8
    (N, size, size, 3), are repeated if a batch needs more.
    """
    medians: dict[tuple[str, int], float] = {}
    for batch in _SPEED_BATCHES:
        faces = np.resize(crops, (batch, *crops.shape[1:]))
        times: dict[str, list[float]] = {name: [] for name in models}
        end = time.perf_counter() + _SECONDS_PER_FILE * len(models)
        for number in range(2 + _MAX_ROUNDS):
            for name, model in models.items():
                start = time.perf_counter()
                model.run(faces, batch_size=batch)
                times[name].append(time.perf_counter() - start)
            if number > _MIN_ROUNDS and time.perf_counter() > end:
                break
        medians |= {(name, batch): 1000 * float(np.median(taken[2:])) for name, taken in times.items()}
    return medians


def machine() -> dict[str, Any]:
    """Describe the machine: processor, available cores, VNNI (int8 instructions), and runtime."""
    import onnxruntime

    cpu = cpu_info()
    return {
        "processor": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "vnni": "vnni" in cpu["flags"] if "flags" in cpu else None,
        "system": f"{platform.system()} {platform.machine()}",
        "onnxruntime": onnxruntime.__version__,
    }


def _text(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"
