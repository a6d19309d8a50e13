"""Faces of a video, frame by frame: detected or tracked, classified, smoothed."""

from emodet.arrays import UInt8
from emodet.errors import require
from emodet.images import load_rgb
from emodet.inference.detectors import STILL_SIDES, STREAM_SIDES, WholePicture, find_faces
from emodet.inference.faces import Face
from emodet.inference.recognizer import Recognizer
from emodet.inference.tracking import DETECT_EVERY, Follower, Smoother, Smoothing, Track, Tracker

_EMPTY_FRAME_SIDES = (*STREAM_SIDES, STILL_SIDES[-1])  # no face yet: perhaps one too large for the usual search


class FaceStream:
    """State of one video or camera: tracks, smoothed predictions, and the schedule of detection. For one thread.

    Arguments are those of `Recognizer.stream` and `Recognizer.detect`. Faces are also detected when one is lost. All
    are tracked, also those beyond the recognizer's `max_faces`, or between `min_score` and the detector's own.
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
