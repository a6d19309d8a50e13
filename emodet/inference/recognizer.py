"""The recognizer: an image or video in, its faces with their emotions out."""

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
"""Exponent of the class shares for ``prior="balanced"``; 1 would count every emotion as equally frequent."""


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
        min_confidence: float | Literal["auto"] = MIN_CONFIDENCE,
        max_faces: int | None = None,
        prior: Literal["trained", "balanced"] = "trained",
    ) -> None:
        """Open the model file and the detector; `EmodetError` if one is refused or missing, or a value is wrong.

        Args:
            model: Path of a model file, an opened one, or a shipped one: ``int8`` (the default),
                ``accurate`` (right more often, twice the time) or ``fp32``.
            detector: One of `emodet.inference.detectors.DETECTORS`, ``yunet:FILE.onnx``, or a detector of your own.
            threads: Threads of one call of ONNX Runtime; None for one per core.
            providers: Execution providers of the model file, of `emodet.onnx_session.PROVIDERS`, preferred first.
            min_confidence: Below this probability, 0..1, a face's emotion is ``uncertain``; 0 for never. ``auto`` is
                the model file's own threshold, above which 95 % of its predictions on val are right.
            max_faces: Recognise only the largest faces of a frame; None for all.
            prior: ``balanced`` divides the probabilities by (class share in training)^0.4 and rescales them: rare
                emotions are predicted more often, at a cost in accuracy that the model card states.
        """
        require(max_faces is None or max_faces >= 1, "max_faces", max_faces, "1 or more, or None for all")
        with ThreadPoolExecutor(1) as pool:  # both nets are opened at once
            if not isinstance(model, ModelFile):
                place = model_path(DEFAULT_MODEL if model is None else model)
                opening = pool.submit(read_model_file, place, providers=providers, threads=threads)
            self.detector = make_detector(detector, threads=threads) if isinstance(detector, str) else detector
            self.model = model if isinstance(model, ModelFile) else opening.result()
        self.min_confidence = _least_confidence(min_confidence, self.model)
        self._class_weights = _class_weights(prior, self.model)
        self.max_faces = max_faces

    @overload
    def __call__(self, image: list[ImageLike]) -> list[Result]: ...

    @overload
    def __call__(self, image: ImageLike) -> Result: ...

    def __call__(self, image: ImageLike | list[ImageLike]) -> Result | list[Result]:
        """Recognise every face of an image: its `Result`, a tuple of `Face` that draws, saves and shows itself.

        Args:
            image: A path, an http or https address (at most 256 MB and a minute), the bytes of an image file, a Pillow
                image, or a uint8 array (H, W, 3) in RGB order (OpenCV reads BGR: ``image[:, :, ::-1]``); or a list of
                these, for a list of results.

        Raises:
            EmodetError: An image cannot be read, or is not uint8 (H, W, 3).
        """
        if isinstance(image, list):
            return [self(one) for one in image]
        source = hide_password(os.fspath(image)) if isinstance(image, str | os.PathLike) else ""
        if isinstance(image, int) or Path(source).suffix.lower() in VIDEO_SUFFIXES:
            raise EmodetError(f"{source or repr(image)}: not an image; recognizer.video(…) takes videos and cameras")
        if is_web_address(image):
            from emodet.inference.opening import fetch_image  # deferred: other images do not wait for it

            image_rgb = decode_rgb(fetch_image(str(image), source), name=source)
        else:
            image_rgb = load_rgb(image)
        faces = self.recognise(image_rgb, self.detect(image_rgb))
        return Result(faces, image_rgb, self.model.info.class_names, source)

    def detect(
        self, image_rgb: UInt8, *, sides: Sequence[int] = STILL_SIDES, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of an image, uint8 (H, W, 3) RGB; at most `max_faces`, highest score first.

        `sides` and `min_score` are those of `emodet.inference.detectors.find_faces`.
        """
        return self.largest(find_faces(self.detector, load_rgb(image_rgb), sides=sides, min_score=min_score))

    def largest(self, found: Sequence[Detection]) -> tuple[Detection, ...]:
        """The `max_faces` largest detections, in their order."""
        kept = sorted(range(len(found)), key=lambda index: -found[index].side)[: self.max_faces]
        return tuple(found[index] for index in sorted(kept))

    def recognise(
        self, image_rgb: UInt8, detections: Sequence[Detection | Box], *, margin: float | None = None
    ) -> tuple[Face, ...]:
        """Classify faces of an image in one batch: one `Face` for each detection, in order.

        Args:
            image_rgb: uint8 (H, W, 3) RGB.
            detections: Results of `detect`, or boxes of your own, (x1, y1, x2, y2) in pixels.
            margin: Fraction of the box side added on each side; None for the model file's
                (`model.info.preprocessing.margin`), which fits boxes from brows to chin. Give less for looser boxes,
                down to -0.4: with the head and shoulders in the crop the net sees smaller faces than it was trained on.
        """
        image_rgb = load_rgb(image_rgb)
        # Boxes may be rows of an array; those of a result are plain numbers.
        found = [
            each if isinstance(each, Detection) else Detection(cast(Box, tuple(map(float, each))), None, 1.0)
            for each in detections
        ]
        return self.classify([self.crop(image_rgb, each, margin=margin) for each in found], found)

    def classify(self, crops: Sequence[UInt8], detections: Sequence[Detection]) -> tuple[Face, ...]:
        """Classify crops of `crop`, also of several images, in one batch: one `Face` for each detection, in order."""
        faces = []
        for detection, prediction in zip(detections, self.predictions(crops), strict=True):
            best = int(np.argmax(prediction[: len(self.model.info.class_names)]))
            faces.append(self.face(detection, prediction, best, certain=bool(prediction[best] >= self.min_confidence)))
        return tuple(faces)

    def crops(self, pictures: UInt8 | Sequence[UInt8], *, margin: float | None = None) -> tuple[Face, ...]:
        """Classify face crops of any size, resized and recoloured for the model file: one `Face` for each, in order.

        Crops of `model.info.preprocessing.crop` go to `model.probabilities` directly.

        Args:
            pictures: uint8 (N, H, W, 3) RGB, a sequence of (H, W, 3), or one such crop.
            margin: What the crops contain around the face on each side, as a fraction of the face's longer side: 0 for
                brows to chin, about 0.5 for a whole head. It is cut, or repeated at the edges, to the model file's own
                margin. None takes each crop as it is, as a training image that is one face.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
            pictures = pictures[None]
        pictures = [load_rgb(picture) for picture in pictures]
        found = [_face_of_crop(picture, margin) for picture in pictures]
        return self.classify([self.crop(picture, face) for picture, face in zip(pictures, found, strict=True)], found)

    def video(
        self, address: str | os.PathLike[str] | int, *, smoothing: Smoothing | None = None, every: int = 1
    ) -> Iterator[tuple["Frame", Result]]:
        """Recognise every n-th frame of a video file, camera or stream with tracking and smoothing.

        Yields:
            (frame, result): `frame.image_rgb` is uint8 (H, W, 3) RGB, `frame.time_s` its time; the faces of `result`
            have their `track_id`.

        Raises:
            EmodetError: The video (see `emodet.open_video`) cannot be opened, or breaks off.
        """
        # Deferred: they build on this module, and stills do not need them.
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
        """Recognise frames in order, uint8 (H, W, 3) RGB, with tracking and smoothing: the faces of each frame.

        Args:
            frames: Taken one at a time.
            frame_rate: Frames per second.
            smoothing: None for the default.
            detect_every: Detect faces in every n-th frame; between, they are tracked by optical flow.
        """
        from emodet.inference.stream import FaceStream  # deferred: it builds on this module

        require(frame_rate > 0, "frame_rate", frame_rate, "a number above 0")
        stream = FaceStream(self, smoothing=smoothing, detect_every=detect_every)
        for index, frame in enumerate(frames):
            yield stream.step(frame, index / frame_rate)

    def crop(self, image_rgb: UInt8, detection: Detection, *, margin: float | None = None) -> UInt8:
        """The model file's input for a face: uint8, (size, size, 3), RGB; `margin` as in `recognise`."""
        box = None if detection.whole_picture else detection.box
        preprocessing = self.model.info.preprocessing
        if margin is not None:
            preprocessing = dataclasses.replace(preprocessing, margin=margin)
        return preprocessing.crop(image_rgb, box, detection.landmarks)

    def face(
        self, detection: Detection, prediction: Float32, shown: int, *, certain: bool, track_id: int | None = None
    ) -> Face:
        """Build a `Face` from a row of `predictions`, the index of the class to show, and whether it is certain."""
        names = self.model.info.class_names
        values = prediction.tolist()
        valence, arousal = values[len(names) :] or (None, None)
        return Face(
            box=detection.box,
            landmarks=detection.landmarks,
            detection_score=detection.score,
            emotion=names[shown] if certain else UNCERTAIN,
            probabilities=dict(zip(names, values, strict=False)),
            confidence=values[shown],
            valence=valence,
            arousal=arousal,
            track_id=track_id,
        )

    def predictions(self, crops: Sequence[UInt8]) -> Float32:
        """Probabilities, float32 (N, K), with valence and arousal as columns K and K + 1 if the model file has them."""
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
    if prior == "trained":
        return None
    require(prior == "balanced", "prior", prior, "trained or balanced")
    shares = np.array(model.info.class_shares, dtype=np.float32)
    if not shares.size or not shares.all():
        raise EmodetError(f"prior=balanced: {model.name} does not state the share of every class in its training data")
    return shares**-BALANCE
