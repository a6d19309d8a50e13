"""The recognizer: detects the faces of images and videos and classifies their emotions."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np

from emodet.arrays import Float32, UInt8
from emodet.emotions import UNCERTAIN
from emodet.errors import EmodetError, require
from emodet.images import ImageLike, decode_rgb, load_rgb
from emodet.inference.detectors import STILL_SIDES, Detector, WholePicture, find_faces, make_detector
from emodet.inference.faces import MIN_CONFIDENCE, Box, Detection, Face
from emodet.inference.result import Result
from emodet.inference.sources import VIDEO_SUFFIXES, hide_password, is_web_address
from emodet.inference.tracking import DETECT_EVERY, Smoothing
from emodet.modelfile import DEFAULT_MODEL, ModelFile, model_path, read_model_file

if TYPE_CHECKING:
    from emodet.inference.video_reader import Frame


BALANCE = 0.4
"""Exponent of the class shares for ``prior="balanced"``; 1 would treat all emotions as equally frequent."""


class Recognizer:
    """Detects faces and classifies their emotions. Safe to call from several threads; can be pickled and copied.

    ```python
    from emodet import Recognizer

    recognizer = Recognizer()
    result = recognizer("photo.jpg")
    for face in result:
        print(face.emotion, face.confidence, face.box)
    result.save("annotated.jpg")
    ```

    Attributes:
        model: The opened model file; `model.info` describes it.
        detector: The face detector.
        min_confidence: Minimum probability of an emotion; below it the emotion is ``uncertain``.
        max_faces: Maximum number of faces per frame, or None.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelFile | None = None,
        *,
        detector: str | Detector = "auto",
        threads: int | None = None,
        providers: Sequence[str] = ("cpu",),
        min_confidence: float | Literal["auto"] = MIN_CONFIDENCE,
        max_faces: int | None = None,
        prior: Literal["trained", "balanced"] = "trained",
    ) -> None:
        """Open the model file and the detector.

        Args:
            model: Path of a model file, a `ModelFile`, or the name of a shipped one: ``int8`` (the default),
                ``accurate`` (right more often, twice the time) or ``fp32``.
            detector: One of `emodet.inference.detectors.DETECTORS`, ``yunet:FILE.onnx``, or your own detector.
            threads: Number of threads per call of ONNX Runtime; None for one per core.
            providers: Execution providers of the model file, keys of `emodet.onnx_session.PROVIDERS`, preferred first.
            min_confidence: Probability, 0..1, below which the emotion is ``uncertain``; 0 for never. ``auto`` is the
                model file's own threshold, above which 95 % of its predictions on val are right.
            max_faces: Maximum number of faces per frame; the largest are recognised. None for all.
            prior: ``balanced`` divides the probabilities by (class share in training)^0.4 and rescales them: rare
                emotions are predicted more often, and accuracy decreases as the model card states.

        Raises:
            EmodetError: The model file or detector is missing or invalid, or a value is out of range.
        """
        require(max_faces is None or max_faces >= 1, "max_faces", max_faces, "1 or more, or None for all")
        with ThreadPoolExecutor(1) as pool:  # load both nets in parallel
            if not isinstance(model, ModelFile):
                place = model_path(DEFAULT_MODEL if model is None else model)
                opening = pool.submit(read_model_file, place, providers=providers, threads=threads)
            self.detector = make_detector(detector, threads=threads) if isinstance(detector, str) else detector
            self.model = model if isinstance(model, ModelFile) else opening.result()
        self.min_confidence = _confidence_threshold(min_confidence, self.model)
        self._class_weights = _class_weights(prior, self.model)
        self.max_faces = max_faces

    @overload
    def __call__(self, image: list[ImageLike]) -> list[Result]: ...

    @overload
    def __call__(self, image: ImageLike) -> Result: ...

    def __call__(self, image: ImageLike | list[ImageLike]) -> Result | list[Result]:
        """Recognise the faces of an image. Returns a `Result`: a tuple of `Face` with methods to draw, save and show.

        Args:
            image: A path, an http or https address (at most 256 MB and a minute), the bytes of an image file, a Pillow
                image, or a uint8 array (H, W, 3) in RGB order (for OpenCV's BGR: ``image[:, :, ::-1]``). A list of
                images returns a list of results.

        Raises:
            EmodetError: An image cannot be read, or is not uint8 (H, W, 3).
        """
        if isinstance(image, list):
            return [self(one) for one in image]
        source = hide_password(os.fspath(image)) if isinstance(image, str | os.PathLike) else ""
        if isinstance(image, int) or Path(source).suffix.lower() in VIDEO_SUFFIXES:
            raise EmodetError(f"{source or repr(image)}: not an image; use recognizer.video(…) for videos and cameras")
        if is_web_address(image):
            from emodet.inference.opening import fetch_image  # deferred: other images do not need it

            image_rgb = decode_rgb(fetch_image(str(image), source), name=source)
        else:
            image_rgb = load_rgb(image)
        faces = self.recognise(image_rgb, self.detect(image_rgb))
        return Result(faces, image_rgb, self.model.info.class_names, source)

    def detect(
        self, image_rgb: UInt8, *, sides: Sequence[int] = STILL_SIDES, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Detect at most `max_faces` faces in an image, uint8 (H, W, 3) RGB; highest score first.

        `sides` and `min_score` as in `emodet.inference.detectors.find_faces`.
        """
        return self.largest(find_faces(self.detector, load_rgb(image_rgb), sides=sides, min_score=min_score))

    def largest(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return the `max_faces` largest detections, in their order."""
        largest = sorted(range(len(detections)), key=lambda index: -detections[index].side)[: self.max_faces]
        return tuple(detections[index] for index in sorted(largest))

    def recognise(
        self, image_rgb: UInt8, detections: Sequence[Detection | Box], *, margin: float | None = None
    ) -> tuple[Face, ...]:
        """Classify faces of an image in one batch; returns one `Face` per detection, in order.

        Args:
            image_rgb: uint8 (H, W, 3) RGB.
            detections: Results of `detect`, or boxes of another detector, (x1, y1, x2, y2) in pixels.
            margin: Fraction of the box side added on each side. None for the model file's margin
                (`model.info.preprocessing.margin`), which suits boxes from brows to chin. For looser boxes use less,
                down to -0.4: faces should be as large in the crop as in training.
        """
        image_rgb = load_rgb(image_rgb)
        # Boxes may be rows of an array; those of a result are plain numbers.
        found = [
            each if isinstance(each, Detection) else Detection(cast(Box, tuple(map(float, each))), None, 1.0)
            for each in detections
        ]
        return self.classify([self.crop(image_rgb, each, margin=margin) for each in found], found)

    def classify(self, crops: Sequence[UInt8], detections: Sequence[Detection]) -> tuple[Face, ...]:
        """Classify results of `crop`, of any number of images, in one batch; returns one `Face` per detection."""
        faces = []
        for detection, prediction in zip(detections, self.predictions(crops), strict=True):
            best = int(np.argmax(prediction[: len(self.model.info.class_names)]))
            faces.append(self.face(detection, prediction, best, certain=bool(prediction[best] >= self.min_confidence)))
        return tuple(faces)

    def crops(self, pictures: UInt8 | Sequence[UInt8], *, margin: float | None = None) -> tuple[Face, ...]:
        """Resize and classify face crops of any size; returns one `Face` per crop, in order.

        For crops of `model.info.preprocessing.crop` use `model.probabilities`.

        Args:
            pictures: uint8 (N, H, W, 3) RGB, a sequence of (H, W, 3), or one (H, W, 3).
            margin: Border around the face on each side of a crop, as a fraction of the face's longer side: 0 for brows
                to chin, about 0.5 for a whole head. The border is cut, or the edges repeated, to the model file's own
                margin. None uses each crop unchanged, like a training image that is one face.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
            pictures = pictures[None]
        pictures = [load_rgb(picture) for picture in pictures]
        boxes = [_face_of_crop(picture, margin) for picture in pictures]
        return self.classify([self.crop(picture, box) for picture, box in zip(pictures, boxes, strict=True)], boxes)

    def video(
        self, address: str | os.PathLike[str] | int, *, smoothing: Smoothing | None = None, every: int = 1
    ) -> Iterator[tuple["Frame", Result]]:
        """Recognise every n-th frame of a video file, camera or stream with tracking and smoothing.

        Yields:
            (frame, result): `frame.image_rgb` is uint8 (H, W, 3) RGB, `frame.time_s` its time in seconds; the faces of
            `result` have a `track_id`.

        Raises:
            EmodetError: The video (see `emodet.open_video`) cannot be opened, or is cut off.
        """
        # Deferred: these modules import this one, and stills do not need them.
        from emodet.inference.capture import open_video
        from emodet.inference.pipeline import StreamOptions, recognise_video

        options = StreamOptions(smoothing or Smoothing(), every)
        place = Path(address) if isinstance(address, os.PathLike) else address
        source, names = hide_password(str(place)), self.model.info.class_names
        with open_video(place) as video, closing(recognise_video(self, video, options)) as results:
            for each in results:
                frame = each.frame
                yield frame, Result(each.faces, frame.image_rgb, names, source, frame.index, frame.time_s)

    def stream(
        self,
        frames: Iterable[UInt8],
        *,
        frame_rate: float = 25.0,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
    ) -> Iterator[tuple[Face, ...]]:
        """Recognise successive frames with tracking and smoothing; yields the faces of each frame.

        Args:
            frames: Images, uint8 (H, W, 3) RGB, read one at a time.
            frame_rate: Frames per second.
            smoothing: None for the default.
            detect_every: Interval of face detection in frames; in between, faces are tracked by optical flow.
        """
        from emodet.inference.stream import FaceStream  # deferred: it imports this module

        require(frame_rate > 0, "frame_rate", frame_rate, "a number above 0")
        stream = FaceStream(self, smoothing=smoothing, detect_every=detect_every)
        for index, frame in enumerate(frames):
            yield stream.step(frame, index / frame_rate)

    def crop(self, image_rgb: UInt8, detection: Detection, *, margin: float | None = None) -> UInt8:
        """Crop a face for the model file: uint8, (size, size, 3), RGB; `margin` as in `recognise`."""
        box = None if detection.whole_picture else detection.box
        preprocessing = self.model.info.preprocessing
        if margin is not None:
            preprocessing = dataclasses.replace(preprocessing, margin=margin)
        return preprocessing.crop(image_rgb, box, detection.landmarks)

    def face(
        self, detection: Detection, prediction: Float32, label: int, *, certain: bool, track_id: int | None = None
    ) -> Face:
        """Build a `Face` from a row of `predictions`, the index of its label, and whether the label is certain."""
        names = self.model.info.class_names
        values = prediction.tolist()
        valence, arousal = values[len(names) :] or (None, None)
        return Face(
            box=detection.box,
            landmarks=detection.landmarks,
            detection_score=detection.score,
            emotion=names[label] if certain else UNCERTAIN,
            probabilities=dict(zip(names, values, strict=False)),
            confidence=values[label],
            valence=valence,
            arousal=arousal,
            track_id=track_id,
        )

    def predictions(self, crops: Sequence[UInt8]) -> Float32:
        """Return probabilities, float32 (N, K); with a valence/arousal head also these, as columns K and K + 1."""
        size = self.model.info.preprocessing.size
        batch = np.stack(crops) if crops else np.zeros((0, size, size, 3), dtype=np.uint8)
        probabilities, valence_arousal = self.model.run(batch)
        if self._class_weights is not None:
            probabilities = probabilities * self._class_weights
            probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities if valence_arousal is None else np.concatenate([probabilities, valence_arousal], axis=1)


def _face_of_crop(picture: UInt8, margin: float | None) -> Detection:
    if margin is None:
        return WholePicture()(picture)[0]
    require(0 <= margin <= 2, "margin", margin, "a fraction of the face's side, 0 to 2, or None")
    height, width = picture.shape[:2]
    half = max(height, width) / (1 + 2 * margin) / 2
    return Detection((width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half), None, 1.0)


def _confidence_threshold(value: float | str, model: ModelFile) -> float:
    if value == "auto":
        if model.info.min_confidence is None:
            raise EmodetError(f"min_confidence=auto: {model.name} contains no threshold; set a probability")
        return model.info.min_confidence
    if isinstance(value, str) or not 0 <= value <= 1:
        raise EmodetError(f"min_confidence={value}: expected a probability from 0 to 1, or auto")
    return value


def _class_weights(prior: str, model: ModelFile) -> Float32 | None:
    """Return factors of the probabilities, float32 (K,), or None."""
    if prior == "trained":
        return None
    require(prior == "balanced", "prior", prior, "trained or balanced")
    shares = np.array(model.info.class_shares, dtype=np.float32)
    if not shares.size or not shares.all():
        raise EmodetError(f"prior=balanced: {model.name} lacks the class shares of its training data; use trained")
    return shares**-BALANCE
