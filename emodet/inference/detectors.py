"""Face detectors by name, and `find_faces`, the search at several sizes for stills, streams and packing.

The page implements the same search in `app/page/js/recognition/detection.js`, with the constants of this module.
"""

import cmath
import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.images import reduced
from emodet.inference import centerface, yunet
from emodet.inference.faces import Detection, Points, enlarged, overlap, shared_area
from emodet.preprocessing import Preprocessing

DETECTORS = ("auto", "yunet", "centerface", "none")

STILL_SIDES = (1280, 416, 192)
"""Sizes at which a still is searched: pixels along the longer side. Both detectors miss faces larger than about 500
pixels; these are found in the smaller copies, whose search takes 0.13 of the time of that at 1280."""

STREAM_SIDES = (480,)
"""Sizes at which frames of a stream are searched. If no face is tracked, the last of `STILL_SIDES` is added."""

MAX_FACE = 400  # pixels of the search: larger faces are detected in a smaller copy
NEXT_SIDE = 0.6  # maximum ratio of one size to the next larger one: closer sizes find the same faces
SAME_FACE = 0.4  # intersection over union of boxes found at two sizes
INSIDE = 0.6  # share of a box inside a larger face above which it is a part of that face
SCORE_STEP = 0.1  # a finer search is preferred unless its score is this much lower
SMALLEST_DOUBTFUL = 12  # pixels of the search: smaller doubtful faces cannot be distinguished from texture
CHECK_SIDE, CHECK_MARGIN, CHECK_SCORE, CHECK_OVERLAP = 160, 0.6, 0.2, 0.3
TURNED = 60.0  # degrees of roll from which landmarks are checked
ROLL_ERROR = 30.0  # maximum error of the roll in a second detection, in degrees
QUARTER_ERROR = 45.0  # the same for the best of four detections, a quarter turn apart
UPRIGHT_SCORE = 0.8  # score of a second detection of a large face below which the face may be sideways or upside down
LARGE = 64  # pixels; larger faces below the detector's ``sure_large_score`` can be turned and are checked

check_crop = Preprocessing(size=CHECK_SIDE, margin=CHECK_MARGIN, alignment="eyes")


class Detector(Protocol):
    """Finds faces at one size. Must be thread-safe if the recognizer is called from several threads.

    `find_faces` calls a detector once, unless it has an attribute ``sure_score``. Then it searches at several sizes and
    checks faces with a lower score by a second detection; for faces above `LARGE` pixels the optional attribute
    ``sure_large_score`` applies instead.
    """

    name: str
    description: str  # name and origin of its weights
    min_score: float  # default threshold

    def __call__(self, image_rgb: UInt8, *, longest_side: int, min_score: float | None = None) -> tuple[Detection, ...]:
        """Find the faces of an image, uint8 (H, W, 3) RGB; boxes are in pixels of the image, highest score first.

        An image larger than `longest_side` pixels is reduced first. `min_score` is 0..1, or None for `self.min_score`.
        """
        ...


