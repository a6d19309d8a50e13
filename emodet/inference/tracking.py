"""Faces over time: numbers from frame to frame, cheap motion between detections, smoothed predictions."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Float32, UInt8
from emodet.errors import require
from emodet.images import load_rgb
from emodet.inference.detectors import STILL_SIDES, STREAM_SIDES, WholePicture, find_faces
from emodet.inference.faces import Detection, Face, overlap

if TYPE_CHECKING:
    from emodet.inference.recognizer import Recognizer

DETECT_EVERY = 5
"""Faces are detected in every n-th frame; between, they are tracked by optical flow."""

PATIENCE_S = 1.0
"""Seconds for which a face that is not found keeps its number."""

_EMPTY_FRAME_SIDES = (*STREAM_SIDES, STILL_SIDES[-1])  # no face yet: perhaps one too large for the usual search

_MIN_AFFINITY = 0.25
_FLOW_SIDE = 480  # of the picture that flow is computed in
_GRID = 5  # points along each side of a face, besides the landmarks
_MIN_POINTS = 8
_MAX_RETURN_ERROR = 1.0  # pixels of the reduced picture, forward and back again
_MAX_RESIZE = 1.2  # from one frame to the next


@dataclass(slots=True)
class Track:
    """One face over time: its number from 1, never reused, its latest detection, at `seen_s` seconds, its smoother."""

    number: int
    detection: Detection
    seen_s: float
    visible: bool = True
    smoother: "Smoother | None" = None


class Tracker:
    """Numbers faces by overlap and landmarks. Pairs are matched greedily, best first: nearly optimal for a few faces.

    Attributes:
        tracks: All live tracks, also those that are not visible.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []

    def update(self, detections: Sequence[Detection], time_s: float) -> list[Track]:
        """Add a frame, at a time that does not decrease: the track of each detection, in their order."""
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= PATIENCE_S]
        numbered = {track.number: track for track in self.tracks}
        pairs = [
            (affinity(track.detection, detection), -number, position)
            for number, track in numbered.items()
            for position, detection in enumerate(detections)
        ]
        taken: dict[int, Track] = {}
        for likeness, number, position in sorted(pairs, reverse=True):
            if likeness >= _MIN_AFFINITY and position not in taken and -number in numbered:
                taken[position] = numbered.pop(-number)
        for track in numbered.values():
            track.visible = False
        for position, detection in enumerate(detections):
            if position not in taken:
                taken[position] = Track(next(self._numbers), detection, time_s)
                self.tracks.append(taken[position])
            track = taken[position]
            track.detection, track.seen_s, track.visible = detection, time_s, True
        return [taken[position] for position in range(len(detections))]


def affinity(one: Detection, other: Detection) -> float:
    """Similarity of two detections of successive frames, 0..1.

    The mean of the boxes' overlap (intersection over union) and of the landmarks' nearness, which falls to 1/e at a
    quarter of the box side; the overlap alone without landmarks.
    """
    shared = overlap(one.box, other.box)
    if one.landmarks is None or other.landmarks is None or len(one.landmarks) != len(other.landmarks):
        return shared
    scale = (one.side + other.side) / 2
    distance = sum(map(math.dist, one.landmarks, other.landmarks)) / len(one.landmarks)
    return (shared + math.exp(-distance / (scale / 4))) / 2 if scale > 0 else 0.0


