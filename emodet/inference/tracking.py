"""Tracking: match the faces of successive frames by overlap of boxes and distance of landmarks."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from emodet.inference import faces
from emodet.inference.faces import Detection

__all__ = ["PATIENCE_S", "Track", "Tracker", "affinity"]

PATIENCE_S = 1.0

_LEAST_AFFINITY = 0.25


@dataclass(slots=True)
class Track:
    """One face over time.

    Attributes:
        number: From 1, never reused.
        detection: Its latest detection.
        seen_s: Time of that detection in seconds.
        visible: Whether it was found in the latest frame.
    """

    number: int
    detection: Detection
    seen_s: float
    visible: bool = True


class Tracker:
    """Numbers faces. Pairs are matched greedily, best first, which for the few faces of a frame is nearly optimal."""

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        """Start without tracks.

        Args:
            patience_s: Seconds for which a face that is not found keeps its number.
        """
        self._patience_s = patience_s
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []

    def update(self, detections: Sequence[Detection], time_s: float) -> list[Track]:
        """Add the detections of a frame.

        Args:
            detections: All faces of the frame.
            time_s: Seconds, not decreasing from call to call.

        Returns:
            The track of each detection, in their order. `tracks` also holds those that are not visible.
        """
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= self._patience_s]
        pairs = sorted(
            (
                (affinity(track.detection, detection), -track.number, position, track)
                for track in self.tracks
                for position, detection in enumerate(detections)
            ),
            key=lambda pair: pair[:3],
            reverse=True,
        )
        taken: dict[int, Track] = {}
        used: set[int] = set()
        for likeness, _, position, track in pairs:
            if likeness < _LEAST_AFFINITY:
                break
            if position not in taken and track.number not in used:
                taken[position] = track
                used.add(track.number)
        for track in self.tracks:
            track.visible = False
        found = []
        for position, detection in enumerate(detections):
            track = taken.get(position) or self._new(detection, time_s)
            track.detection, track.seen_s, track.visible = detection, time_s, True
            found.append(track)
        return found

    def _new(self, detection: Detection, time_s: float) -> Track:
        track = Track(next(self._numbers), detection, time_s)
        self.tracks.append(track)
        return track


def affinity(one: Detection, other: Detection) -> float:
    """Similarity of two detections of successive frames, 0..1.

    The mean of the boxes' overlap (intersection over union) and of the landmarks' nearness, which falls to 1/e at a
    quarter of the box side; the overlap alone without landmarks.
    """
    overlap = faces.overlap(one.box, other.box)
    if one.landmarks is None or other.landmarks is None or len(one.landmarks) != len(other.landmarks):
        return overlap
    scale = (one.side + other.side) / 2
    pairs = list(zip(one.landmarks, other.landmarks, strict=True))
    distance = sum(math.dist(here, there) for here, there in pairs) / len(pairs)
    return (overlap + math.exp(-distance / (scale / 4))) / 2 if scale > 0 else 0.0
