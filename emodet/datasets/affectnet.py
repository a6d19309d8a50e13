"""Common parts of all releases of AffectNet: ids, published counts, landmark order, values for "not annotated".

Mollahosseini, Hasani, Mahoor: AffectNet, IEEE Transactions on Affective Computing 2017, tables 3 and 4.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from emodet.datasets.samples import Listing, Points, Sample
from emodet.emotions import EMOTIONS, NOT_EMOTIONS

CLASS_NAMES: tuple[str, ...] = (*EMOTIONS, *NOT_EMOTIONS)
"""AffectNet's ids 0 to 10."""

TRAIN_COUNTS: Mapping[str, int] = dict(
    zip(EMOTIONS, (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750), strict=True)
)
"""287,651 manually annotated training faces, in the 2017 release and in the one of 2021."""

VALIDATION_COUNTS: Mapping[str, int] = dict.fromkeys(EMOTIONS, 500)
"""4,000 in the 2017 release; the one of 2021 lacks a contempt face."""

AUTOMATIC_COUNTS: Mapping[str, int] = dict(
    zip(EMOTIONS, (143_142, 246_235, 20_854, 17_462, 3_799, 890, 28_000, 2), strict=True)
)
"""The automatically annotated part of the 2017 release, derived by arithmetic from published totals."""

_MEAN_VALENCE = (-0.063, 0.664, -0.637, 0.180, -0.126, -0.694, -0.453, -0.515)
_MEAN_AROUSAL = (-0.020, 0.070, -0.257, 0.689, 0.766, 0.457, 0.567, 0.583)
VALENCE_AROUSAL = tuple(zip(_MEAN_VALENCE, _MEAN_AROUSAL, strict=True))
"""Mean valence and arousal of the training faces of each class, in the order of `EMOTIONS`."""


def five_points(numbers: npt.ArrayLike) -> Points | None:
    """Convert 68 landmarks in iBUG order (x1, y1, …, x68, y68) to the five landmarks of a sample.

    Eye centres (means of points 37 to 42 and 43 to 48, counted from 1), nose tip (31), mouth corners (49, 55). Returns
    None if one of them is not finite.
    """
    points = np.reshape(np.array(numbers, dtype=np.float64), (68, 2))
    with np.errstate(all="ignore"):
        five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    return tuple((x, y) for x, y in five.tolist()) if np.isfinite(five).all() else None


def valence_and_arousal(valence: float, arousal: float) -> tuple[float, float] | tuple[None, None]:
    """Return both values, or None for both if one is outside -1 to 1: -2 (not annotated) or NaN (an empty cell)."""
    return (valence, arousal) if abs(valence) <= 1 and abs(arousal) <= 1 else (None, None)


def check(listing: Listing, samples: Sequence[Sample], landmarks: bool = False) -> None:
    """Note missing landmarks, and missing valence and arousal."""
    if landmarks and (without := sum(sample.landmarks is None for sample in samples)):
        listing.notes.append(f"{without:,} faces have no landmarks.")
    if without := sum(sample.valence is None for sample in samples):
        listing.notes.append(f"{without:,} faces have no valence and arousal (not given, -2 or outside -1 to 1).")
