"""What is found in a picture: a detection (where a face is) and a face (what it shows)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["UNCERTAIN", "Box", "Detection", "Face", "Points"]

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]

UNCERTAIN = "uncertain"
"""What `Face.emotion` says where no emotion is probable enough."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Where a face is.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive; it may reach outside the picture.
        landmarks: Five points (x, y) in pixels: the eye on the picture's left, the one on its right, the nose tip,
            the mouth corners on the picture's left and right. None where the detector gives none.
        score: 0..1, how sure the detector is.
        whole_picture: The picture is a face that somebody has cut already: margin and alignment do not apply.
    """

    box: Box
    landmarks: Points | None
    score: float
    whole_picture: bool = False

    @property
    def side(self) -> float:
        """The box's longer side in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True)
class Face:
    """One face of one frame.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive; it may reach outside the picture.
        landmarks: Five points (x, y) in pixels, ordered as in `Detection`, or None.
        detection_score: 0..1, how sure the detector is that this is a face.
        emotion: The most probable class; in a video the one that its track shows, which changes only when another
            is clearly more probable. ``uncertain`` where its probability is below the recognizer's min_confidence.
        probabilities: Class name to probability, summing to 1, in the model file's order; in a video smoothed.
        confidence: The probability of the most probable class, or of the one that the track shows.
        valence: Unpleasant to pleasant, -1..1, or None where the model file does not say.
        arousal: Calm to excited, likewise.
        track_id: The same number for the same face from frame to frame, from 1; None in single pictures.
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

    @property
    def uncertain(self) -> bool:
        """Whether no emotion is probable enough; `most_probable` still names the best."""
        return self.emotion == UNCERTAIN

    @property
    def most_probable(self) -> str:
        """The class with the highest probability, certain or not."""
        return max(self.probabilities, key=self.probabilities.__getitem__)
