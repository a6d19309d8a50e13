"""Which part of a stored picture is the face: ``data.crop`` and what it needs of a sample.

``image`` takes the whole picture, which is a face crop already. ``box`` cuts the square around the sample's box, with
``preprocessing.margin`` around it, and with ``preprocessing.alignment=eyes`` turned upright by the sample's landmarks.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emodet.datasets.samples import Sample
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["check_crop", "cut", "require_croppable"]


def check_crop(crop: str) -> None:
    """Refuse an unknown way to crop."""
    if crop not in ("image", "box"):
        raise EmodetError(
            f"data.crop={crop!r}: there are image and box; with box, preprocessing.margin scales the box and "
            "preprocessing.alignment=eyes turns the face upright"
        )


def require_croppable(samples: Sequence[Sample], crop: str, preprocessing: Preprocessing, allowed: float) -> None:
    """Refuse a way to crop for which more than this share of samples lack a box or landmarks; opens no picture."""
    if crop != "box":
        return
    missing = sum(sample.box is None for sample in samples)
    if missing > allowed * len(samples):
        raise EmodetError(
            f"data.crop=box: {missing:,} of {len(samples):,} faces have no box; use data.crop=image, or a reader's "
            "option that brings boxes"
        )
    missing = sum(sample.landmarks is None for sample in samples)
    if preprocessing.alignment == "eyes" and missing > allowed * len(samples):
        raise EmodetError(
            f"preprocessing.alignment=eyes: {missing:,} of {len(samples):,} faces have no landmarks; use "
            "preprocessing.alignment=none, or data.reader_options={landmarks: true} where the reader has that option"
        )


def cut(
    image_rgb: npt.NDArray[np.uint8], sample: Sample, crop: str, preprocessing: Preprocessing
) -> npt.NDArray[np.uint8]:
    """Crop one face out of its stored picture.

    Args:
        image_rgb: uint8 (H, W, 3), RGB.
        sample: The face.
        crop: ``image`` or ``box``.
        preprocessing: Geometry and colour of a crop.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        EmodetError: The sample has no box or no landmarks though the crop needs them, or the box's centre lies outside
            the picture.
    """
    if crop != "box":
        return preprocessing.crop(image_rgb)
    if sample.box is None:
        raise EmodetError("no box, which data.crop=box needs")
    if preprocessing.alignment == "eyes" and sample.landmarks is None:
        raise EmodetError("no landmarks, which preprocessing.alignment=eyes needs")
    x1, y1, x2, y2 = sample.box
    height, width = image_rgb.shape[:2]
    # A box may reach over the edge, where pixels are repeated; if its centre is outside, hardly any of it is left.
    if not (0 <= (x1 + x2) / 2 <= width and 0 <= (y1 + y2) / 2 <= height):
        raise EmodetError(
            f"the centre of the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is outside the {width}×{height} picture"
        )
    return preprocessing.crop(image_rgb, sample.box, sample.landmarks)
