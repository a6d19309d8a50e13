"""Which part of a stored picture is the face: the crop modes, and what each needs to be known of a face.

Two settings make four modes, and `Preprocessing` cuts them all, as it does live:

- none: ``data.crop=image`` takes the whole picture, which is a face crop already;
- box: ``data.crop=box`` cuts the square around the record's box;
- scaled box: with ``preprocessing.margin`` besides;
- aligned by the eyes: with ``preprocessing.alignment=eyes`` besides, turned upright by the record's landmarks.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emodet.datasets.samples import Sample
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["check_crop", "cut", "require_croppable"]

_NO_BOX = "there is no box, which data.crop=box cuts at"
_NO_EYES = "there are no landmarks, by whose eyes preprocessing.alignment=eyes turns the face upright"


def check_crop(crop: str) -> None:
    """Refuse a way to crop that is not known.

    Raises:
        EmodetError: It is neither ``image`` nor ``box``.
    """
    if crop not in ("image", "box"):
        raise EmodetError(
            f"data.crop={crop!r}: there are image and box; with box, preprocessing.margin scales the box and "
            "preprocessing.alignment=eyes turns the face upright"
        )


def require_croppable(records: Sequence[Sample], crop: str, preprocessing: Preprocessing, allowed: float) -> None:
    """Refuse a way to crop for which too many faces lack what it needs, before a picture is opened.

    Args:
        records: The faces.
        crop: ``image`` or ``box``.
        preprocessing: What a crop is.
        allowed: The share of faces that may lack it; `cut` refuses them one by one.

    Raises:
        EmodetError: More faces than that have no box, or no landmarks.
    """
    if crop != "box":
        return
    allowed_faces = allowed * len(records)
    missing = sum(record.box is None for record in records)
    if missing > allowed_faces:
        raise EmodetError(
            f"data.crop=box: {missing:,} of {len(records):,} faces have no box; use data.crop=image, or a reader's "
            "option that brings boxes"
        )
    missing = sum(record.landmarks is None for record in records)
    if preprocessing.alignment == "eyes" and missing > allowed_faces:
        raise EmodetError(
            f"preprocessing.alignment=eyes: {missing:,} of {len(records):,} faces have no landmarks; use "
            "preprocessing.alignment=none, or data.reader_options={landmarks: true} where the reader has that option"
        )


def cut(
    image_rgb: npt.NDArray[np.uint8], record: Sample, crop: str, preprocessing: Preprocessing
) -> npt.NDArray[np.uint8]:
    """One face out of its stored picture.

    Args:
        image_rgb: uint8, (H, W, 3), RGB.
        record: The face.
        crop: ``image`` or ``box``.
        preprocessing: What a crop is.

    Returns:
        uint8, (size, size, 3), RGB.

    Raises:
        EmodetError: The face has no box or no landmarks though the crop needs them, or the middle of its box lies
            outside the picture.
    """
    if crop != "box":
        return preprocessing.crop(image_rgb)
    if record.box is None:
        raise EmodetError(_NO_BOX)
    if preprocessing.alignment == "eyes" and record.landmarks is None:
        raise EmodetError(_NO_EYES)
    _require_inside(record.box, image_rgb.shape[1], image_rgb.shape[0])
    return preprocessing.crop(image_rgb, record.box, record.landmarks)


def _require_inside(box: Sequence[float], width: int, height: int) -> None:
    # A box may reach over the edge, where pixels are repeated; of one whose middle lies outside little else is left.
    x1, y1, x2, y2 = box
    if not (0 <= (x1 + x2) / 2 <= width and 0 <= (y1 + y2) / 2 <= height):
        raise EmodetError(
            f"the middle of the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is outside the {width}×{height} picture"
        )
