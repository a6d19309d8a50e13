"""Calibration: temperature scaling and reliability diagrams."""

from typing import NamedTuple

import numpy as np

from emodet.arrays import Float64, Floats, Int64
from emodet.errors import EmodetError, require
from emodet.models.agreement import ratio

BINS = 15
"""Equal-width bins of the confidence, as in Guo et al. 2017."""

TEMPERATURE_RANGE = (0.05, 20.0)
"""Limits of `fit_temperature`."""

_MAX_POWER = 3.0


class ReliabilityBin(NamedTuple):
    """Bin of faces with confidences from `low` to below `high` (or up to 1); means are None without faces."""

    low: float
    high: float
    faces: int
    confidence: float | None
    accuracy: float | None


def softmax(logits: Floats, temperature: float = 1.0) -> Float64:
    """Return probabilities, float64 (N, K), from logits (N, K) divided by a temperature above 0."""
    require(temperature > 0, "temperature", temperature, "a number above 0")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def fit_temperature(logits: Floats, emotion: Int64) -> float:
    """Fit the temperature that minimises the mean negative log likelihood (Guo et al. 2017, section 4.2).

    Use faces that belong neither to the training nor to the reported faces. The loss is convex in 1 / T.

    Args:
        logits: (N, K), at least one face; raises `EmodetError` if a value is not finite.
        emotion: Integers, (N,): true class, 0 to K - 1.

    Returns:
        T in `TEMPERATURE_RANGE`: an end of the range if the loss is monotonic (the low end for a net that is always
        correct), and 1.0 if the temperature has no effect (all logits of each row are equal).
    """
    rows = np.asarray(logits, dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise EmodetError(f"logits: {(~finite).sum()} of {len(rows)} faces are not finite; training diverged")
    from scipy.optimize import brentq

    true_logit = rows[np.arange(len(rows)), emotion]

    def slope(inverse: float) -> float:
        """Derivative of the loss by 1 / T: expected logit minus logit of the true class."""
        return float(np.mean((softmax(rows, 1 / inverse) * rows).sum(axis=1) - true_logit))

    low, high = 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0]
    flat = 1e-12 * max(1.0, float(np.abs(rows).max()))
    at_low, at_high = slope(low), slope(high)
    if abs(at_low) <= flat and abs(at_high) <= flat:
        return 1.0
    if at_low >= 0:
        return TEMPERATURE_RANGE[1]
    if at_high <= 0:
        return TEMPERATURE_RANGE[0]
    return float(1 / brentq(slope, low, high, xtol=1e-14))


def fit_temperature_by_strength(logits: Floats, emotion: Int64, strength: Floats) -> tuple[float, float]:
    """Fit T and p of the temperature T·s^p, where s is the strength of a face's features relative to the typical one.

    Maximum a posteriori estimate with a normal prior of deviation 1 for p, which matters for few faces. `logits` and
    `emotion` as in `fit_temperature`; `strength`, (N,), see `emodet.models.nets`.
    """
    from scipy.optimize import minimize

    start = fit_temperature(logits, emotion)
    rows, logs = np.asarray(logits, dtype=np.float64), np.log(np.asarray(strength, dtype=np.float64))
    true, middle = np.arange(len(rows)), logs.mean()
    terms = np.stack([np.ones_like(logs), logs - middle])

    def loss(values: Float64) -> tuple[float, Float64]:
        scaled = rows / np.exp(values @ terms)[:, None]
        scaled -= scaled.max(axis=1, keepdims=True)
        probabilities = np.exp(scaled)
        total = probabilities.sum(axis=1)
        # d NLL / d log T: scaled logit of the true class minus the expected one.
        by_log = scaled[true, emotion] - (probabilities * scaled).sum(axis=1) / total
        nll = np.log(total) - scaled[true, emotion]
        penalty = np.array([0.0, values[1]]) / len(rows)
        return float(nll.mean() + penalty @ values / 2), terms @ by_log / len(rows) + penalty

    limits = [tuple(np.log(TEMPERATURE_RANGE)), (-_MAX_POWER, _MAX_POWER)]
    at_middle, power = minimize(loss, [np.log(start), 0], jac=True, bounds=limits, method="L-BFGS-B").x
    return float(np.exp(at_middle - power * middle)), float(power)


def confidence_for(probabilities: Floats, emotion: Int64, accuracy: float = 0.95) -> float | None:
    """Return the lowest confidence threshold from which predictions are right at this rate.

    `probabilities` are (N, K), `emotion` int64 (N,). Returns None if even the most confident predictions do not reach
    the rate.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    confidence, correct = rows.max(axis=1), rows.argmax(axis=1) == emotion
    order = np.argsort(-confidence, kind="stable")
    rate = np.cumsum(correct[order]) / np.arange(1, len(rows) + 1)
    # Faces of equal confidence are above the threshold together.
    last_of_equals = np.append(np.diff(confidence[order]) < 0, True)
    enough = np.flatnonzero(last_of_equals & (rate >= accuracy))
    return float(confidence[order][enough[-1]]) if enough.size else None


def bin_of(confidence: Floats) -> Int64:
    """Return the index of the equal-width bin of each confidence (N,): int64 (N,). The last bin includes 1."""
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    return np.searchsorted(edges, np.asarray(confidence, dtype=np.float64), side="right").astype(np.int64)


def reliability_bins(probabilities: Floats, emotion: Int64) -> tuple[ReliabilityBin, ...]:
    """Return confidence and accuracy in bins of the highest probability.

    `probabilities` are (N, K), `emotion`, int64 (N,), are the true classes.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    confidence, correct = rows.max(axis=1), rows.argmax(axis=1) == emotion
    place = bin_of(confidence)
    faces = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=weights, minlength=BINS) for weights in (confidence, correct)]
    means = [[float(total / n) if n else None for total, n in zip(each, faces, strict=True)] for each in sums]
    return tuple(
        ReliabilityBin(at / BINS, (at + 1) / BINS, int(faces[at]), means[0][at], means[1][at]) for at in range(BINS)
    )


def calibration_gaps(probabilities: Floats, emotion: Int64) -> Float64:
    """Return each face's terms of the calibration error: float64 (N, BINS).

    In the bin of its confidence: 1 minus the confidence for a correct prediction, else minus the confidence; 0 in the
    other bins. Arguments as in `reliability_bins`.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    confidence, every = rows.max(axis=1), np.arange(len(rows))
    gaps = np.zeros((len(rows), BINS))
    gaps[every, bin_of(confidence)] = (rows.argmax(axis=1) == emotion) - confidence
    return gaps


def expected_calibration_error(gaps: Float64, faces: Float64 | int) -> Float64:
    """Return the mean gap between confidence and accuracy, 0 to 1 (Naeini et al. 2015).

    `gaps` are sums (…, BINS) of `calibration_gaps` over `faces` faces (…).
    """
    return ratio(np.abs(gaps).sum(axis=-1), np.asarray(faces))