class Follower:
    """Moves detections to the next frame by sparse optical flow, which is cheaper than detection.

    Lucas and Kanade 1981, in pyramids (Bouguet 2001); forward-backward check after Kalal et al. 2010 ("Forward-backward
    error: automatic detection of tracking failures").
    """

    def __init__(self) -> None:
        self._last: UInt8 | None = None
        self._now: UInt8 | None = None
        self._scale = 1.0

    def look(self, image_rgb: UInt8) -> None:
        """Add the next frame: uint8, (H, W, 3), RGB."""
        height, width = image_rgb.shape[:2]
        self._scale = min(1.0, _FLOW_SIDE / max(height, width))
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        if self._scale < 1:
            size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
            # Down to half, two neighbours hold every pixel, and it takes a fifth of the time.
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR if self._scale >= 0.5 else cv2.INTER_AREA)
        self._last, self._now = self._now, np.asarray(grey, dtype=np.uint8)

    def follow(self, detections: Sequence[Detection]) -> list[Detection | None]:
        """Move each detection from the last frame to this one; None if it was lost."""
        if self._last is None or self._now is None or self._last.shape != self._now.shape or min(self._now.shape) < 32:
            return [None] * len(detections)
        if not detections:
            return []
        points = [_points(detection) * self._scale for detection in detections]
        here = np.concatenate(points).astype(np.float32)
        there, good = _flow(self._last, self._now, here)
        back, good_back = _flow(self._now, self._last, there)
        inside = ((there >= 0) & (there < self._now.shape[::-1])).all(axis=1)
        close = np.linalg.norm(back - here, axis=1) < _MAX_RETURN_ERROR
        ends = np.cumsum([len(its) for its in points])[:-1]
        parts = (np.split(each, ends) for each in (here, there, good & good_back & inside & close))
        faces = zip(detections, *parts, strict=True)
        return [self._moved(detection, old[kept], new[kept]) for detection, old, new, kept in faces]

    def _moved(self, detection: Detection, here: Float32, there: Float32) -> Detection | None:
        if len(here) < _MIN_POINTS:
            return None
        matrix, agreeing = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)
        if matrix is None or np.count_nonzero(agreeing) < _MIN_POINTS:
            return None
        resize = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        if not 1 / _MAX_RESIZE < resize < _MAX_RESIZE:
            return None
        turn, shift = matrix[:, :2], matrix[:, 2] / self._scale
        x1, y1, x2, y2 = detection.box
        # The box is scaled and moved but stays upright.
        x, y = turn @ np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + shift
        half_width, half_height = (x2 - x1) / 2 * resize, (y2 - y1) / 2 * resize
        box = (float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height))
        landmarks = detection.landmarks
        if landmarks is not None:
            landmarks = tuple((float(px), float(py)) for px, py in np.array(landmarks) @ turn.T + shift)
        return Detection(box, landmarks, detection.score)


def _points(detection: Detection) -> npt.NDArray[np.float64]:
    """The landmarks and a grid over the middle of the face, without background."""
    x1, y1, x2, y2 = detection.box
    steps = np.linspace(0.2, 0.8, _GRID)
    grid = np.stack(np.meshgrid(x1 + (x2 - x1) * steps, y1 + (y2 - y1) * steps), axis=-1).reshape(-1, 2)
    return np.concatenate([np.array(detection.landmarks), grid]) if detection.landmarks else grid


