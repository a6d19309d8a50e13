"""Tracking: face numbers from frame to frame, optical flow between detections, smoothed predictions."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Float32, UInt8
from emodet.errors import require
from emodet.inference.faces import Detection, overlap

DETECT_EVERY = 5
"""Interval of face detection in frames; in between, faces are tracked by optical flow."""

PATIENCE_S = 1.0
"""Time in seconds after which the track of an undetected face ends."""

_MIN_AFFINITY = 0.25
_FLOW_SIDE = 480  # longer side of the picture for optical flow
_GRID = 5  # points along each side of a face, besides the landmarks
_MIN_POINTS = 8
_MAX_RETURN_ERROR = 1.0  # forward-backward error, in pixels of the reduced picture
_MAX_RESIZE = 1.2  # from one frame to the next


@dataclass(slots=True)
class Track:
    """One face over time: unique number from 1, latest detection, time of that detection in seconds, and smoother."""

    number: int
    detection: Detection
    seen_s: float
    visible: bool = True
    smoother: "Smoother | None" = None


class Tracker:
    """Assigns detections to tracks by overlap and landmarks: greedily, best pair first, near-optimal for a few faces.

    Attributes:
        tracks: All active tracks, including those whose face is not visible.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.tracks: list[Track] = []

    def update(self, detections: Sequence[Detection], time_s: float) -> list[Track]:
        """Add the detections of a frame, at non-decreasing times; returns the track of each detection, in order."""
        self.tracks = [track for track in self.tracks if time_s - track.seen_s <= PATIENCE_S]
        numbered = {track.number: track for track in self.tracks}
        pairs = [
            (affinity(track.detection, detection), -number, position)
            for number, track in numbered.items()
            for position, detection in enumerate(detections)
        ]
        matched: dict[int, Track] = {}
        for similarity, number, position in sorted(pairs, reverse=True):
            if similarity >= _MIN_AFFINITY and position not in matched and -number in numbered:
                matched[position] = numbered.pop(-number)
        for track in numbered.values():
            track.visible = False
        for position, detection in enumerate(detections):
            if position not in matched:
                matched[position] = Track(next(self._numbers), detection, time_s)
                self.tracks.append(matched[position])
            track = matched[position]
            track.detection, track.seen_s, track.visible = detection, time_s, True
        return [matched[position] for position in range(len(detections))]


def affinity(one: Detection, other: Detection) -> float:
    """Return the similarity of two detections in successive frames, 0..1.

    It is the mean of the boxes' intersection over union and the landmarks' proximity, which decreases to 1/e at a
    quarter of the box side. Without landmarks it is the intersection over union.
    """
    shared = overlap(one.box, other.box)
    if one.landmarks is None or other.landmarks is None or len(one.landmarks) != len(other.landmarks):
        return shared
    scale = (one.side + other.side) / 2
    distance = sum(map(math.dist, one.landmarks, other.landmarks)) / len(one.landmarks)
    return (shared + math.exp(-distance / (scale / 4))) / 2 if scale > 0 else 0.0


