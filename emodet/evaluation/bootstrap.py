"""Bootstrap intervals of metrics that are functions of sums over faces."""

from collections.abc import Mapping, Sequence

import numpy as np

from emodet.arrays import Bools, Float64, Int64

_DRAWS_AT_ONCE = 4_000_000  # numbers in memory during resampling: 32 MB


def interval(
    value: float, spread: Float64, proportion: Bools | None, groups: Int64 | None, *, centred: bool = False
) -> tuple[float | None, float | None]:
    """Return the ends of a 95 % interval around `value`, or None.

    Args:
        value: Measured value.
        spread: (R,), the metric of each resample; NaN if undefined.
        proportion: bool (N,), faces in the denominator of a proportion; None for other metrics.
        groups: Result of `group_ids`.
        centred: Whether to shift the percentiles so that the mean of the resamples is `value`, with a minimum of 0.
    """
    spread = spread[~np.isnan(spread)]
    if spread.size == 0:
        return None, None
    if float(np.ptp(spread)) <= 1e-12:
        if proportion is None or value not in (0.0, 1.0):
            return None, None
        from scipy.stats import binomtest

        # All resamples are 0 or all are 1. Wilson's ends are then 0 or 1, except for rounding.
        trials = int(proportion.sum() if groups is None else np.unique(groups[proportion]).size)
        ends = binomtest(int(value) * trials, trials).proportion_ci(0.95, method="wilson")
        return float(ends.low) if value else 0.0, 1.0 if value else float(ends.high)
    low, high = (float(end) for end in np.percentile(spread, (2.5, 97.5)))
    if centred:
        shift = value - float(spread.mean())
        return max(0.0, low + shift), high + shift
    return low, high


def group_ids(groups: Sequence[str | None] | None) -> Int64 | None:
    """Return a number per group, int64 (N,); a face without a known group is its own group. None without groups."""
    if groups is None or all(group is None for group in groups):
        return None
    number: dict[str | int, int] = {}
    keys = (place if group is None else group for place, group in enumerate(groups))
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def resampled_sums(terms: Mapping[str, Float64], groups: Int64 | None, resamples: int, seed: int) -> dict[str, Float64]:
    """Return, by name (R, ?), the sum of the terms over the drawn faces of each resample."""
    rows = np.concatenate(list(terms.values()), axis=1)
    if groups is not None:
        by_group = np.zeros((int(groups.max()) + 1, rows.shape[1]))
        np.add.at(by_group, groups, rows)
        rows = by_group
    sums, size = np.zeros((resamples, rows.shape[1])), len(rows)
    generator, chunk = np.random.default_rng(seed), max(1, _DRAWS_AT_ONCE // size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums[start : start + count] = times.astype(np.float64) @ rows
    ends = np.cumsum([column.shape[1] for column in terms.values()])
    return dict(zip(terms, np.split(sums, ends[:-1], axis=1), strict=True))