def _flow(before: UInt8, after: UInt8, points: Float32) -> tuple[Float32, npt.NDArray[np.bool_]]:
    start = points[:, None]
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, np.empty(0), winSize=(15, 15), maxLevel=3)
    return np.asarray(moved, dtype=np.float32)[:, 0], np.asarray(found).ravel() == 1


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Temporal smoothing of the predictions of a track.

    Attributes:
        seconds: Time constant of the exponential mean: a change is 63 % visible after it. 0 switches smoothing off.
        margin: How much another class's smoothed probability must exceed the shown one's before the label changes, and
            how far above the confidence threshold an uncertain label must rise to become certain again.
    """

    seconds: float = 0.4
    margin: float = 0.08

    def __post_init__(self) -> None:
        require(0 <= self.seconds < math.inf, "smooth", self.seconds, "seconds, 0 or more")
        require(0 <= self.margin < 1, "margin", self.margin, "a probability from 0 to below 1")


class Smoother:
    """State of one track. The mean decays with time, not with frames, so that it does not depend on the frame rate."""

    def __init__(self, smoothing: Smoothing, min_confidence: float) -> None:
        self._smoothing, self._min_confidence = smoothing, min_confidence
        self._mean: npt.NDArray[np.float64] | None = None
        self._time = 0.0
        self._shown = 0
        self._certain = True

    def update(self, prediction: Float32, classes: int, time_s: float) -> tuple[Float32, int, bool]:
        """Add one frame at `time_s` seconds, which do not decrease.

        `prediction` is float32: as many probabilities as `classes`, then other values to smooth. Returns the smoothed
        prediction; the index of the class to show; whether it reaches the confidence threshold.
        """
        mean, margin, seconds = prediction.astype(np.float64), self._smoothing.margin, self._smoothing.seconds
        fresh = self._mean is None or seconds == 0
        if self._mean is not None and seconds > 0:
            weight = 1 - math.exp(-max(0.0, time_s - self._time) / seconds)
            mean = self._mean + weight * (mean - self._mean)
        self._mean, self._time = mean, time_s
        best = int(np.argmax(mean[:classes]))
        if fresh or mean[best] - mean[self._shown] > margin:
            self._shown = best
        rise = 0.0 if self._certain or fresh else min(margin, (1 - self._min_confidence) / 2)
        self._certain = bool(mean[self._shown] >= self._min_confidence + rise)
        return mean.astype(np.float32), self._shown, self._certain


class FaceStream:
    """State of one video or camera: tracks, smoothed predictions, and the schedule of detection. For one thread.

    Arguments are those of `Recognizer.stream` and `Recognizer.detect`. Faces are also detected when one is lost. All
    are tracked, also those beyond the recognizer's `max_faces`, or between `min_score` and the detector's own.
    """

    def __init__(
        self,
        recognizer: "Recognizer",
        *,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
        min_score: float | None = None,
    ) -> None:
        require(detect_every >= 1, "detect_every", detect_every, "1 or more")
        self._recognizer, self._smoothing = recognizer, smoothing or Smoothing()
        self._detect_every = self._since = detect_every
        self._min_score = min_score
        self._tracker, self._follower = Tracker(), Follower()

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Every live track, also those whose face is not visible at the moment."""
        return tuple(self._tracker.tracks)

    def step(self, image_rgb: UInt8, time_s: float) -> tuple[Face, ...]:
        """Recognise the next frame, uint8 (H, W, 3) RGB, at a time in seconds; its faces by track number."""
        image_rgb = load_rgb(image_rgb)
        threshold, most = self._recognizer.detector.min_score, self._recognizer.max_faces
        sure = [track for track in self.locate(image_rgb, time_s) if track.detection.score >= threshold]
        kept = sorted(sorted(sure, key=lambda track: -track.detection.side)[:most], key=lambda track: track.number)
        predictions = self._recognizer.predictions([self._recognizer.crop(image_rgb, it.detection) for it in kept])
        classes = len(self._recognizer.model.info.class_names)
        faces = []
        for track, prediction in zip(kept, predictions, strict=True):
            track.smoother = track.smoother or Smoother(self._smoothing, self._recognizer.min_confidence)
            smoothed, position, certain = track.smoother.update(prediction, classes, time_s)
            face = self._recognizer.face(track.detection, smoothed, position, certain=certain, track_id=track.number)
            faces.append(face)
        return tuple(faces)

    def locate(self, image_rgb: UInt8, time_s: float) -> list[Track]:
        """Detect or track the faces of the next frame without classifying them: visible tracks, by number."""
        visible = None if isinstance(self._recognizer.detector, WholePicture) else self._follow(image_rgb, time_s)
        if visible is None:
            sides = STREAM_SIDES if self._tracker.tracks else _EMPTY_FRAME_SIDES
            found = find_faces(self._recognizer.detector, image_rgb, sides=sides, min_score=self._min_score)
            visible = self._tracker.update(found, time_s)
            self._since = 0
        return sorted(visible, key=lambda track: track.number)

    def _follow(self, image_rgb: UInt8, time_s: float) -> list[Track] | None:
        """The visible tracks moved to this frame, or None if faces must be detected."""
        self._since += 1
        if self._detect_every == 1:
            return None
        self._follower.look(image_rgb)
        visible = [track for track in self._tracker.tracks if track.visible]
        # A face that was just missed is searched in every frame until the tracker drops it.
        if not visible or len(visible) < len(self._tracker.tracks) or self._since >= self._detect_every:
            return None
        moved = self._follower.follow([track.detection for track in visible])
        if any(detection is None for detection in moved):
            return None
        for track, detection in zip(visible, moved, strict=True):
            if detection is not None:
                track.detection, track.seen_s = detection, time_s
        return visible
