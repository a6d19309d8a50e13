"""Frame rate and latency in constant memory."""

import time
from collections import deque

import numpy as np

__all__ = ["Meter"]

_NOTED_EVERY = 10


class Meter:
    """Counts frames and keeps the latencies of the last 2000.

    Attributes:
        frames: Number of frames.
        note: Frame rate and latency as text, updated every ten frames.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.note = ""
        self._latencies: deque[float] = deque(maxlen=2000)
        self._recent: deque[float] = deque(maxlen=60)
        self._first = self._last = time.perf_counter()

    def add(self, latency_s: float) -> None:
        """Add a finished frame."""
        self.frames += 1
        self._last = time.perf_counter()
        self._latencies.append(latency_s)
        self._recent.append(self._last)
        if self.frames % _NOTED_EVERY == 1:
            p50, p95 = self.latency_ms(50), self.latency_ms(95)
            self.note = f"{self.recent_frame_rate:.0f} fps  p50 {p50:.0f} ms  p95 {p95:.0f} ms"

    @property
    def frame_rate(self) -> float:
        """Frames per second since the start; 0 before the first frame."""
        return self.frames / (self._last - self._first) if self.frames and self._last > self._first else 0.0

    @property
    def recent_frame_rate(self) -> float:
        """Frames per second of the last 60 frames; 0 before the second frame."""
        span = self._recent[-1] - self._recent[0] if len(self._recent) > 1 else 0.0
        return (len(self._recent) - 1) / span if span > 0 else 0.0

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the last 2000 latencies in milliseconds; 0 before the first frame."""
        return float(np.percentile(self._latencies, percentile)) * 1000 if self._latencies else 0.0
