"""Temporal smoothing of one track: an exponential mean of predictions, and hysteresis for labels."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = ["Smoother", "Smoothing"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Options.

    Attributes:
        seconds: Time constant of the exponential mean: a change is 63 % visible after it. 0 switches both off.
        margin: How much another class's smoothed probability must exceed the shown one's before the label changes, and
            how far above the confidence threshold an uncertain label must rise to become certain again.
    """

    seconds: float = 0.4
    margin: float = 0.08

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise EmodetError(f"smooth={self.seconds}: expected seconds, 0 or more")
        if not 0 <= self.margin < 1:
            raise EmodetError(f"margin={self.margin}: expected a probability from 0 to below 1")


class Smoother:
    """State of one track. The mean decays with time, not with frames, so that it does not depend on the frame rate."""

    def __init__(self, smoothing: Smoothing, min_confidence: float) -> None:
        self._smoothing = smoothing
        self._min_confidence = min_confidence
        self._mean: npt.NDArray[np.float64] | None = None
        self._time = 0.0
        self._shown = 0
        self._certain = True

    def update(self, prediction: Float32, classes: int, time_s: float) -> tuple[Float32, int, bool]:
        """Add one frame.

        Args:
            prediction: float32, (classes,) probabilities, followed by other values to smooth.
            classes: Number of probabilities.
            time_s: Seconds, not decreasing from call to call.

        Returns:
            The smoothed prediction; index of the class to show; whether it reaches the confidence threshold.
        """
        now = prediction.astype(np.float64)
        seconds = self._smoothing.seconds
        if self._mean is None or seconds == 0:
            mean, margin = now, 0.0
        else:
            weight = 1 - math.exp(-max(0.0, time_s - self._time) / seconds)
            mean, margin = self._mean + weight * (now - self._mean), self._smoothing.margin
        first = self._mean is None
        self._mean, self._time = mean, time_s
        best = int(np.argmax(mean[:classes]))
        if first or mean[best] - mean[self._shown] > margin or seconds == 0:
            self._shown = best
        rise = 0.0 if self._certain or first else min(margin, (1 - self._min_confidence) / 2)
        self._certain = bool(mean[self._shown] >= self._min_confidence + rise)
        return mean.astype(np.float32), self._shown, self._certain
