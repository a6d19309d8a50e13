"""Agreement of predicted with annotated numbers: concordance, error and signs, from sums over faces.

Every measure is a function of sums, so it does not depend on how faces are shared out to batches, processes and
bootstrap resamples. numpy alone.
"""

from collections.abc import Callable, Mapping

import numpy as np

from emodet.arrays import Float64, Floats

DIMENSIONS = ("valence", "arousal")
"""Outputs beside the classes, in this order everywhere: unpleasant to pleasant, calm to excited, each -1 to 1."""

TERMS = ("faces", "predicted", "annotated", "predicted²", "annotated²", "product", "difference²", "same sign")
"""What is summed over the annotated faces, in this order on the last axis."""


def agreement_terms(predicted: Floats, annotated: Floats) -> Float64:
    """What each face adds to the sums: float64 (…, 8), in the order of `TERMS`; zeros for a face without annotation.

    `predicted` and `annotated` are (…), -1 to 1, the latter NaN where there is no annotation.
    """
    known = np.isfinite(annotated)
    x, y = (np.where(known, values, 0).astype(np.float64) for values in (predicted, annotated))
    same_sign = known & (np.sign(x) == np.sign(y))
    return np.stack([known, x, y, x * x, y * y, x * y, np.square(x - y), same_sign], axis=-1).astype(np.float64)


def concordance(sums: Float64) -> Float64:
    """Lin's concordance correlation coefficient (…), -1 to 1, of the sums (…, 8) of `agreement_terms`.

    Variances are over n, as in Lin 1989, "A concordance correlation coefficient to evaluate reproducibility". NaN
    without a face, and where all faces have one and the same value in both.
    """
    faces, x, y, xx, yy, xy = (sums[..., term] for term in range(6))
    # n² times the covariance, and n² times the variances and the squared distance of the means.
    above = 2 * (faces * xy - x * y)
    below = (faces * xx - x * x) + (faces * yy - y * y) + np.square(x - y)
    # What rounding leaves of a difference of equal numbers is no variance.
    return ratio(above, np.where(below > 1e-12 * np.square(faces), below, 0))


def rmse(sums: Float64) -> Float64:
    """The root of the mean squared difference, 0 to 2; NaN without a face. Arguments as `concordance`."""
    return np.asarray(np.sqrt(ratio(sums[..., 6], sums[..., 0])))


def sign_agreement(sums: Float64) -> Float64:
    """The share of the faces on which both have the same sign, 0 to 1 (SAGR: Mollahosseini et al. 2017, AffectNet,
    section 5.1, after Nicolaou et al. 2011). A 0 agrees with nothing but a 0. Arguments as `concordance`.
    """
    return ratio(sums[..., 7], sums[..., 0])


AGREEMENTS: Mapping[str, Callable[[Float64], Float64]] = {"ccc": concordance, "rmse": rmse, "sagr": sign_agreement}
"""By the name that stands before that of the dimension: ``ccc_valence``."""


def agreement_names() -> list[str]:
    """``ccc_valence``, ``ccc_arousal``, ``rmse_valence``, …: what is measured of both."""
    return [f"{name}_{dimension}" for name in AGREEMENTS for dimension in DIMENSIONS]


def ratio(above: Float64, below: Float64) -> Float64:
    """Quotients, NaN where `below` is not above 0."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))
