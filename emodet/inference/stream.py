"""Recognition of successive frames: detect or track faces, classify them, and smooth the predictions."""

from emodet.arrays import UInt8
from emodet.errors import require
from emodet.images import load_rgb
from emodet.inference.detectors import STILL_SIDES, STREAM_SIDES, WholePicture, find_faces
from emodet.inference.faces import Face
from emodet.inference.recognizer import Recognizer
from emodet.inference.tracking import DETECT_EVERY, Follower, Smoother, Smoothing, Track, Tracker

_EMPTY_FRAME_SIDES = (*STREAM_SIDES, STILL_SIDES[-1])  # without tracks, also search for very large faces


class FaceStream:
    """State of one video or camera: tracks, smoothed predictions and detection schedule. Not thread-safe.

    Arguments are those of `Recognizer.stream` and `Recognizer.detect`. Detection also runs when a face is lost. All
    faces are tracked, including those beyond the recognizer's `max_faces` or below the detector's own `min_score`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
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
        """All active tracks, including those whose face is not visible at the moment."""
        return tuple(self._tracker.tracks)

    def step(self, image_rgb: UInt8, time_s: float) -> tuple[Face, ...]:
        """Recognise the next frame, uint8 (H, W, 3) RGB, at a time in seconds; returns its faces by track number."""
        image_rgb = load_rgb(image_rgb)
        threshold, count = self._recognizer.detector.min_score, self._recognizer.max_faces
        sure = [track for track in self.locate(image_rgb, time_s) if track.detection.score >= threshold]
        tracks = sorted(sorted(sure, key=lambda track: -track.detection.side)[:count], key=lambda track: track.number)
        predictions = self._recognizer.predictions([self._recognizer.crop(image_rgb, it.detection) for it in tracks])
        classes = len(self._recognizer.model.info.class_names)
        faces = []
        for track, prediction in zip(tracks, predictions, strict=True):
            track.smoother = track.smoother or Smoother(self._smoothing, self._recognizer.min_confidence)
            smoothed, label, certain = track.smoother.update(prediction, classes, time_s)
            face = self._recognizer.face(track.detection, smoothed, label, certain=certain, track_id=track.number)
            faces.append(face)
        return tuple(faces)

    def locate(self, image_rgb: UInt8, time_s: float) -> list[Track]:
        """Detect or track the faces of the next frame without classification; returns visible tracks by number."""
        visible = None if isinstance(self._recognizer.detector, WholePicture) else self._follow(image_rgb, time_s)
        if visible is None:
            sides = STREAM_SIDES if self._tracker.tracks else _EMPTY_FRAME_SIDES
            faces = find_faces(self._recognizer.detector, image_rgb, sides=sides, min_score=self._min_score)
            visible = self._tracker.update(faces, time_s)
            self._since = 0
        return sorted(visible, key=lambda track: track.number)

    def _follow(self, image_rgb: UInt8, time_s: float) -> list[Track] | None:
        """Move the visible tracks to this frame; returns None if faces must be detected."""
        self._since += 1
        if self._detect_every == 1:
            return None
        self._follower.add_frame(image_rgb)
        visible = [track for track in self._tracker.tracks if track.visible]
        # While a face is missing, detect in every frame until its track ends.
        if not visible or len(visible) < len(self._tracker.tracks) or self._since >= self._detect_every:
            return None
        followed = self._follower.follow([track.detection for track in visible])
        moved = [detection for detection in followed if detection is not None]
        if len(moved) < len(visible):
            return None
        for track, detection in zip(visible, moved, strict=True):
            track.detection, track.seen_s = detection, time_s
        return visible
