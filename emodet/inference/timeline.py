"""Emotion over time, one line per track; drawn with OpenCV."""

import datetime
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from emodet.arrays import UInt8
from emodet.emotions import UNCERTAIN
from emodet.inference.faces import Face
from emodet.inference.overlay import colour_of, draw_text, text_size

_GONE_S = 1.0
_STEP = 0.05  # of confidence, from which it is drawn as another height
_TRACKS_DRAWN = 12
_WIDTH, _LEFT, _RIGHT, _ROW, _GAP, _TOP = 1400, 110, 30, 64, 14, 96
_PAPER, _INK, _QUIET, _GRID = (255, 255, 255), (27, 36, 48), (90, 102, 118), (227, 231, 236)


@dataclass(slots=True)
class _Stretch:
    """Frames of a track with one emotion and nearly the same confidence, of which this is the mean."""

    start_s: float
    end_s: float
    emotion: str
    confidence: float
    frames: int = 1


class Timeline:
    """Collects the emotions of each track, and draws them."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._colours = {name: colour_of(name, class_names) for name in (*class_names, UNCERTAIN)}
        self._tracks: dict[int, list[_Stretch]] = defaultdict(list)
        self.end_s = 0.0  # time of the last frame

    def add(self, time_s: float, faces: Sequence[Face]) -> None:
        """Add one frame."""
        self.end_s = max(self.end_s, time_s)
        for face in faces:
            track = self._tracks[face.track_id or 0]
            if track and time_s - track[-1].end_s <= _GONE_S:
                last = track[-1]
                last.end_s = time_s
                if last.emotion == face.emotion and abs(last.confidence - face.confidence) < _STEP:
                    last.frames += 1
                    last.confidence += (face.confidence - last.confidence) / last.frames
                    continue
            track.append(_Stretch(time_s, time_s, face.emotion, face.confidence))

    def _frames(self, number: int) -> int:
        return sum(stretch.frames for stretch in self._tracks[number])

    def to_dict(self, duration_s: float = 0.0) -> dict[str, Any]:
        """For JSON: ``duration_s``, and the ``stretches`` of each track; faces without a track have the number 0."""
        tracks = [
            {"track_id": number, "stretches": [asdict(stretch) for stretch in stretches]}
            for number, stretches in sorted(self._tracks.items())
        ]
        return {"duration_s": round(max(self.end_s, duration_s), 3), "tracks": tracks}

    def draw(self, title: str) -> UInt8:
        """The plot: uint8, (H, 1400, 3), RGB. The height of a stretch is its confidence, its colour the emotion."""
        rows = sorted(sorted(self._tracks, key=self._frames, reverse=True)[:_TRACKS_DRAWN])
        height = _TOP + max(1, len(rows)) * (_ROW + _GAP) + 60
        picture = np.full((height, _WIDTH, 3), _PAPER, dtype=np.uint8)
        draw_text(picture, _shortened(title, _WIDTH - 40, 0.75), (20, 34), 0.75, _INK)
        self._legend(picture)
        end_s = max(self.end_s, 1e-3)
        self._axis(picture, end_s, height - 60)
        if not rows:
            draw_text(picture, "no face", (_LEFT + 10, _TOP + _ROW // 2), 0.6, _QUIET)
        for place, number in enumerate(rows):
            self._row(picture, number, _TOP + place * (_ROW + _GAP), end_s)
        if left_out := len(self._tracks) - len(rows):
            draw_text(picture, f"and {left_out} shorter tracks", (20, height - 12), 0.5, _QUIET)
        return picture

    def _row(self, picture: UInt8, number: int, top: int, end_s: float) -> None:
        base = top + _ROW
        draw_text(picture, f"face {number}" if number else "face", (20, top + _ROW // 2 + 6), 0.6, _INK)
        cv2.line(picture, (_LEFT, base), (_WIDTH - _RIGHT, base), _GRID, 1)
        for stretch in self._tracks[number]:
            x1, x2 = (_x(time_s, end_s) for time_s in (stretch.start_s, stretch.end_s))
            high = max(3, round(stretch.confidence * _ROW))
            colour = self._colours[stretch.emotion]
            cv2.rectangle(picture, (x1, base - high), (max(x1, x2 - 1), base), colour, cv2.FILLED)

    def _legend(self, picture: UInt8) -> None:
        seen = {stretch.emotion for track in self._tracks.values() for stretch in track}
        x = 20
        for name, colour in self._colours.items():
            if name in seen or name != UNCERTAIN:
                cv2.rectangle(picture, (x, 54), (x + 16, 70), colour, cv2.FILLED)
                draw_text(picture, name, (x + 22, 68), 0.5, _INK if name in seen else _QUIET)
                x += 22 + text_size(name, 0.5)[0] + 22

    def _axis(self, picture: UInt8, end_s: float, bottom: int) -> None:
        step = _round_step(end_s / 8)
        for tick in range(int(end_s / step) + 1):
            x = _x(tick * step, end_s)
            cv2.line(picture, (x, _TOP - 6), (x, bottom), _GRID, 1)
            text = _clock(tick * step, step)
            draw_text(picture, text, (x - text_size(text, 0.5)[0] // 2, bottom + 22), 0.5, _QUIET)


def _x(time_s: float, end_s: float) -> int:
    return _LEFT + round((_WIDTH - _LEFT - _RIGHT) * time_s / end_s)


def _round_step(seconds: float) -> float:
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    return next((step for step in steps if step >= seconds), math.ceil(seconds / 3600) * 3600)


def _clock(seconds: float, step: float) -> str:
    if step < 1:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=round(seconds))).removeprefix("0:")


def _shortened(text: str, width: int, scale: float) -> str:
    while len(text) > 8 and text_size(text, scale)[0] > width:
        text = "..." + text[8:]
    return text
