"""Move known faces to the next frame by sparse optical flow, which is cheaper than detection.

Lucas and Kanade 1981, in pyramids (Bouguet 2001); forward-backward check after Kalal et al. 2010 ("Forward-backward
error: automatic detection of tracking failures").
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from emodet.inference.faces import Detection

__all__ = ["Follower"]

_LONGEST_SIDE = 480  # of the picture that flow is computed in
_GRID = 5  # points along each side of a face, besides the landmarks
_LEAST_POINTS = 8
_LARGEST_RETURN_ERROR = 1.0  # pixels of the reduced picture, forward and back again
_LARGEST_RESIZE = 1.2  # from one frame to the next


class Follower:
    """Keeps the last frame and moves detections from it to the next one."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.uint8] | None = None
        self._now: npt.NDArray[np.uint8] | None = None
        self._scale = 1.0

    def look(self, image_rgb: npt.NDArray[np.uint8]) -> None:
        """Add the next frame: uint8, (H, W, 3), RGB."""
        height, width = image_rgb.shape[:2]
        self._scale = min(1.0, _LONGEST_SIDE / max(height, width))
        grey = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        if self._scale < 1:
            size = (max(1, round(width * self._scale)), max(1, round(height * self._scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        self._last, self._now = self._now, np.asarray(grey, dtype=np.uint8)

    def follow(self, detections: Sequence[Detection]) -> list[Detection | None]:
        """Move each detection from the last frame to this one; None if it was lost."""
        if self._last is None or self._now is None or self._last.shape != self._now.shape or min(self._now.shape) < 32:
            return [None] * len(detections)
        if not detections:
            return []
        points = [_points(detection) * self._scale for detection in detections]
        here = np.concatenate(points).astype(np.float32)[:, None]
        there, good = _flow(self._last, self._now, here)
        back, good_back = _flow(self._now, self._last, there)
        height, width = self._now.shape
        inside = ((there[:, 0] >= 0) & (there[:, 0] < (width, height))).all(axis=1)
        close = np.linalg.norm((back - here)[:, 0], axis=1) < _LARGEST_RETURN_ERROR
        kept = good & good_back & inside & close
        moved, at = [], 0
        for detection, its in zip(detections, points, strict=True):
            span = slice(at, at + len(its))
            at += len(its)
            moved.append(self._moved(detection, here[span, 0][kept[span]], there[span, 0][kept[span]]))
        return moved

    def _moved(
        self, detection: Detection, here: npt.NDArray[np.float32], there: npt.NDArray[np.float32]
    ) -> Detection | None:
        if len(here) < _LEAST_POINTS:
            return None
        matrix, agreeing = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)
        if matrix is None or np.count_nonzero(agreeing) < _LEAST_POINTS:
            return None
        resize = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        if not 1 / _LARGEST_RESIZE < resize < _LARGEST_RESIZE:
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


def _flow(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], points: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, np.empty(0), winSize=(15, 15), maxLevel=3)
    return np.asarray(moved, dtype=np.float32), np.asarray(found).ravel() == 1
