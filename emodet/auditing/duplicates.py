"""Duplicates: equal pixels, and other crops, sizes or mirror images of one photograph."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emodet.arrays import Float32, Int64, UInt8
from emodet.auditing.image_issues import ImageStats
from emodet.data.pack import Table

_RADIUS = 8  # maximum number of different bits between the perceptual hashes of copies
_CORRELATION = 0.95  # minimum correlation between the thumbnails of copies
_MIN_CONTRAST = 4.0  # minimum standard deviation of grey values for a comparison
_BLOCK = 2**22  # hash comparisons per block, about 70 MB
_PAIR_BLOCK = 2**16  # thumbnail comparisons per block, about 130 MB


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Faces whose images are copies of each other."""

    rows: tuple[int, ...]  # two or more row indices of the pack's table, ascending
    identical: bool  # whether all have equal pixels
    splits: tuple[str, ...]  # in the order train, val, test
    emotions: tuple[int, ...]  # distinct labels, without -1

    @property
    def across(self) -> bool:
        return len(self.splits) > 1

    @property
    def contradicts(self) -> bool:
        return len(self.emotions) > 1


def number_photographs(table: Table, stats: ImageStats, radius: int = _RADIUS) -> Int64:
    """Number the photographs: int64 (N,), the same number for faces whose images are copies, or copies of copies."""
    _, first, identical = np.unique(table.pixel_hash, return_index=True, return_inverse=True)
    # Compare only one image per pixel hash.
    rows = first[stats.contrast[first] >= _MIN_CONTRAST]
    edges = [np.empty((2, 0), dtype=np.int64)]
    for left, right in _near_pairs(stats.hashes[:, rows], radius):
        for start in range(0, len(left), _PAIR_BLOCK):
            ours, theirs = rows[left[start : start + _PAIR_BLOCK]], right[start : start + _PAIR_BLOCK]
            mirrored, theirs = (theirs >= len(rows))[:, None, None], rows[theirs % len(rows)]
            other = stats.thumbnails[theirs]
            other = np.where(mirrored, other[:, :, ::-1], other)
            same = _correlation(stats.thumbnails[ours], other) >= _CORRELATION
            edges.append(identical[np.stack([ours[same], theirs[same]])])
    return connected(np.concatenate(edges, axis=1), len(first))[identical]


def copy_groups(table: Table, photographs: Int64) -> tuple[CopyGroup, ...]:
    """Return photographs that occur more than once: first those across splits, then those with contradicting labels."""
    order = np.argsort(photographs, kind="stable")
    edges = np.flatnonzero(np.diff(photographs[order])) + 1
    groups = [
        CopyGroup(
            rows=tuple(rows.tolist()),
            identical=len(set(table.pixel_hash[rows].tolist())) == 1,
            splits=tuple(split for split in ("train", "val", "test") if (table.split[rows] == split).any()),
            emotions=tuple(sorted(set(table.emotion[rows].tolist()) - {-1})),
        )
        for rows in np.split(order, edges)
        if len(rows) > 1
    ]
    return tuple(sorted(groups, key=lambda group: (not group.across, not group.contradicts, group.rows)))


def _near_pairs(hashes: npt.NDArray[np.uint64], radius: int) -> Iterator[tuple[Int64, Int64]]:
    """Yield pairs of images whose hashes differ in at most `radius` bits; a pair can occur more than once.

    Two such hashes agree in at least one of radius + 1 bands of bits, so only hashes with an equal band are compared
    (multi-index hashing, Norouzi et al. 2012).

    `hashes` is uint64 (2, N), of images and mirror images. Yields blocks of indices, left < N and right < 2N, where
    N + j is the mirror image of j, with left < j.
    """
    count, flat = hashes.shape[1], hashes.reshape(-1)
    for low, high in pairwise(np.linspace(0, 64, radius + 2).astype(int).tolist()):
        band = flat & np.uint64(((1 << (high - low)) - 1) << low)
        order = np.argsort(band, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            if len(bucket) < 2:
                continue
            ours = bucket[bucket < count]
            step = max(1, _BLOCK // len(bucket))
            for at in range(0, len(ours), step):
                block = ours[at : at + step]
                distance = np.bitwise_count(flat[block][:, None] ^ flat[bucket][None, :])
                near = np.nonzero(distance <= radius)
                left, right = block[near[0]], bucket[near[1]]
                once = left < right % count
                yield left[once], right[once]


def _correlation(left: UInt8, right: UInt8) -> Float32:
    """Return the correlation of the grey values of thumbnails, (n, 16, 16) each: float32 (n,), -1 to 1."""
    a, b = (each.reshape(len(each), -1).astype(np.float32) for each in (left, right))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0))


def connected(edges: Int64, count: int) -> Int64:
    """Return the connected component of each of `count` nodes: int64 (count,); `edges` is int64 (2, n)."""
    graph = coo_array((np.ones(edges.shape[1], dtype=np.bool_), (edges[0], edges[1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
