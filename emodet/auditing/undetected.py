"""Crops in which a face detector finds no face.

Detectors are trained on faces with surroundings, so each crop is enlarged and its border repeated outwards, in two
framings; a face that is found in either is found.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.data.pack import Pack

UInt8 = npt.NDArray[np.uint8]

FRAMINGS: tuple[tuple[int, float], ...] = ((128, 0.25), (240, 0.33))
"""Side of the enlarged crop in pixels, and the border around it as a share of that."""

LONGEST_SIDE = 640
"""Side of the search in pixels: more than any framing has, so that nothing is reduced again."""

MIN_SCORE = 0.3
"""Detection threshold; lower than for photographs, because a face is expected."""


@dataclass(frozen=True, slots=True, eq=False)
class UndetectedFaces:
    """Result of a face detector.

    Attributes:
        rows: int64 (n,), the faces that were searched, positions in the table.
        scores: float32 (n,), of the best detection, 0 where there is none.
    """

    detector: str
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Positions in the table of the faces that were not found."""
        return np.asarray(self.rows[self.scores == 0])


def detect_faces(
    pack: Pack, detect: Callable[[UInt8], float], name: str, most: int | None, seed: int, *, progress: bool = True
) -> UndetectedFaces:
    """Run a detector on the crops, or on `most` of them, drawn at random.

    `detect` gives the score of the best face of an image, uint8 (H, W, 3) RGB, and 0 without one.
    """
    rows = np.arange(len(pack), dtype=np.int64)
    if most is not None and most < len(rows):
        rows = np.sort(np.random.default_rng([seed, 0xFACE]).choice(rows, most, replace=False))
    scores = []
    for row in tqdm(rows.tolist(), unit="face", desc="detecting faces", disable=not progress):
        crop = pack.images([row])[0]
        scores.append(next(filter(None, (detect(framed(crop, *framing)) for framing in FRAMINGS)), 0.0))
    return UndetectedFaces(name, rows, np.array(scores, dtype=np.float32))


def framed(crop: UInt8, side: int, border: float) -> UInt8:
    """The crop at `side` pixels with `border` × `side` pixels around it, which repeat its edge."""
    method = cv2.INTER_CUBIC if side > crop.shape[0] else cv2.INTER_AREA
    large = cv2.resize(crop, (side, side), interpolation=method)
    around = round(border * side)
    return np.asarray(cv2.copyMakeBorder(large, around, around, around, around, cv2.BORDER_REPLICATE), dtype=np.uint8)
