"""A calm reading of one face over time: exponential smoothing, and labels that do not flicker."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = ["Smoother", "Smoothing"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How much a track's reading is calmed.

    Attributes:
        seconds: Time constant of the exponential mean: a change is 63 % visible after it. 0 switches both off.
        margin: By how much another emotion's smoothed probability must exceed the shown one's before the label
            changes. Also how far above the least confidence an uncertain label must rise to become certain again.
    """

    seconds: float = 0.4
    margin: float = 0.08

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise EmodetError(f"smooth={self.seconds}: seconds, 0 or more, are needed")
        if not 0 <= self.margin < 1:
            raise EmodetError(f"margin={self.margin}: a probability from 0 to below 1 is needed")


class Smoother:
    """The state of one track. It forgets by time, not by frames, so that any frame rate reads the same."""

    def __init__(self, smoothing: Smoothing, least_confidence: float) -> None:
        self._smoothing = smoothing
        self._least = least_confidence
        self._mean: npt.NDArray[np.float64] | None = None
        self._time = 0.0
        self._shown = 0
        self._certain = True

    def update(self, reading: Float32, classes: int, time_s: float) -> tuple[Float32, int, bool]:
        """Take in one frame.

        Args:
            reading: float32, (classes,) probabilities, with anything else that is to be smoothed after them.
            classes: How many of them are probabilities.
            time_s: Seconds, not decreasing from call to call.

        Returns:
            The smoothed reading; the position of the class to show; whether it is probable enough.
        """
        now = reading.astype(np.float64)
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
        wanted = self._least + (0.0 if self._certain or first else min(margin, (1 - self._least) / 2))
        self._certain = bool(mean[self._shown] >= wanted)
        return mean.astype(np.float32), self._shown, self._certain
