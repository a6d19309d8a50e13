"""Bootstrap intervals of metrics that are functions of sums over faces."""

from collections.abc import Mapping, Sequence

import numpy as np

from emodet.arrays import Bools, Float64, Int64

_DRAWS_AT_ONCE = 4_000_000  # numbers held at a time while resampling: 32 MB


def interval(
    value: float, spread: Float64, proportion: Bools | None, groups: Int64 | None, *, centred: bool = False
) -> tuple[float | None, float | None]:
    """Low and high end of a 95 % interval around `value`; None where there is none.

    Args:
        value: The measured value.
        spread: (R,), the metric of each resample; NaN where it is not defined.
        proportion: bool (N,), the faces that the metric is a proportion of; None for other metrics.
        groups: As from `group_ids`.
        centred: Whether to shift the percentiles so that the resamples' mean is `value`, cut at 0.
    """
    spread = spread[~np.isnan(spread)]
    if spread.size == 0:
        return None, None
    if float(np.ptp(spread)) <= 1e-12:
        if proportion is None or value not in (0.0, 1.0):
            return None, None
        from scipy.stats import binomtest

        # All resamples agree that all or nothing was found. Wilson's ends are 0 and 1 there, but for rounding.
        trials = int(proportion.sum() if groups is None else np.unique(groups[proportion]).size)
        ends = binomtest(int(value) * trials, trials).proportion_ci(0.95, method="wilson")
        return float(ends.low) if value else 0.0, 1.0 if value else float(ends.high)
    low, high = (float(end) for end in np.percentile(spread, (2.5, 97.5)))
    if centred:
        shift = value - float(spread.mean())
        return max(0.0, low + shift), high + shift
    return low, high


def group_ids(groups: Sequence[str | None] | None) -> Int64 | None:
    """int64 (N,), a number per group; a face whose group is unknown is a group of its own. None without any group."""
    if groups is None or all(group is None for group in groups):
        return None
    number: dict[str | int, int] = {}
    keys = (place if group is None else group for place, group in enumerate(groups))
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def resampled_sums(terms: Mapping[str, Float64], groups: Int64 | None, resamples: int, seed: int) -> dict[str, Float64]:
    """By name (R, ?): for each resample, the sum of the terms over the faces drawn."""
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