class WholePicture:
    """Detector for images that are face crops: returns one detection that covers the image."""

    name = "none"
    description = "none (each picture is one face)"
    min_score = 0.0

    def __call__(
        self, image_rgb: UInt8, *, longest_side: int = 0, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Return one detection that covers the image."""
        height, width = image_rgb.shape[:2]
        return (Detection((0.0, 0.0, float(width), float(height)), None, 1.0, whole_picture=True),)


def make_detector(name: str = "auto", *, threads: int | None = None) -> Detector:
    """Build a detector: one of `DETECTORS`, or ``yunet:FILE.onnx`` for a weights file.

    ``auto`` is YuNet if its weights are installed, else CenterFace. `threads` is the number of CenterFace's threads;
    YuNet uses those of OpenCV (`cv2.setNumThreads`).

    Raises:
        EmodetError: The name is unknown, or the weights are not available.
    """
    kind, _, path = name.partition(":")
    if path and kind != "yunet":
        raise EmodetError(f"detector={name!r}: only yunet takes a file, as in yunet:weights.onnx")
    match kind:
        case "yunet":
            return yunet.YuNet(Path(path) if path else yunet.weights())
        case "centerface":
            return centerface.CenterFace(threads=threads)
        case "none":
            return WholePicture()
        case "auto":
            weights = yunet.installed_weights()
            return yunet.YuNet(weights) if weights else centerface.CenterFace(threads=threads)
    raise EmodetError(f"detector={name!r} is unknown; use one of {', '.join(DETECTORS)}")


def find_faces(
    detector: Detector, image_rgb: UInt8, *, sides: Sequence[int] = STILL_SIDES, min_score: float | None = None
) -> tuple[Detection, ...]:
    """Find every face once, from 20 pixels of the largest search to the whole image; highest score first.

    The image is searched at several sizes. Boxes of the same face are merged; boxes inside a larger face are dropped as
    parts of it. A face below the detector's ``sure_score``, or turned by more than 60 degrees, is enlarged and detected
    again by CenterFace. This rejects most false boxes and corrects the landmarks of turned faces. Faces that are not
    confirmed are dropped; large ones with a sufficient score only lose their landmarks.

    Args:
        detector: A detector of `make_detector`, or your own, which is called once at the largest of `sides`.
        image_rgb: uint8, (H, W, 3), RGB.
        sides: Sizes of the search: pixels along the longer side. Larger ones are replaced by the image's own.
        min_score: Score threshold, 0..1; None for the detector's own. With a lower threshold, faces that were not
            confirmed are returned too, with a score below the detector's own threshold.
    """
    sure_score: float | None = getattr(detector, "sure_score", None)
    if sure_score is None:
        return detector(image_rgb, longest_side=max(sides), min_score=min_score)
    threshold = detector.min_score if min_score is None else min_score
    copy = reduced(image_rgb, max(sides))
    kept: list[Detection] = []
    for face in sorted(_merged(_search(detector, copy, sides, threshold)), key=lambda face: -face.side):
        larger = [other for other in kept if other.score >= detector.min_score]
        if not any(shared_area(face.box, other.box) > INSIDE * shared_area(face.box, face.box) for other in larger):
            checked = _checked(detector, copy, face, sure_score)
            if checked.score >= threshold:
                kept.append(checked)
    return enlarged(sorted(kept, key=lambda face: -face.score), copy, image_rgb)


def _search(
    detector: Detector, image_rgb: UInt8, sides: Sequence[int], threshold: float
) -> list[tuple[int, Detection]]:
    """Run the detector at each size; return pairs (size, detection in pixels of `image_rgb`)."""
    longest = max(image_rgb.shape[:2])
    searched: list[int] = []
    for side in sorted({min(side, longest) for side in sides}, reverse=True):
        if not searched or side <= NEXT_SIDE * searched[-1]:
            searched.append(side)
    found: list[tuple[int, Detection]] = []
    small = image_rgb
    for side in searched:
        small = reduced(small, side)
        faces = detector(small, longest_side=side, min_score=threshold)
        kept = [face for face in faces if face.side <= MAX_FACE or side == searched[-1]]
        found += [(side, face) for face in enlarged(kept, small, image_rgb)]
    return found


def _merged(found: Sequence[tuple[int, Detection]]) -> list[Detection]:
    """Keep one detection per face: of the finest search with a score close to the best one."""
    groups: list[list[tuple[int, Detection]]] = []
    for side, face in sorted(found, key=lambda item: -item[1].score):
        group = next((each for each in groups if overlap(each[0][1].box, face.box) > SAME_FACE), None)
        if group is None:
            groups.append([(side, face)])
        elif face.score > group[0][1].score - SCORE_STEP:
            group.append((side, face))
    return [max(group, key=lambda item: item[0])[1] for group in groups]


def _checked(detector: Detector, image_rgb: UInt8, face: Detection, sure_score: float) -> Detection:
    """Check a face by a second detection; without a confirmation, lower its score below the detector's threshold.

    The first landmarks of turned faces are often wrong and are replaced by later ones.
    """
    roll, large = _roll(face.landmarks), face.side > LARGE
    turned = abs(roll) > TURNED
    sure = face.score >= (getattr(detector, "sure_large_score", sure_score) if large else sure_score)
    if face.score < detector.min_score or (sure and not turned):
        return face
    if face.side >= SMALLEST_DOUBTFUL:
        second = _redetect(image_rgb, face, roll)
        if turned and second is None:
            roll = 0.0
            second = _redetect(image_rgb, face, roll)
        if second is not None:
            if second.error > ROLL_ERROR or (large and second.score < UPRIGHT_SCORE):
                quarters = (_redetect(image_rgb, face, roll + angle) for angle in (90, 180, 270))
                upright = [each for each in (second, *quarters) if each is not None and each.error <= QUARTER_ERROR]
                second = max(upright, key=lambda each: each.score, default=_SecondDetection(0, 0, None))
            error = abs((_roll(second.landmarks) - _roll(face.landmarks) + 180) % 360 - 180)
            is_right = second.landmarks and error <= ROLL_ERROR and abs(_roll(second.landmarks)) <= TURNED
            return face if is_right else replace(face, landmarks=second.landmarks)
        if face.score >= sure_score:
            return replace(face, landmarks=None) if large else face
    return replace(face, score=min(face.score, detector.min_score - 0.01))


class _SecondDetection(NamedTuple):
    """Score, absolute roll in the crop in degrees, and landmarks in pixels of the image."""

    score: float
    error: float
    landmarks: Points | None


def _redetect(image_rgb: UInt8, face: Detection, roll: float) -> _SecondDetection | None:
    """Detect a face again, enlarged and turned upright by `roll` degrees; None if it is not found."""
    turn = cmath.rect(1, math.radians(roll))
    crop = check_crop.crop(image_rgb, face.box, ((0, 0), (turn.real, turn.imag)))
    faces = _second_detector()(crop, longest_side=CHECK_SIDE, min_score=CHECK_SCORE)
    edge = CHECK_SIDE * CHECK_MARGIN / (1 + 2 * CHECK_MARGIN)
    middle = (edge, edge, CHECK_SIDE - edge, CHECK_SIDE - edge)
    best = max(faces, key=lambda each: overlap(middle, each.box), default=None)
    if best is None or best.landmarks is None or overlap(middle, best.box) <= CHECK_OVERLAP:
        return None
    turn *= face.side * (1 + 2 * CHECK_MARGIN) / CHECK_SIDE
    centre = complex(face.box[0] + face.box[2], face.box[1] + face.box[3]) / 2
    points = [centre + turn * complex(x - CHECK_SIDE / 2, y - CHECK_SIDE / 2) for x, y in best.landmarks]
    landmarks = tuple((point.real, point.imag) for point in points)
    return _SecondDetection(best.score, abs(_roll(best.landmarks)), landmarks)


@functools.cache
def _second_detector() -> Detector:
    return centerface.CenterFace(threads=1)


def _roll(landmarks: Points | None) -> float:
    """Return the angle of the line through the eyes in degrees, clockwise, -180..180; 0 without landmarks."""
    (ax, ay), (bx, by) = (landmarks or ((0, 0), (0, 0)))[:2]
    return math.degrees(math.atan2(by - ay, bx - ax))