class Follower:
    """Moves detections to the next frame by sparse optical flow, which is faster than detection.

    Pyramidal Lucas-Kanade (Lucas and Kanade 1981, Bouguet 2001), with the forward-backward check of Kalal et al. 2010
    ("Forward-backward error: automatic detection of tracking failures").
    """

    def __init__(self) -> None:
        self._last: UInt8 | None = None
        self._now: UInt8 | None = None
        self._scale = 1.0

    def add_frame(self, image_rgb: UInt8) -> None:
        """Add the next frame: uint8, (H, W, 3), RGB."""
        height, width = image_rgb.shape[:2]
        self._scale = min(1.0, _FLOW_SIDE / max(height, width))
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        if self._scale < 1:
            size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
            # Down to half the size, linear interpolation uses every pixel, in a fifth of the time.
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR if self._scale >= 0.5 else cv2.INTER_AREA)
        self._last, self._now = self._now, np.asarray(grey, dtype=np.uint8)

    def follow(self, detections: Sequence[Detection]) -> list[Detection | None]:
        """Move each detection from the previous frame to the current one; None for a lost face."""
        if self._last is None or self._now is None or self._last.shape != self._now.shape or min(self._now.shape) < 32:
            return [None] * len(detections)
        if not detections:
            return []
        points = [_points(detection) * self._scale for detection in detections]
        start = np.concatenate(points).astype(np.float32)
        end, tracked = _flow(self._last, self._now, start)
        back, tracked_back = _flow(self._now, self._last, end)
        inside = ((end >= 0) & (end < self._now.shape[::-1])).all(axis=1)
        close = np.linalg.norm(back - start, axis=1) < _MAX_RETURN_ERROR
        splits = np.cumsum([len(each) for each in points])[:-1]
        parts = (np.split(each, splits) for each in (start, end, tracked & tracked_back & inside & close))
        faces = zip(detections, *parts, strict=True)
        return [self._moved(detection, old[valid], new[valid]) for detection, old, new, valid in faces]

    def _moved(self, detection: Detection, start: Float32, end: Float32) -> Detection | None:
        if len(start) < _MIN_POINTS:
            return None
        matrix, inliers = cv2.estimateAffinePartial2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=2.0)
        if matrix is None or np.count_nonzero(inliers) < _MIN_POINTS:
            return None
        resize = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        if not 1 / _MAX_RESIZE < resize < _MAX_RESIZE:
            return None
        turn, shift = matrix[:, :2], matrix[:, 2] / self._scale
        x1, y1, x2, y2 = detection.box
        # Scale and move the box without rotating it.
        x, y = turn @ np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + shift
        half_width, half_height = (x2 - x1) / 2 * resize, (y2 - y1) / 2 * resize
        box = (float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height))
        landmarks = detection.landmarks
        if landmarks is not None:
            landmarks = tuple((float(px), float(py)) for px, py in np.array(landmarks) @ turn.T + shift)
        return Detection(box, landmarks, detection.score)


def _points(detection: Detection) -> npt.NDArray[np.float64]:
    """Return the points to track: the landmarks, and a grid over the middle of the face without background."""
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
        seconds: Time constant of the exponential mean, after which 63 % of a change is visible; 0 disables smoothing.
        margin: Difference of smoothed probabilities by which another class must exceed the label's to replace it, and
            by which an uncertain label must exceed the confidence threshold to become certain again.
    """

    seconds: float = 0.4
    margin: float = 0.08

    def __post_init__(self) -> None:
        require(0 <= self.seconds < math.inf, "smooth", self.seconds, "seconds, 0 or more")
        require(0 <= self.margin < 1, "margin", self.margin, "a probability from 0 to below 1")


class Smoother:
    """Smoothed prediction of one track. Its decay depends on time, and therefore not on the frame rate."""

    def __init__(self, smoothing: Smoothing, min_confidence: float) -> None:
        self._smoothing, self._min_confidence = smoothing, min_confidence
        self._mean: npt.NDArray[np.float64] | None = None
        self._time = 0.0
        self._label = 0
        self._certain = True

    def update(self, prediction: Float32, classes: int, time_s: float) -> tuple[Float32, int, bool]:
        """Add the prediction of a frame, at non-decreasing times in seconds.

        `prediction` is float32: `classes` probabilities, then other values to smooth. Returns the smoothed prediction,
        the index of the label, and whether the label reaches the confidence threshold.
        """
        mean, margin, seconds = prediction.astype(np.float64), self._smoothing.margin, self._smoothing.seconds
        fresh = self._mean is None or seconds == 0
        if self._mean is not None and seconds > 0:
            weight = 1 - math.exp(-max(0.0, time_s - self._time) / seconds)
            mean = self._mean + weight * (mean - self._mean)
        self._mean, self._time = mean, time_s
        best = int(np.argmax(mean[:classes]))
        if fresh or mean[best] - mean[self._label] > margin:
            self._label = best
        rise = 0.0 if self._certain or fresh else min(margin, (1 - self._min_confidence) / 2)
        self._certain = bool(mean[self._label] >= self._min_confidence + rise)
        return mean.astype(np.float32), self._label, self._certain
