"""Result types `Detection` (box, landmarks, score) and `Face` (with emotion), and geometry of boxes and landmarks."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from emodet.arrays import UInt8
from emodet.emotions import UNCERTAIN

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""Names of the landmarks in rows and REST responses; left and right as seen in the image."""

MIN_CONFIDENCE = 0.4
"""Default of `min_confidence` in Python, on the command line, in the REST interface and on the page."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Position of a face.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive; it can extend outside the image.
        landmarks: Five points (x, y) in pixels: left eye, right eye, nose tip, left and right mouth corner; left and
            right as seen in the image with the face upright. None if the detector returns none.
        score: Detector confidence, 0..1.
        whole_picture: Whether the image is a face crop already; margin and alignment then do not apply.
    """

    box: Box
    landmarks: Points | None
    score: float
    whole_picture: bool = False

    @property
    def side(self) -> float:
        """Longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True, repr=False)
class Face:
    """One face of one frame.

    Attributes:
        box: As in `Detection`; likewise `landmarks` and `detection_score`.
        emotion: The most probable class; in a video the label of the track, which changes only when another class is
            clearly more probable. ``uncertain`` if its probability is below the recognizer's `min_confidence`.
        probabilities: Probability by class name, summing to 1, in the model file's order; smoothed in a video.
        confidence: Probability of the most probable class, or in a video of the track's label.
        valence: Unpleasant to pleasant, -1..1; None without a valence/arousal head. `arousal`: calm to excited.
        track_id: Number of the face's track, from 1, constant from frame to frame; None in still images.
    """

    box: Box
    landmarks: Points | None
    detection_score: float
    emotion: str
    probabilities: Mapping[str, float] = field(hash=False)
    confidence: float
    valence: float | None = None
    arousal: float | None = None
    track_id: int | None = None

    def __repr__(self) -> str:
        track = "" if self.track_id is None else f"#{self.track_id} "
        place = ", ".join(f"{value:.0f}" for value in self.box)
        return f"Face({track}{self.emotion} {self.confidence:.0%}, box ({place}))"

    @property
    def uncertain(self) -> bool:
        """Whether no class reaches `min_confidence`; `most_probable` is the best class even then."""
        return self.emotion == UNCERTAIN

    @property
    def most_probable(self) -> str:
        """The class with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def top(self, count: int = 3) -> tuple[tuple[str, float], ...]:
        """Return the most probable classes and their probabilities, highest first."""
        return tuple(sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count])

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as JSON types."""
        return dataclasses.asdict(self) | {"probabilities": dict(self.probabilities)}


FaceT = TypeVar("FaceT", Detection, Face)


def ordered_landmarks(points: Sequence[Sequence[float]]) -> Points:
    """Order two eyes, nose tip and two mouth corners as in `Detection.landmarks`.

    Detectors order eyes and mouth corners by the person's side, or inconsistently. Here left and right follow from the
    direction from eyes to mouth, so the eyes of an upside-down face are ordered from right to left.
    """
    (ax, ay), (bx, by), nose, (cx, cy), (dx, dy) = ((float(x), float(y)) for x, y in points)
    down_x, down_y = (cx + dx - ax - bx) / 2, (cy + dy - ay - by) / 2
    eyes, mouth = ((ax, ay), (bx, by)), ((cx, cy), (dx, dy))
    if (bx - ax) * down_y - (by - ay) * down_x < 0:
        eyes = eyes[::-1]
    if (dx - cx) * down_y - (dy - cy) * down_x < 0:
        mouth = mouth[::-1]
    return (*eyes, nose, *mouth)


def scaled(face: FaceT, x: float, y: float) -> FaceT:
    """Scale box and landmarks by the factors `x` and `y`."""
    x1, y1, x2, y2 = face.box
    points = face.landmarks and tuple((px * x, py * y) for px, py in face.landmarks)
    return dataclasses.replace(face, box=(x1 * x, y1 * y, x2 * x, y2 * y), landmarks=points)


def enlarged(faces: Iterable[Detection], small: UInt8, large: UInt8) -> tuple[Detection, ...]:
    """Scale faces of the reduced copy `small` to pixels of the image `large`."""
    x, y = large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]
    return tuple(scaled(face, x, y) for face in faces)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    shared = shared_area(one, other)
    return shared / (shared_area(one, one) + shared_area(other, other) - shared) if shared else 0.0


def shared_area(one: Box, other: Box) -> float:
    """Return the area of the intersection of two boxes, in square pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
