"""The recognizer: a frame in, its faces with their emotions out."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference.detectors import Detector, WholePicture, checked_image, make_detector
from emodet.inference.faces import UNCERTAIN, Detection, Face
from emodet.inference.following import Follower
from emodet.inference.smoothing import Smoother, Smoothing
from emodet.inference.tracking import Track, Tracker
from emodet.modelfile import ModelFile, Precision, read_model_file, shipped_model

__all__ = ["FaceStream", "Recognizer", "open_model"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

STILL_SIDE = 1280
STREAM_SIDE = 480
DETECT_EVERY = 5


class Recognizer:
    """Finds the faces of a picture and says what they show.

    ```python
    from emodet import Recognizer

    recognizer = Recognizer()
    for face in recognizer(image_rgb):
        print(face.emotion, face.confidence, face.box)
    ```

    Attributes:
        model: The opened model file; `model.info` says what it is.
        detector: What finds the faces; `detector.name` says which.
        min_confidence: As it was given.
        max_faces: As it was given.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelFile | None = None,
        *,
        detector: str | Detector = "auto",
        threads: int | None = None,
        providers: Sequence[str] = ("cpu",),
        min_confidence: float = 0.0,
        max_faces: int | None = None,
    ) -> None:
        """Open the model file and the detector.

        Args:
            model: A model file's path, an opened one, ``int8`` or ``fp32`` for one that comes with the package, or
                None for the shipped default.
            detector: A name (`emodet.inference.detectors.DETECTORS`, or ``yunet:FILE.onnx``), or a detector of your
                own.
            threads: How many threads a call of ONNX Runtime may use; None for one per core.
            providers: What runs the model file, the preferred first: cpu, cuda, coreml, directml, openvino,
                tensorrt, where the installed ONNX Runtime has them. Detectors run on the CPU.
            min_confidence: Below this probability, 0..1, a face's emotion is ``uncertain``.
            max_faces: Recognise only this many faces of a frame, the largest first; None for all.

        Raises:
            EmodetError: The model file is not there or refused, the detector's weights are not at hand, or a value
                is out of its range.
        """
        if not 0 <= min_confidence <= 1:
            raise EmodetError(f"min_confidence={min_confidence}: a probability from 0 to 1 is needed")
        if max_faces is not None and max_faces < 1:
            raise EmodetError(f"max_faces={max_faces}: 1 or more, or None for all, is needed")
        self.model = model if isinstance(model, ModelFile) else open_model(model, providers=providers, threads=threads)
        self.detector = make_detector(detector, threads=threads) if isinstance(detector, str) else detector
        self.min_confidence = min_confidence
        self.max_faces = max_faces

    def __call__(self, image_rgb: UInt8) -> tuple[Face, ...]:
        """Recognise every face of one picture.

        Args:
            image_rgb: uint8, (H, W, 3), RGB (OpenCV reads BGR: ``image[:, :, ::-1]``).

        Returns:
            One `Face` for each, the surest detection first; empty where there is none.

        Raises:
            EmodetError: The picture is not uint8 (H, W, 3).
        """
        return self.recognise(image_rgb, self.detect(image_rgb))

    def detect(
        self, image_rgb: UInt8, *, longest_side: int = STILL_SIDE, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of a picture; at most `max_faces`, the surest first.

        Args:
            image_rgb: uint8, (H, W, 3), RGB.
            longest_side: A larger picture is searched at this many pixels along its longer side.
            min_score: Leave out what the detector is less sure of; None for its own value.
        """
        found = self.detector(checked_image(image_rgb), longest_side=longest_side, min_score=min_score)
        if self.max_faces is None or len(found) <= self.max_faces:
            return found
        largest = set(sorted(range(len(found)), key=lambda index: -found[index].side)[: self.max_faces])
        return tuple(detection for index, detection in enumerate(found) if index in largest)

    def recognise(self, image_rgb: UInt8, detections: Sequence[Detection]) -> tuple[Face, ...]:
        """Say what faces show that have been found already, all in one batch.

        Args:
            image_rgb: uint8, (H, W, 3), RGB.
            detections: Where they are.

        Returns:
            One `Face` for each detection, in their order.
        """
        return tuple(
            self.face(detection, reading, self._best(reading))
            for detection, reading in zip(detections, self.readings(image_rgb, detections), strict=True)
        )

    def crops(self, pictures: UInt8 | Sequence[UInt8]) -> tuple[Face, ...]:
        """Recognise faces that have been cut already, whatever their size.

        Each picture is made what the model file expects (size, colour, detail), as a training picture that is one
        face. Margin and alignment do not apply. Crops that `model.info.preprocessing.crop` has cut out of larger
        pictures need no second time: `model.probabilities` takes those.

        Args:
            pictures: uint8, (N, H, W, 3), RGB, or a sequence of (H, W, 3) of different sizes.

        Returns:
            One `Face` for each picture, its box the whole picture.

        Raises:
            EmodetError: A picture is not uint8 (H, W, 3).
        """
        found = [WholePicture()(checked_image(picture))[0] for picture in pictures]
        cut = [self.crop(picture, detection) for picture, detection in zip(pictures, found, strict=True)]
        readings = self._run(cut)
        return tuple(
            self.face(detection, reading, self._best(reading))
            for detection, reading in zip(found, readings, strict=True)
        )

    def stream(
        self,
        frames: Iterable[UInt8],
        *,
        frame_rate: float = 25.0,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
    ) -> Iterator[tuple[Face, ...]]:
        """Recognise the frames of a video, following faces and calming their readings.

        Args:
            frames: uint8, (H, W, 3), RGB, in order; taken one at a time.
            frame_rate: Frames per second, which smoothing and patience are measured against.
            smoothing: None for the default.
            detect_every: Look for faces in every so many frames; in between, known ones are followed.

        Yields:
            The faces of each frame, with their `track_id`.
        """
        if not frame_rate > 0:
            raise EmodetError(f"frame_rate={frame_rate}: a number above 0 is needed")
        stream = FaceStream(self, smoothing=smoothing, detect_every=detect_every)
        for index, frame in enumerate(frames):
            yield stream.step(frame, index / frame_rate)

    def crop(self, image_rgb: UInt8, detection: Detection) -> UInt8:
        """What the model file sees of a face: uint8, (size, size, 3), RGB."""
        box = None if detection.whole_picture else detection.box
        return self.model.info.preprocessing.crop(image_rgb, box, detection.landmarks)

    def readings(self, image_rgb: UInt8, detections: Sequence[Detection]) -> Float32:
        """What the model file says, as numbers: float32, (N, K), or (N, K + 2) with valence and arousal at the end."""
        return self._run([self.crop(image_rgb, detection) for detection in detections])

    def face(
        self,
        detection: Detection,
        reading: Float32,
        shown: tuple[int, bool],
        track_id: int | None = None,
    ) -> Face:
        """Put a `Face` together: a row of `readings`, the position of the class to show, whether it is certain."""
        names = self.model.info.class_names
        position, certain = shown
        has_more = len(reading) > len(names)
        return Face(
            box=detection.box,
            landmarks=detection.landmarks,
            detection_score=detection.score,
            emotion=names[position] if certain else UNCERTAIN,
            probabilities={name: float(value) for name, value in zip(names, reading, strict=False)},
            confidence=float(reading[position]),
            valence=float(reading[-2]) if has_more else None,
            arousal=float(reading[-1]) if has_more else None,
            track_id=track_id,
        )

    def _run(self, crops: Sequence[UInt8]) -> Float32:
        size = self.model.info.preprocessing.size
        batch = np.stack(crops) if crops else np.zeros((0, size, size, 3), dtype=np.uint8)
        probabilities, valence_arousal = self.model.run(batch)
        return probabilities if valence_arousal is None else np.concatenate([probabilities, valence_arousal], axis=1)

    def _best(self, reading: Float32) -> tuple[int, bool]:
        position = int(np.argmax(reading[: len(self.model.info.class_names)]))
        return position, bool(reading[position] >= self.min_confidence)


class FaceStream:
    """The state of one video or camera: tracks, their smoothed readings, and when to look for faces again.

    Attributes:
        tracks: Every track that is alive, also those that wait to be found again.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        smoothing: Smoothing | None = None,
        detect_every: int = DETECT_EVERY,
        longest_side: int = STREAM_SIDE,
        min_score: float | None = None,
    ) -> None:
        """Start a stream.

        Args:
            recognizer: What recognises.
            smoothing: None for the default.
            detect_every: Look for faces in every so many frames, and wherever one that is followed gets lost.
            longest_side: Larger frames are searched at this many pixels along their longer side.
            min_score: As in `Recognizer.detect`.

        Raises:
            EmodetError: `detect_every` is below 1.
        """
        if detect_every < 1:
            raise EmodetError(f"detect_every={detect_every}: 1 or more is needed")
        self._recognizer = recognizer
        self._smoothing = smoothing or Smoothing()
        self._detect_every = detect_every
        self._longest_side = longest_side
        self._least_score = min_score
        self._tracker = Tracker()
        self._follower = Follower()
        self._smoothers: dict[int, Smoother] = {}
        self._since = detect_every

    @property
    def tracks(self) -> tuple[Track, ...]:
        """See the class."""
        return tuple(self._tracker.tracks)

    def step(self, image_rgb: UInt8, time_s: float) -> tuple[Face, ...]:
        """Recognise the next frame.

        Args:
            image_rgb: uint8, (H, W, 3), RGB.
            time_s: Its time in seconds, not decreasing.

        Returns:
            Its faces, by track number.
        """
        visible = self.locate(image_rgb, time_s)
        readings = self._recognizer.readings(image_rgb, [track.detection for track in visible])
        classes = len(self._recognizer.model.info.class_names)
        faces = []
        for track, reading in zip(visible, readings, strict=True):
            smoother = self._smoothers.get(track.number)
            if smoother is None:
                smoother = Smoother(self._smoothing, self._recognizer.min_confidence)
                self._smoothers[track.number] = smoother
            calmed, position, certain = smoother.update(reading, classes, time_s)
            faces.append(self._recognizer.face(track.detection, calmed, (position, certain), track.number))
        return tuple(faces)

    def locate(self, image_rgb: UInt8, time_s: float) -> list[Track]:
        """Only find or follow the faces of the next frame: the tracks that are visible in it, by number."""
        checked_image(image_rgb)
        visible = None if isinstance(self._recognizer.detector, WholePicture) else self._follow(image_rgb, time_s)
        if visible is None:
            found = self._recognizer.detect(image_rgb, longest_side=self._longest_side, min_score=self._least_score)
            visible = self._tracker.update(found, time_s)
            self._since = 0
        alive = {track.number for track in self._tracker.tracks}
        self._smoothers = {number: kept for number, kept in self._smoothers.items() if number in alive}
        return sorted(visible, key=lambda track: track.number)

    def _follow(self, image_rgb: UInt8, time_s: float) -> list[Track] | None:
        """The visible tracks moved to this frame, or None where it is time to look for faces."""
        self._since += 1
        if self._detect_every == 1:
            return None
        self._follower.look(image_rgb)
        visible = [track for track in self._tracker.tracks if track.visible]
        # One that was just missed is looked for in every frame until the tracker gives it up.
        if not visible or len(visible) < len(self._tracker.tracks) or self._since >= self._detect_every:
            return None
        moved = self._follower.follow([track.detection for track in visible])
        if any(detection is None for detection in moved):
            return None
        for track, detection in zip(visible, moved, strict=True):
            if detection is not None:
                track.detection, track.seen_s = detection, time_s
        return visible


def open_model(
    model: str | os.PathLike[str] | None, *, providers: Sequence[str] = ("cpu",), threads: int | None = None
) -> ModelFile:
    """Open a model file by path, or a shipped one: by ``int8`` or ``fp32``, or the default by None.

    Raises:
        EmodetError: As `emodet.modelfile.read_model_file`.
    """
    if model is None:
        return shipped_model(providers=providers, threads=threads)
    for precision in get_args(Precision):
        if model == precision and not Path(precision).exists():
            return shipped_model(precision, providers=providers, threads=threads)
    return read_model_file(model, providers=providers, threads=threads)
