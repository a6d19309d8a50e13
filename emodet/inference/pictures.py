"""Annotated pictures: hidden or visible faces, labels, heat maps at the side."""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from emodet.inference import overlay
from emodet.inference.explain import occlusion_map
from emodet.inference.faces import Box, Detection, Face
from emodet.inference.recognizer import Recognizer

__all__ = ["HeatMap", "draw", "heat_maps", "readable", "strip_width"]

UInt8 = npt.NDArray[np.uint8]

_READABLE_SIDE = 480


@dataclasses.dataclass(frozen=True, slots=True)
class HeatMap:
    """What a prediction rests on: the crop, uint8 (size, size, 3) RGB, and the heat, float32 (size, size)."""

    title: str
    crop: UInt8
    heat: npt.NDArray[np.float32]


def heat_maps(
    recognizer: Recognizer, image_rgb: UInt8, faces: Sequence[Face], *, at_most: int | None = None
) -> tuple[HeatMap, ...]:
    """Explain the faces of a frame, the largest first.

    Args:
        recognizer: The recognizer that found them.
        image_rgb: uint8, (H, W, 3), RGB.
        faces: Its faces.
        at_most: Skip smaller ones; each face costs 82 crops through the model file.
    """
    largest = sorted(faces, key=lambda face: face.box[0] - face.box[2])[:at_most]
    maps = []
    for face in largest:
        whole = recognizer.detector.name == "none"
        crop = recognizer.crop(image_rgb, Detection(face.box, face.landmarks, face.detection_score, whole))
        number = "" if face.track_id is None else f"#{face.track_id} "
        heat = occlusion_map(recognizer.model, crop, face.most_probable)
        maps.append(HeatMap(f"{number}{face.most_probable}", crop, heat))
    return tuple(maps)


def draw(
    image_rgb: UInt8,
    faces: Sequence[Face],
    *,
    hidden: Sequence[Box] | None = None,
    maps: Sequence[HeatMap] | None = None,
    note: str = "",
) -> UInt8:
    """The annotated picture.

    Args:
        image_rgb: uint8, (H, W, 3), RGB; not changed.
        faces: Faces to label.
        hidden: Boxes to make unrecognisable, everywhere in the result; None shows all faces.
        maps: Heat maps for the strip to the right; None for no strip.
        note: Text for the lower left corner.

    Returns:
        uint8, (H, W, 3), or (H, W + `strip_width`, 3) with a strip.
    """
    base = image_rgb if hidden is None else overlay.hide_faces(image_rgb, hidden)
    picture = overlay.annotate(base, faces, note=note)
    if maps is None:
        return picture
    width = strip_width(image_rgb.shape[0])
    tiles = [overlay.heat_tile(m.crop, m.heat, m.title, side=width, hidden=hidden is not None) for m in maps]
    return overlay.with_strip(picture, tiles, width=width)


def strip_width(height: int) -> int:
    """Width of the strip beside a picture of that height: even, and three tiles fit into it."""
    return max(2, 2 * math.floor(height * 0.3 / 2))


def readable(image_rgb: UInt8, faces: Sequence[Face]) -> tuple[UInt8, tuple[Face, ...]]:
    """Enlarge a picture that is too small for labels by a whole factor, and its faces with it."""
    factor = math.ceil(_READABLE_SIDE / max(image_rgb.shape[:2]))
    if factor <= 1:
        return image_rgb, tuple(faces)
    size = (image_rgb.shape[1] * factor, image_rgb.shape[0] * factor)
    enlarged = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return enlarged, tuple(_scaled(face, factor) for face in faces)


def _scaled(face: Face, factor: int) -> Face:
    x1, y1, x2, y2 = face.box
    landmarks = face.landmarks
    if landmarks is not None:
        landmarks = tuple((x * factor, y * factor) for x, y in landmarks)
    return dataclasses.replace(face, box=(x1 * factor, y1 * factor, x2 * factor, y2 * factor), landmarks=landmarks)
