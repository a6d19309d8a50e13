"""Annotated pictures: hidden or visible faces, labels, heat maps at the side.

Heat maps are occlusion maps (Zeiler and Fergus 2014, section 4.2), which need the model file only, no gradients.
"""

import dataclasses
import errno
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.files import write_atomically
from emodet.inference import overlay
from emodet.inference.faces import Box, Detection, Face, scaled
from emodet.inference.rows import RowsError
from emodet.modelfile import ModelFile

if TYPE_CHECKING:
    from emodet.inference.recognizer import Recognizer

__all__ = ["HeatMap", "draw", "encoded", "heat_maps", "occlusion_map", "readable", "strip_width", "write_picture"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

_READABLE_SIDE = 480
_JPEG_QUALITY = 92
_PATCH = 0.25  # of the crop's side
_STEPS = 9  # positions along each side
_MIN_PROBABILITY = np.float32(1e-12)  # a softmax in float32 can be 0, whose logarithm is not finite


@dataclasses.dataclass(frozen=True, slots=True)
class HeatMap:
    """What a prediction rests on: the crop, uint8 (size, size, 3) RGB, and the heat, float32 (size, size)."""

    title: str
    crop: UInt8
    heat: Float32


def heat_maps(
    recognizer: "Recognizer", image_rgb: UInt8, faces: Sequence[Face], *, at_most: int | None = None
) -> tuple[HeatMap, ...]:
    """Explain the faces of a frame, uint8 (H, W, 3) RGB, the largest first, `at_most` so many.

    Each costs 82 crops through the model file.
    """
    maps = []
    for face in sorted(faces, key=lambda face: face.box[0] - face.box[2])[:at_most]:
        whole = recognizer.detector.name == "none"
        crop = recognizer.crop(image_rgb, Detection(face.box, face.landmarks, face.detection_score, whole))
        number = "" if face.track_id is None else f"#{face.track_id} "
        heat = occlusion_map(recognizer.model, crop, face.most_probable)
        maps.append(HeatMap(f"{number}{face.most_probable}", crop, heat))
    return tuple(maps)


def occlusion_map(model: "ModelFile", crop: UInt8, class_name: str) -> Float32:
    """How much each part of a crop of `Recognizer.crop`, uint8 (size, size, 3) RGB, contributes to a class.

    Returns:
        float32, (size, size): how far the class's log odds, ln(p / (1 - p)), fall when the surroundings of a pixel are
        covered with the crop's mean colour; negative where they rise. Probabilities near 1 hardly change, log odds do.

    Raises:
        EmodetError: The model file has no such class.
    """
    if class_name not in model.info.class_names:
        raise EmodetError(f"class {class_name!r}: the model file has {', '.join(model.info.class_names)}")
    column = model.info.class_names.index(class_name)
    size = crop.shape[0]
    patch = max(1, round(size * _PATCH))
    starts = np.linspace(0, size - patch, _STEPS).round().astype(int)
    covered = np.repeat(crop[None], 1 + _STEPS * _STEPS, axis=0)
    colour = crop.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    places = [(y, x) for y in starts for x in starts]
    for index, (y, x) in enumerate(places, start=1):
        covered[index, y : y + patch, x : x + patch] = colour
    probabilities = model.probabilities(covered)
    # The others' sum, not 1 - p: near 1 that would be a step of float32.
    others = np.delete(probabilities, column, axis=1).sum(axis=1)
    odds = np.log(np.maximum(probabilities[:, column], _MIN_PROBABILITY)) - np.log(np.maximum(others, _MIN_PROBABILITY))
    heat = np.zeros((size, size), dtype=np.float32)
    times = np.zeros((size, size), dtype=np.float32)
    for (y, x), left in zip(places, odds[1:], strict=True):
        heat[y : y + patch, x : x + patch] += odds[0] - left
        times[y : y + patch, x : x + patch] += 1
    heat /= np.maximum(times, 1)
    # Smooth the edges of the patches.
    return np.asarray(cv2.GaussianBlur(heat, (0, 0), patch / 4), dtype=np.float32)


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
    return enlarged, tuple(scaled(face, factor, factor) for face in faces)


def write_picture(picture: UInt8, path: Path) -> None:
    """Write a uint8 (H, W, 3) RGB picture as JPEG or PNG, by the suffix; an existing file is replaced."""
    try:
        write_atomically(path, encoded(picture, path.suffix.lower(), name=str(path)))
    except OSError as problem:
        kind = RowsError if problem.errno in (errno.ENOSPC, errno.EDQUOT) else EmodetError
        raise kind(f"{path}: could not be written ({problem.strerror or problem})") from None


def encoded(picture: UInt8, suffix: str, *, name: str = "picture") -> bytes:
    """A uint8 (H, W, 3) RGB picture as the bytes of an image file: ``.jpg``, ``.jpeg`` or ``.png``."""
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise EmodetError(f"{name}: pictures are written as .jpg or .png, not {suffix or 'without a suffix'}")
    settings = [] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise EmodetError(f"{name}: {picture.shape[1]}×{picture.shape[0]} pixels cannot be encoded as {suffix}")
    return bytes(data)
