"""Emotions over time, one line per track, in constant memory; drawn with OpenCV."""

import datetime
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from emodet.arrays import Float32, UInt8
from emodet.emotions import UNCERTAIN
from emodet.inference.faces import Face
from emodet.inference.overlay import colour_of, draw_text, text_size

_BINS = 1024  # when all are filled, pairs are merged and each bin covers twice the time
_FIRST_BIN_S = 0.05
_MAX_GAP_S = 1.0
_MAX_TRACKS, _MAX_DRAWN = 48, 12
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # between the ticks of the axis
_WIDTH, _LEFT, _RIGHT, _ROW, _GAP, _TOP = 1400, 110, 30, 64, 14, 96
_BACKGROUND, _INK, _MUTED, _GRID = (255, 255, 255), (27, 36, 48), (90, 102, 118), (227, 231, 236)


class Timeline:
    """Collects and draws the emotions of each track."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = (*class_names, UNCERTAIN)
        self._colours = [colour_of(name, class_names) for name in self._names]
        self._bin_s = _FIRST_BIN_S
        # For each track: number of frames by bin and emotion, and the sum of their confidences.
        self._tracks: dict[int, Float32] = {}
        self._removed = 0
        self.end_s = 0.0  # time of the last frame

    def add(self, time_s: float, faces: Sequence[Face]) -> None:
        """Add one frame."""
        self.end_s = max(self.end_s, time_s)
        while time_s >= self._bin_s * _BINS:
            self._bin_s *= 2
            for number, counts in self._tracks.items():
                halved = counts.reshape(_BINS // 2, 2, *counts.shape[1:]).sum(axis=1)
                self._tracks[number] = np.concatenate([halved, np.zeros_like(halved)])
        place = int(time_s / self._bin_s)
        for face in faces:
            number = face.track_id or 0
            if number not in self._tracks:
                self._tracks[number] = np.zeros((_BINS, len(self._names), 2), dtype=np.float32)
            column = self._names.index(face.emotion)
            self._tracks[number][place, column] += (1, face.confidence)
        gone = self._tracks.keys() - {face.track_id or 0 for face in faces}
        if len(self._tracks) > _MAX_TRACKS and gone:
            del self._tracks[min(gone, key=self._frames)]
            self._removed += 1

    def _frames(self, number: int) -> float:
        return float(self._tracks[number][:, :, 0].sum())

    def to_dict(self, duration_s: float = 0.0) -> dict[str, Any]:
        """Return JSON types: ``duration_s``, and per track ``stretches`` of one emotion with their mean confidence.

        Stretches have the resolution of the drawing, so their number is bounded. Faces without a track have number 0.
        """
        tracks = [{"track_id": number, "stretches": list(self._stretches(number))} for number in sorted(self._tracks)]
        return {"duration_s": round(max(self.end_s, duration_s), 3), "tracks": tracks}

    def _stretches(self, number: int) -> Iterator[dict[str, Any]]:
        bins = self._bins(number)
        # A stretch begins where the emotion changes, or after a gap.
        starts = [at for at, (place, _, best) in enumerate(bins) if not at or bins[at - 1][1:] != (place, best)]
        for first, end in itertools.pairwise([*starts, len(bins)]):
            places, best = [place for place, _, _ in bins[first:end]], bins[first][2]
            frames, confidence = self._tracks[number][places, best].sum(axis=0, dtype=np.float64)
            yield {
                "start_s": round(places[0] * self._bin_s, 3),
                "end_s": round(bins[end - 1][1] * self._bin_s, 3),
                "emotion": self._names[best],
                "confidence": round(float(confidence / frames), 4),
            }

    def draw(self, title: str) -> UInt8:
        """Draw the plot: uint8, (H, 1400, 3), RGB. Height shows the confidence, colour the emotion."""
        rows = sorted(sorted(self._tracks, key=self._frames, reverse=True)[:_MAX_DRAWN])
        height = _TOP + max(1, len(rows)) * (_ROW + _GAP) + 60
        picture = np.full((height, _WIDTH, 3), _BACKGROUND, dtype=np.uint8)
        while len(title) > 8 and text_size(title, 0.75)[0] > _WIDTH - 40:
            title = "..." + title[8:]
        draw_text(picture, title, (20, 34), 0.75, _INK)
        self._legend(picture)
        end_s = max(self.end_s + self._bin_s, 1e-3)
        self._axis(picture, end_s, height - 60)
        if not rows:
            draw_text(picture, "no face", (_LEFT + 10, _TOP + _ROW // 2), 0.6, _MUTED)
        for place, number in enumerate(rows):
            self._row(picture, number, _TOP + place * (_ROW + _GAP), end_s)
        left_out = len(self._tracks) - len(rows) + self._removed
        if left_out:
            draw_text(picture, f"and {left_out} shorter tracks", (20, height - 12), 0.5, _MUTED)
        return picture

    def _row(self, picture: UInt8, number: int, top: int, end_s: float) -> None:
        base = top + _ROW
        draw_text(picture, f"face {number}" if number else "face", (20, top + _ROW // 2 + 6), 0.6, _INK)
        cv2.line(picture, (_LEFT, base), (_WIDTH - _RIGHT, base), _GRID, 1)
        counts = self._tracks[number]
        for place, until, best in self._bins(number):
            confidence = counts[place, best, 1] / counts[place, best, 0]
            x1, x2 = (_x(step * self._bin_s, end_s) for step in (place, until))
            high = max(3, round(float(confidence) * _ROW))
            colour = self._colours[best]
            cv2.rectangle(picture, (x1, base - high), (max(x1, x2 - 1), base), colour, cv2.FILLED)

    def _bins(self, number: int) -> list[tuple[int, int, int]]:
        """Return the bins of a track with predictions: start, end, most frequent emotion."""
        counts = self._tracks[number][:, :, 0]
        filled = [int(place) for place in np.flatnonzero(counts.sum(axis=1))]
        # A bin extends to the next prediction, unless the face was absent in between.
        ends = [
            following if (following - place) * self._bin_s <= _MAX_GAP_S else place + 1
            for place, following in zip(filled, [*filled[1:], filled[-1] + 1], strict=True)
        ]
        return [(place, end, int(np.argmax(counts[place]))) for place, end in zip(filled, ends, strict=True)]

    def _legend(self, picture: UInt8) -> None:
        seen = sum((counts[:, :, 0].sum(axis=0) for counts in self._tracks.values()), np.zeros(len(self._names)))
        x = 20
        for name, colour, count in zip(self._names, self._colours, seen, strict=True):
            if count or name != UNCERTAIN:
                cv2.rectangle(picture, (x, 54), (x + 16, 70), colour, cv2.FILLED)
                draw_text(picture, name, (x + 22, 68), 0.5, _INK if count else _MUTED)
                x += 22 + text_size(name, 0.5)[0] + 22

    def _axis(self, picture: UInt8, end_s: float, bottom: int) -> None:
        step = next((step for step in _STEPS_S if step >= end_s / 8), math.ceil(end_s / 8 / 3600) * 3600)
        for tick in range(int(end_s / step) + 1):
            x = _x(tick * step, end_s)
            cv2.line(picture, (x, _TOP - 6), (x, bottom), _GRID, 1)
            seconds = datetime.timedelta(seconds=round(tick * step))
            text = f"{tick * step:.1f} s" if step < 1 else str(seconds).removeprefix("0:")
            draw_text(picture, text, (x - text_size(text, 0.5)[0] // 2, bottom + 22), 0.5, _MUTED)


def _x(time_s: float, end_s: float) -> int:
    return _LEFT + round((_WIDTH - _LEFT - _RIGHT) * time_s / end_s)
