"""Whether a confidence of 80 % is right four times in five, and the temperature that makes it so. numpy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = [
    "BINS",
    "TEMPERATURE_RANGE",
    "ReliabilityBin",
    "bin_of",
    "expected_calibration_error",
    "fit_temperature",
    "reliability_bins",
    "softmax",
]

Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]

BINS = 15
"""Equal-width bins of the confidence, as in Guo et al. 2017."""

TEMPERATURE_RANGE = (0.05, 20.0)
"""`fit_temperature` answers nothing outside."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bar of a reliability diagram.

    Attributes:
        low: Confidence from which the bin takes faces.
        high: Confidence below which it does; the last bin takes 1 as well.
        faces: How many fell in.
        confidence: Their mean confidence, None where there are none.
        accuracy: The share of them that is right, None where there are none.
    """

    low: float
    high: float
    faces: int
    confidence: float | None
    accuracy: float | None


def softmax(logits: Floats, temperature: float = 1.0) -> Float64:
    """Probabilities of logits divided by a temperature.

    Args:
        logits: (N, K).
        temperature: Above 0; above 1 makes the answer less sure.

    Returns:
        float64, (N, K), rows sum to 1.

    Raises:
        EmodetError: The temperature is not above 0.
    """
    if not temperature > 0:
        raise EmodetError(f"temperature={temperature}: must be above 0")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def fit_temperature(logits: Floats, emotion: Int64) -> float:
    """The temperature that minimises the mean negative log likelihood (Guo et al. 2017, section 4.2).

    Fit it on faces that the net was not trained on and that the report is not made of. It changes no decision, only how
    sure the answers are.

    The loss is convex in 1 / T, so the zero of its slope is found by bisection: no step size, no starting point.

    Args:
        logits: (N, K), finite.
        emotion: Integers, (N,): the true class, 0 to K - 1.

    Returns:
        T in `TEMPERATURE_RANGE`; an end of it where the loss falls all the way there (the low end for a net that is
        always right), and 1.0 where no temperature makes a difference (each row's logits are all equal).

    Raises:
        EmodetError: Shapes do not fit, there are no faces, or a logit is not finite.
    """
    rows = np.asarray(logits, dtype=np.float64)
    ids = np.asarray(emotion)
    if rows.ndim != 2 or ids.shape != rows.shape[:1] or len(rows) == 0:
        raise EmodetError(f"logits of shape {rows.shape} and emotion of shape {ids.shape}: (N, K) and (N,) are needed")
    if not np.isfinite(rows).all():
        faces = int((~np.isfinite(rows)).any(axis=1).sum())
        raise EmodetError(f"logits: {faces} of {len(rows)} faces have values that are not finite; training diverged")
    if ids.min() < 0 or ids.max() >= rows.shape[1]:
        raise EmodetError(f"emotion: ids from {ids.min()} to {ids.max()} do not fit logits of {rows.shape[1]} classes")
    true_logit = rows[np.arange(len(rows)), ids]

    def slope(inverse: float) -> float:
        """Of the loss, by 1 / T: what the net expects its logit to be, less what it is."""
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
    for _ in range(48):  # halves log(1 / T): 6 / 2**48 is far below what float64 logits can tell apart
        middle = float(np.sqrt(low * high))
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return float(1 / np.sqrt(low * high))


def bin_of(confidence: Floats, count: int = BINS) -> Int64:
    """Which of `count` equal-width bins each confidence falls in.

    Args:
        confidence: (N,), 0 to 1.
        count: Number of bins.

    Returns:
        int64, (N,), 0 to `count` - 1. A bin holds its lower edge; the last one also holds 1.
    """
    edges = np.linspace(0, 1, count + 1)[1:-1]
    return np.searchsorted(edges, np.asarray(confidence, dtype=np.float64), side="right").astype(np.int64)


def reliability_bins(probabilities: Floats, emotion: Int64, count: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy, bin by bin.

    Args:
        probabilities: (N, K), rows sum to 1.
        emotion: int64, (N,): the true class.
        count: Number of equal-width bins of the highest probability.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    confidence = rows.max(axis=1)
    right = rows.argmax(axis=1) == emotion
    place = bin_of(confidence, count)
    faces = np.bincount(place, minlength=count)
    confidences = np.bincount(place, weights=confidence, minlength=count)
    rights = np.bincount(place, weights=right, minlength=count)
    return tuple(
        ReliabilityBin(
            low=index / count,
            high=(index + 1) / count,
            faces=int(faces[index]),
            confidence=float(confidences[index] / faces[index]) if faces[index] else None,
            accuracy=float(rights[index] / faces[index]) if faces[index] else None,
        )
        for index in range(count)
    )


def expected_calibration_error(probabilities: Floats, emotion: Int64, count: int = BINS) -> float:
    """Mean gap between confidence and accuracy over the faces' bins, 0 to 1 (Naeini et al. 2015; Guo et al. 2017).

    Args:
        probabilities: (N, K), rows sum to 1.
        emotion: int64, (N,): the true class.
        count: Number of equal-width bins of the highest probability.
    """
    bins = reliability_bins(probabilities, emotion, count)
    faces = sum(each.faces for each in bins)
    gaps = (
        each.faces * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return float(sum(gaps) / faces)
