"""Agreement of predicted and annotated values: concordance, error and sign agreement, from sums over faces.

Each measure is a function of sums and therefore independent of the distribution of faces to batches, processes and
bootstrap resamples. numpy only.
"""

from collections.abc import Callable, Mapping

import numpy as np

from emodet.arrays import Float64, Floats

DIMENSIONS = ("valence", "arousal")
"""Outputs besides the classes, always in this order: unpleasant to pleasant, calm to excited, each -1 to 1."""

TERMS = ("faces", "predicted", "annotated", "predicted²", "annotated²", "product", "difference²", "same sign")
"""Sums over the annotated faces, in their order on the last axis."""


def agreement_terms(predicted: Floats, annotated: Floats) -> Float64:
    """Return the terms of each face: float64 (…, 8), in the order of `TERMS`; zeros for a face without annotation.

    `predicted` and `annotated` are (…), -1 to 1; `annotated` is NaN without annotation.
    """
    known = np.isfinite(annotated)
    x, y = (np.where(known, values, 0).astype(np.float64) for values in (predicted, annotated))
    same_sign = known & (np.sign(x) == np.sign(y))
    return np.stack([known, x, y, x * x, y * y, x * y, np.square(x - y), same_sign], axis=-1).astype(np.float64)


def concordance(sums: Float64) -> Float64:
    """Return Lin's concordance correlation coefficient (…), -1 to 1, from the sums (…, 8) of `agreement_terms`.

    Variances are divided by n, as in Lin 1989, "A concordance correlation coefficient to evaluate reproducibility". NaN
    without faces, and if all predicted and annotated values are equal.
    """
    faces, x, y, xx, yy, xy = (sums[..., term] for term in range(6))
    # n² times the covariance, and n² times the variances and the squared distance of the means.
    above = 2 * (faces * xy - x * y)
    below = (faces * xx - x * x) + (faces * yy - y * y) + np.square(x - y)
    # Rounding errors of differences of equal numbers are not variance.
    return ratio(above, np.where(below > 1e-12 * np.square(faces), below, 0))


def rmse(sums: Float64) -> Float64:
    """Return the root mean squared error, 0 to 2; NaN without faces. Arguments as in `concordance`."""
    return np.asarray(np.sqrt(ratio(sums[..., 6], sums[..., 0])))


def sign_agreement(sums: Float64) -> Float64:
    """Return the share of faces with equal signs, 0 to 1 (SAGR: Mollahosseini et al. 2017, AffectNet, section 5.1,
    after Nicolaou et al. 2011). A 0 agrees only with a 0. Arguments as in `concordance`.
    """
    return ratio(sums[..., 7], sums[..., 0])


AGREEMENTS: Mapping[str, Callable[[Float64], Float64]] = {"ccc": concordance, "rmse": rmse, "sagr": sign_agreement}
"""Measures by their prefix, as in ``ccc_valence``."""


def agreement_names() -> list[str]:
    """Return the names of all measures: ``ccc_valence``, ``ccc_arousal``, ``rmse_valence``, …"""
    return [f"{name}_{dimension}" for name in AGREEMENTS for dimension in DIMENSIONS]


def ratio(above: Float64, below: Float64) -> Float64:
    """Divide; NaN where `below` is not positive."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))
