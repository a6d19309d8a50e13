"""Pictures in which a face detector finds no face: some are none, many are only hard.

Data sets of faces hold tight crops, and detectors were trained on faces with ground around them. So each crop is shown
enlarged and with its border repeated outwards, in two framings; what is found in either is found.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.data.pack import Pack

__all__ = ["FRAMINGS", "LEAST_SCORE", "LONGEST_SIDE", "RELIABILITY", "Finder", "detection_scores"]

Finder = Callable[[npt.NDArray[np.uint8]], float]
"""From a picture (uint8, (H, W, 3), RGB) to how sure a detector is of its surest face, 0 where it finds none."""

FRAMINGS: tuple[tuple[int, float], ...] = ((128, 0.25), (240, 0.33))
"""The crop's side in pixels once enlarged, and the border around it as a share of that."""

LONGEST_SIDE = 640
"""Pixels at which a detector searches: more than any framing has, so that nothing is reduced again."""

LEAST_SCORE = 0.3
"""What a detector must be sure of. Lower than for photographs: it is known that a face was meant to be there."""

RELIABILITY = (
    "Of 1,000 clear faces of FER+ (48 by 48 pixels) YuNet misses 1.0 % this way, CenterFace 2.3 % of 300; of 160 "
    "pictures that most of ten people called no face, 60 % and 58 % are not found. What is not found is worth a look, "
    "not more: hands before the face, drawings, profiles and cut-off faces are among it, and nothing is proposed for "
    "correction because of it."
)
"""Measured by experiments/ferplus/audit/detector.py."""


def detection_scores(
    pack: Pack, rows: Sequence[int] | npt.NDArray[np.integer[Any]], find: Finder, *, progress: bool = True
) -> npt.NDArray[np.float32]:
    """How sure a detector is that there is a face: float32 (len(rows),), 0 to 1, 0 where it finds none.

    Args:
        pack: The crops.
        rows: Positions in its table.
        find: See `Finder`.
        progress: Whether to draw a progress bar on standard error.
    """
    scores = np.zeros(len(rows), dtype=np.float32)
    for place, row in enumerate(tqdm(rows, unit="face", desc="looking for faces", disable=not progress)):
        crop = pack.images([row])[0]
        for side, border in FRAMINGS:
            scores[place] = find(framed(crop, side, border))
            if scores[place] > 0:
                break
    return scores


def framed(crop: npt.NDArray[np.uint8], side: int, border: float) -> npt.NDArray[np.uint8]:
    """The crop at `side` pixels with `border` × `side` pixels around it, which repeat its edge."""
    method = cv2.INTER_CUBIC if side > crop.shape[0] else cv2.INTER_AREA
    large = cv2.resize(crop, (side, side), interpolation=method)
    around = round(border * side)
    return np.asarray(cv2.copyMakeBorder(large, around, around, around, around, cv2.BORDER_REPLICATE), dtype=np.uint8)
