"""Pictures that occur more than once: pixel for pixel, or as another cut, size or mirror image of one photograph."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emodet.auditing.looks import THUMBNAIL, Looks
from emodet.auditing.neighbours import pairs_within
from emodet.data.pack import Table
from emodet.errors import EmodetError

__all__ = ["CopyGroup", "CopyRules", "copy_groups", "group_numbers"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CopyRules:
    """When two pictures count as copies of one photograph.

    Attributes:
        radius: Bits in which two perceptual hashes may differ for the pictures to be compared at all.
        correlation: Of the two 16×16 thumbnails, from which on they are copies.
        least_contrast: Pictures with less (standard deviation of the grey values) show nothing that could be compared.
    """

    radius: int = 8
    correlation: float = 0.95
    least_contrast: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.correlation <= 1:
            raise EmodetError(f"copies.correlation={self.correlation}: above 0, at most 1")
        if not 0 <= self.radius < 32:
            raise EmodetError(f"copies.radius={self.radius}: 0 to 31 bits")


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Faces whose pictures are copies of each other.

    Attributes:
        rows: Positions in the pack's table, rising, at least two.
        identical: Whether all are equal pixel for pixel.
        splits: The splits that they lie in, in the order train, val, test.
        emotions: The distinct emotions that they are labelled with, without -1.
    """

    rows: tuple[int, ...]
    identical: bool
    splits: tuple[str, ...]
    emotions: tuple[int, ...]

    @property
    def across(self) -> bool:
        """Whether a copy lies in another split."""
        return len(self.splits) > 1

    @property
    def contradicts(self) -> bool:
        """Whether its labels say different things about one photograph."""
        return len(self.emotions) > 1


def group_numbers(table: Table, looks: Looks | None, rules: CopyRules) -> Int64:
    """Number the photographs: int64 (N,), equal for faces whose pictures are copies of each other.

    Copies of copies belong together, so that a long film can become one group.

    Args:
        table: The pack's table.
        looks: Of the same pack; None compares pixel hashes only.
        rules: What counts as a copy.
    """
    _, first, identical = np.unique(table.pixel_hash, return_index=True, return_inverse=True)
    if looks is None:
        return identical.astype(np.int64)
    # One picture of each pixel hash stands for all.
    shows_something = first[looks.contrast[first] >= rules.least_contrast]
    left, right = [], []
    for mirrored in (False, True):
        for ours, theirs in _alike(looks, shows_something, rules, mirrored):
            left.append(identical[ours])
            right.append(identical[theirs])
    if not left:
        return identical.astype(np.int64)
    from_, to = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(from_), dtype=np.bool_), (from_, to)), shape=(len(first), len(first)))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[identical], dtype=np.int64)


def copy_groups(table: Table, numbers: Int64) -> tuple[CopyGroup, ...]:
    """The photographs that occur more than once, those across splits first, then those that contradict themselves.

    Args:
        table: The pack's table.
        numbers: See `group_numbers`.
    """
    order = np.argsort(numbers, kind="stable")
    edges = np.flatnonzero(np.diff(numbers[order])) + 1
    groups = [_group(table, rows) for rows in np.split(order, edges) if len(rows) > 1]
    return tuple(sorted(groups, key=lambda group: (not group.across, not group.contradicts, group.rows)))


def _group(table: Table, rows: Int64) -> CopyGroup:
    found = set(table.split[rows].tolist())
    return CopyGroup(
        rows=tuple(rows.tolist()),
        identical=len(set(table.pixel_hash[rows].tolist())) == 1,
        splits=tuple(split for split in ("train", "val", "test") if split in found),
        emotions=tuple(sorted(set(table.emotion[rows].tolist()) - {-1})),
    )


def _alike(looks: Looks, rows: Int64, rules: CopyRules, mirrored: bool) -> Iterator[tuple[Int64, Int64]]:
    """Pairs of `rows` whose hashes are near each other and whose thumbnails agree."""
    hashes = looks.perceptual_hash[rows]
    queries = looks.mirrored_hash[rows] if mirrored else hashes
    for left, right in pairs_within(hashes, queries, rules.radius):
        once = left < right
        ours, theirs = rows[left[once]], rows[right[once]]
        # A block of pairs at a time: a film of one face can have millions.
        for start in range(0, len(ours), 2**16):
            a, b = ours[start : start + 2**16], theirs[start : start + 2**16]
            agree = _correlation(looks.thumbnail[a], looks.thumbnail[b], mirrored) >= rules.correlation
            if agree.any():
                yield a[agree], b[agree]


def _correlation(ours: npt.NDArray[np.uint8], theirs: npt.NDArray[np.uint8], mirrored: bool) -> npt.NDArray[np.float32]:
    """Of the grey values of two thumbnails, row by row: float32 (N,), -1 to 1."""
    if mirrored:
        theirs = theirs.reshape(-1, THUMBNAIL, THUMBNAIL)[:, :, ::-1].reshape(len(theirs), -1)
    a, b = (each.astype(np.float32) - each.mean(axis=1, dtype=np.float32, keepdims=True) for each in (ours, theirs))
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0))
