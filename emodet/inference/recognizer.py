"""The recognizer: an image or video in, its faces with their emotions out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.images import ImageLike, load_rgb
from emodet.inference.detectors import STILL_SIDES, STREAM_SIDES, Detector, WholePicture, find_faces, make_detector
from emodet.inference.faces import UNCERTAIN, Detection, Face
from emodet.inference.tracking import Follower, Smoother, Smoothing, Track, Tracker
from emodet.modelfile import ModelFile, Precision, read_model_file, shipped_model

__all__ = ["FaceStream", "Recognizer", "open_model"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

BALANCE = 0.4
"""Exponent of the class shares for ``prior="balanced"``; 1 would count every emotion as equally frequent."""

DETECT_EVERY = 5
_EMPTY_FRAME_SIDES = (*STREAM_SIDES, STILL_SIDES[-1])  # no face yet: perhaps one too large for the usual search


class Recognizer:
    """Detects faces and classifies their emotions. Safe to call from several threads; can be pickled and copied.

    ```python
    from emodet import Recognizer

    recognizer = Recognizer()
    for face in recognizer("photo.jpg"):
        print(face.emotion, face.confidence, face.box)
    ```

    Attributes:
        model: The opened model file; `model.info` describes it.
        detector: The face detector.
        min_confidence: Least probability of an emotion that is not ``uncertain``.
        max_faces: Most faces of a frame, or None.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelFile | None = None,
        *,
        detector: str | Detector = "auto",
        threads: int | None = None,
        providers: Sequence[str] = ("cpu",),
        min_confidence: float | Literal["auto"] = 0.0,
        max_faces: int | None = None,
        prior: Literal["trained", "balanced"] = "trained",
    ) -> None:
        """Open the model file and the detector.

        Args:
            model: Path of a model file, an opened one, or ``int8`` or ``fp32`` for a shipped one; None for the default.
            detector: One of `emodet.inference.detectors.DETECTORS`, ``yunet:FILE.onnx``, or a detector of your own.
            threads: Threads of one call of ONNX Runtime; None for one per core.
            providers: Execution providers of the model file, of `emodet.onnx_session.PROVIDERS`, preferred first.
            min_confidence: Below this probability, 0..1, a face's emotion is ``uncertain``; ``auto`` is the model
                file's own threshold, above which 95 % of its predictions on val are right.
            max_faces: Recognise only the largest faces of a frame; None for all.
            prior: ``balanced`` divides the probabilities by (class share in training)^0.4 and rescales them: rare
                emotions are predicted more often, at a cost in accuracy that the model card states.

        Raises:
            EmodetError: The model file is refused, the detector's weights are not available, or a value is wrong.
        """
        if max_faces is not None and max_faces < 1:
            raise EmodetError(f"max_faces={max_faces}: expected 1 or more, or None for all")
        self.model = model if isinstance(model, ModelFile) else open_model(model, providers=providers, threads=threads)
        self.detector = make_detector(detector, threads=threads) if isinstance(detector, str) else detector
        self.min_confidence = _least_confidence(min_confidence, self.model)
        self._class_weights = _class_weights(prior, self.model)
        self.max_faces = max_faces

    @overload
    def __call__(self, image: list[ImageLike]) -> list[tuple[Face, ...]]: ...

    @overload
    def __call__(self, image: ImageLike) -> tuple[Face, ...]: ...

    def __call__(self, image: ImageLike | list[ImageLike]) -> tuple[Face, ...] | list[tuple[Face, ...]]:
        """Recognise every face of an image, or of each image of a list.

        Args:
            image: A path, the bytes of an image file, a Pillow image, or a uint8 array (H, W, 3) in RGB order (OpenCV
                reads BGR: ``image[:, :, ::-1]``); or a list of these.

        Returns:
            One `Face` per detection, highest detection score first; empty without a face. For a list, a list of such.

        Raises:
            EmodetError: An image cannot be read, or is not uint8 (H, W, 3).
        """
        if isinstance(image, list):
            return [self(one) for one in image]
        image_rgb = load_rgb(image)
        return self.recognise(image_rgb, self.detect(image_rgb))

    def detect(
        self, image_rgb: UInt8, *, sides: Sequence[int] = STILL_SIDES, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of an image, uint8 (H, W, 3) RGB; at most `max_faces`, highest score first.

        `sides` and `min_score` are those of `emodet.inference.detectors.find_faces`.
        """
        found = find_faces(self.detector, load_rgb(image_rgb), sides=sides, min_score=min_score)
        if self.max_faces is None or len(found) <= self.max_faces:
            return found
        largest = set(sorted(range(len(found)), key=lambda index: -found[index].side)[: self.max_faces])
        return tuple(detection for index, detection in enumerate(found) if index in largest)

    def recognise(self, image_rgb: UInt8, detections: Sequence[Detection]) -> tuple[Face, ...]:
        """Classify the detected faces of an image, uint8 (H, W, 3) RGB, in one batch: one `Face` for each, in order."""
        predictions = self.predictions(image_rgb, detections)
        return tuple(map(self._single, detections, predictions))

    def crops(self, pictures: UInt8 | Sequence[UInt8]) -> tuple[Face, ...]:
        """Classify face crops of any size, uint8 (N, H, W, 3) RGB or a sequence of (H, W, 3): one `Face` each.

        Each is resized and recoloured for the model file, as a training image that is one face; margin and alignment
        do not apply. Crops of `model.info.preprocessing.crop` go to `model.probabilities` directly.
        """
        found = [WholePicture()(load_rgb(picture))[0] for picture in pictures]
        predictions = self._run([self.crop(picture, face) for picture, face in zip(pictures, found, strict=True)])
        return tuple(map(self._single, found, predictions))

    def stream(
        self,
        frames: Iterable[UInt8],
        *,
        frame_rate: float = 25.0,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
    ) -> Iterator[tuple[Face, ...]]:
        """Recognise the frames of a video with tracking and smoothing.

        Args:
            frames: uint8, (H, W, 3), RGB, in order; taken one at a time.
            frame_rate: Frames per second.
            smoothing: None for the default.
            detect_every: Detect faces in every n-th frame; between, they are tracked by optical flow.

        Yields:
            The faces of each frame, with their `track_id`.
        """
        if not frame_rate > 0:
            raise EmodetError(f"frame_rate={frame_rate}: expected a number above 0")
        stream = FaceStream(self, smoothing=smoothing, detect_every=detect_every)
        for index, frame in enumerate(frames):
            yield stream.step(frame, index / frame_rate)

    def crop(self, image_rgb: UInt8, detection: Detection) -> UInt8:
        """The model file's input for a face: uint8, (size, size, 3), RGB."""
        box = None if detection.whole_picture else detection.box
        return self.model.info.preprocessing.crop(image_rgb, box, detection.landmarks)

    def predictions(self, image_rgb: UInt8, detections: Sequence[Detection]) -> Float32:
        """Probabilities, float32 (N, K), with valence and arousal as columns K and K + 1 if the model file has them."""
        return self._run([self.crop(image_rgb, detection) for detection in detections])

    def face(
        self, detection: Detection, prediction: Float32, shown: tuple[int, bool], track_id: int | None = None
    ) -> Face:
        """Build a `Face` from a row of `predictions`, the index of the class to show, and whether it is certain."""
        names = self.model.info.class_names
        position, certain = shown
        has_more = len(prediction) > len(names)
        return Face(
            box=detection.box,
            landmarks=detection.landmarks,
            detection_score=detection.score,
            emotion=names[position] if certain else UNCERTAIN,
            probabilities={name: float(value) for name, value in zip(names, prediction, strict=False)},
            confidence=float(prediction[position]),
            valence=float(prediction[-2]) if has_more else None,
            arousal=float(prediction[-1]) if has_more else None,
            track_id=track_id,
        )

    def _single(self, detection: Detection, prediction: Float32) -> Face:
        best = int(np.argmax(prediction[: len(self.model.info.class_names)]))
        return self.face(detection, prediction, (best, bool(prediction[best] >= self.min_confidence)))

    def _run(self, crops: Sequence[UInt8]) -> Float32:
        size = self.model.info.preprocessing.size
        batch = np.stack(crops) if crops else np.zeros((0, size, size, 3), dtype=np.uint8)
        probabilities, valence_arousal = self.model.run(batch)
        if self._class_weights is not None:
            probabilities = probabilities * self._class_weights
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities if valence_arousal is None else np.concatenate([probabilities, valence_arousal], axis=1)


class FaceStream:
    """State of one video or camera: tracks, smoothed predictions, and the schedule of detection. For one thread.

    Arguments are those of `Recognizer.stream` and `Recognizer.detect`. Faces are also detected when one is lost.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
        min_score: float | None = None,
    ) -> None:
        if detect_every < 1:
            raise EmodetError(f"detect_every={detect_every}: expected 1 or more")
        self._recognizer = recognizer
        self._smoothing = smoothing or Smoothing()
        self._detect_every = detect_every
        self._min_score = min_score
        self._tracker = Tracker()
        self._follower = Follower()
        self._smoothers: dict[int, Smoother] = {}
        self._since = detect_every

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Every live track, also those whose face is not visible at the moment."""
        return tuple(self._tracker.tracks)

    def step(self, image_rgb: UInt8, time_s: float) -> tuple[Face, ...]:
        """Recognise the next frame, uint8 (H, W, 3) RGB, at a time in seconds; its faces by track number."""
        visible = self.locate(image_rgb, time_s)
        predictions = self._recognizer.predictions(image_rgb, [track.detection for track in visible])
        classes = len(self._recognizer.model.info.class_names)
        faces = []
        for track, prediction in zip(visible, predictions, strict=True):
            new = Smoother(self._smoothing, self._recognizer.min_confidence)
            smoother = self._smoothers.setdefault(track.number, new)
            smoothed, position, certain = smoother.update(prediction, classes, time_s)
            faces.append(self._recognizer.face(track.detection, smoothed, (position, certain), track.number))
        return tuple(faces)

    def locate(self, image_rgb: UInt8, time_s: float) -> list[Track]:
        """Detect or track the faces of the next frame without classifying them: visible tracks, by number."""
        load_rgb(image_rgb)
        visible = None if isinstance(self._recognizer.detector, WholePicture) else self._follow(image_rgb, time_s)
        if visible is None:
            sides = STREAM_SIDES if self._tracker.tracks else _EMPTY_FRAME_SIDES
            found = self._recognizer.detect(image_rgb, sides=sides, min_score=self._min_score)
            visible = self._tracker.update(found, time_s)
            self._since = 0
        alive = {track.number for track in self._tracker.tracks}
        self._smoothers = {number: kept for number, kept in self._smoothers.items() if number in alive}
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


def _least_confidence(value: float | str, model: ModelFile) -> float:
    if value == "auto":
        if model.info.min_confidence is None:
            raise EmodetError(f"min_confidence=auto: {model.name} has no threshold of its own; give a probability")
        return model.info.min_confidence
    if isinstance(value, str) or not 0 <= value <= 1:
        raise EmodetError(f"min_confidence={value}: expected a probability from 0 to 1, or auto")
    return value


def _class_weights(prior: str, model: ModelFile) -> Float32 | None:
    """Factors of the probabilities, float32 (K,); None for none."""
    if prior not in ("trained", "balanced"):
        raise EmodetError(f"prior={prior!r}: expected trained or balanced")
    if prior == "trained":
        return None
    shares = np.array(model.info.class_shares, dtype=np.float32)
    if not shares.size or not shares.all():
        raise EmodetError(f"prior=balanced: {model.name} does not state the share of every class in its training data")
    return shares**-BALANCE


def open_model(
    model: str | os.PathLike[str] | None, *, providers: Sequence[str] = ("cpu",), threads: int | None = None
) -> ModelFile:
    """Open a model file by path, or a shipped one by ``int8``, ``fp32`` or None for the default.

    Raises:
        EmodetError: As `emodet.modelfile.read_model_file`.
    """
    if model is None:
        return shipped_model(providers=providers, threads=threads)
    for precision in get_args(Precision):
        if model == precision and not Path(precision).exists():
            return shipped_model(precision, providers=providers, threads=threads)
    return read_model_file(model, providers=providers, threads=threads)
