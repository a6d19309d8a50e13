"""All pairs of 64-bit hashes that differ in few bits, without comparing everything with everything.

Multi-index hashing (Norouzi et al. 2012): of r + 1 bands that the bits are cut into, two hashes within r bits agree in
at least one whole band, so only hashes that share a band are compared.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = ["pairs_within"]

_BITS = 64
_AT_ONCE = 2**22  # comparisons; bounds the memory of a block to about 70 MB

UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]


def pairs_within(hashes: UInt64, queries: UInt64, radius: int) -> Iterator[tuple[Int64, Int64]]:
    """Find every pair of a hash and a query that differ in at most `radius` bits.

    Args:
        hashes: uint64 (N,).
        queries: uint64 (M,); the same array to compare the hashes among themselves, which pairs each with itself too.
        radius: From 0 to 31.

    Yields:
        int64 positions in `hashes` and in `queries`, in blocks, every pair once.

    Raises:
        EmodetError: `radius` is out of its range.
    """
    if not 0 <= radius < _BITS // 2:
        raise EmodetError(f"radius={radius}: 0 to {_BITS // 2 - 1} bits")
    edges = np.linspace(0, _BITS, radius + 2).astype(int).tolist()
    masks = [np.uint64(((1 << (high - low)) - 1) << low) for low, high in pairwise(edges)]
    for number, mask in enumerate(masks):
        for ours, theirs in _sharing(hashes & mask, queries & mask):
            step = max(1, _AT_ONCE // len(theirs))
            for start in range(0, len(ours), step):
                block = ours[start : start + step]
                differing = hashes[block][:, None] ^ queries[theirs][None, :]
                left, right = np.nonzero(np.bitwise_count(differing) <= radius)
                bits = differing[left, right]
                # A pair that shares an earlier band has been given already.
                new = np.ones(len(bits), dtype=np.bool_)
                for earlier in masks[:number]:
                    new &= (bits & earlier) != 0
                if new.any():
                    yield block[left[new]], theirs[right[new]]


def _sharing(ours: UInt64, theirs: UInt64) -> Iterator[tuple[Int64, Int64]]:
    """Positions of `ours` and of `theirs`, value by value, for every value that both have."""
    our_order, their_order = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    values, our_starts, our_counts = np.unique(ours[our_order], return_index=True, return_counts=True)
    lows = np.searchsorted(theirs[their_order], values, side="left")
    highs = np.searchsorted(theirs[their_order], values, side="right")
    for start, count, low, high in zip(our_starts.tolist(), our_counts.tolist(), lows, highs, strict=True):
        if low < high:
            yield our_order[start : start + count], their_order[low:high]
