"""Which faces train, which select and which report; and in which order they come."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from emodet.data.pack import Table
from emodet.errors import EmodetError

__all__ = [
    "Draw",
    "EvaluationBatches",
    "Splits",
    "TrainingBatches",
    "assign_splits",
    "drawing_weights",
    "numbered",
]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Splits:
    """Positions in the pack's table, by what they are used for.

    Attributes:
        train: int64, faces that the net learns from.
        val: int64, faces that choose the epoch, the hyper-parameters and the temperature.
        test: int64, faces that the result is reported on.
        val_name: What the val faces are, for titles (``val``, ``0.1 of train``).
        test_name: Likewise for the test faces (``test``, ``val``).
        dropped: How many training faces are not used, by the reason in words.
    """

    train: Indices
    val: Indices
    test: Indices
    val_name: str
    test_name: str
    dropped: Mapping[str, int]


def assign_splits(table: Table, usable: npt.NDArray[np.bool_], val_from: str | float, seed: int) -> Splits:
    """Share out the faces.

    Selection and report are different data wherever the release allows it. A release with train, val and test selects
    on val and reports on test. One without a test split reports on its val, and selects on a seeded, stratified part
    of train that has no subject and no picture in common with the rest. ``val_from="val"`` chooses and reports on the
    same val instead, and the split's name then says so.

    Args:
        table: The pack's table.
        usable: bool (N,), which faces may be used at all.
        val_from: ``auto``, ``val``, or the share of train to hold out, between 0 and 0.5.
        seed: Decides which faces are held out.

    Raises:
        EmodetError: `val_from` is not one of these, or a split would be left without a face.
    """
    picture = numbered(table.pixel_hash)
    of = {split: np.flatnonzero((table.split == split) & usable) for split in ("train", "val", "test")}
    labelled = {split: rows[table.emotion[rows] >= 0] for split, rows in of.items()}
    if val_from == "auto":
        val_from = "val" if labelled["test"].size and labelled["val"].size else 0.1
    dropped: dict[str, int] = {}
    train = of["train"]
    official = next(((labelled[split], split) for split in ("test", "val") if labelled[split].size), None)
    same_picture = "same picture as a val or test face"
    if official is not None:
        # Before anything is held out of train: a copy of a report face must not select either.
        copies = np.isin(picture[train], picture[official[0]])
        dropped[same_picture] = int(copies.sum())
        train = train[~copies]
    if val_from == "val":
        chosen, val_name = labelled["val"], "val"
        if not chosen.size:
            raise EmodetError("data.val_from=val: this release has no val split; use auto or a share such as 0.1")
    elif isinstance(val_from, int | float) and 0 < val_from <= 0.5:
        known = table.subject != ""
        subject = np.where(known, numbered(table.subject), -1)
        # What must not be torn apart: the subject where it is known, else the picture.
        group = np.where(known, subject, len(table) + picture)
        candidates = train[table.emotion[train] >= 0]
        chosen = _held_out(table.emotion[candidates], group[candidates], candidates, float(val_from), seed)
        train = np.setdiff1d(train, chosen)
        val_name = f"{val_from:g} of train"
        # Faces that only have a soft label were no candidates.
        straddling = known[train] & np.isin(subject[train], subject[chosen])
        dropped["same subject as a val face"] = int(straddling.sum())
        train = train[~straddling]
    else:
        raise EmodetError(f"data.val_from={val_from!r}: expected auto, val, or a share of train from 0 to 0.5")
    test, test_name = official or (chosen, val_name)
    if val_name == test_name:
        test_name = val_name = f"{val_name} (also used for model selection)"
    copies = np.isin(picture[train], picture[chosen])
    dropped[same_picture] = dropped.get(same_picture, 0) + int(copies.sum())
    train = train[~copies]
    for split, rows in (("train", train), ("val", chosen), ("test", test)):
        if not rows.size:
            raise EmodetError(f"data.val_from={val_from!r} leaves no face for the split {split!r}")
    dropped = {reason: count for reason, count in dropped.items() if count}
    return Splits(train, chosen, test, val_name, test_name, dropped)


def numbered(words: npt.NDArray[np.str_]) -> Indices:
    """A number for each word, equal for equal words; comparing numbers is much faster than comparing text."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words.tolist()], dtype=np.int64)


def _held_out(emotion: Indices, group: Indices, rows: Indices, share: float, seed: int) -> Indices:
    """Those of `rows` that are held out: about `share` of each class, in whole groups, in a seeded order."""
    names, group_of = np.unique(group, return_inverse=True)
    counts = np.zeros((len(names), 8), dtype=np.int64)
    np.add.at(counts, (group_of, emotion), 1)
    wanted = (np.bincount(emotion, minlength=8) * share).tolist()
    taken = [0] * 8
    chosen = np.zeros(len(names), dtype=bool)
    main = counts.argmax(axis=1).tolist()
    brings = counts.max(axis=1, initial=0).tolist()
    for number in np.random.default_rng([seed, 0x5E1EC7]).permutation(len(names)).tolist():
        # A group goes over when its most frequent class still lacks at least half of what the group brings.
        if taken[main[number]] + brings[number] / 2 <= wanted[main[number]]:
            chosen[number] = True
            taken = [so_far + more for so_far, more in zip(taken, counts[number].tolist(), strict=True)]
    return rows[chosen[group_of]]


class Draw(NamedTuple):
    """One batch: which faces, and the seed of everything random that is done to them.

    Attributes:
        indices: int64 (N,), positions in the pack's table.
        seed: Of their augmentation.
        epoch: In which they are trained on; None where they are not.
        places: Which of the faces that all processes see in the epoch, in order, these are.
    """

    indices: Indices
    seed: int
    epoch: int | None = None
    places: slice = slice(None)


class TrainingBatches(Sampler[Draw]):
    """The batches of an epoch, a function of (seed, epoch, number of processes) alone.

    Order and augmentation carry no state, so a resumed run asks for the batches that are missing and gets the ones
    that it would have had.

    Args:
        indices: int64, the training faces.
        batch_size: Faces per batch and process. The last incomplete batch is left out: a batch norm over few faces
            would be noise.
        seed: Of the run.
        weights: float64 (len(indices),) chances to be drawn, with replacement; None draws each face once.
        progress: Called when an epoch starts: its number, and how many of its batches are done already.
        rank: Of this process.
        world_size: How many processes share the epoch.
    """

    def __init__(
        self,
        indices: Indices,
        batch_size: int,
        seed: int,
        weights: npt.NDArray[np.float64] | None,
        progress: Callable[[], tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size * world_size > len(indices):
            raise EmodetError(
                f"data.batch_size={batch_size} on {world_size} process(es) needs more faces than the {len(indices)} "
                "training faces there are; choose a smaller batch"
            )
        self.indices, self.batch_size, self.seed, self.progress = indices, batch_size, seed, progress
        self.weights = None if weights is None else weights / weights.sum()
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.indices) // (self.batch_size * self.world_size)

    def order(self, epoch: int) -> Indices:
        """The faces of an epoch's batches in order, over all processes: int64 (len(self) * batch * processes,)."""
        generator = np.random.default_rng([self.seed, epoch])
        count = len(self.indices)
        if self.weights is None:
            order = generator.permutation(count)
        else:
            order = generator.choice(count, size=count, p=self.weights)
        return self.indices[order[: len(self) * self.batch_size * self.world_size]]

    def places(self, batch: int) -> slice:
        """Where in `order` the faces of this process's batch are."""
        whole = self.batch_size * self.world_size
        return slice(batch * whole + self.rank, (batch + 1) * whole, self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        epoch, done = self.progress()
        order = self.order(epoch)
        for batch in range(done, len(self)):
            places = self.places(batch)
            entropy = np.random.SeedSequence([self.seed, epoch, batch, self.rank]).generate_state(1)[0]
            yield Draw(order[places], int(entropy), epoch, places)


class EvaluationBatches(Sampler[Draw]):
    """Every face exactly once over all processes, in order: no process repeats one to even out the numbers.

    All processes make the same number of batches, so that none waits for another; where one has no face left, its last
    batch is empty.
    """

    def __init__(self, indices: Indices, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices, self.batch_size = indices[rank::world_size], batch_size
        self.count = -(-len(indices) // (batch_size * world_size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Draw]:
        for batch in range(self.count):
            start = batch * self.batch_size
            yield Draw(self.indices[start : start + self.batch_size], 0)


def drawing_weights(
    emotion: npt.NDArray[np.integer[Any]], *, balanced: bool, wanted: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64] | None:
    """The faces' chances to be drawn.

    Args:
        emotion: Integer (N,), 0 to 7, -1 for none.
        balanced: Whether every class is drawn equally often; faces without an emotion keep the average chance.
        wanted: float64 (N,), above 0: how much more often one face is drawn than another, of the same class where
            classes are balanced. None means that none is.

    Returns:
        float64 (N,), or None where each face comes once.
    """
    if wanted is None:
        wanted = np.ones(len(emotion))
    if not balanced:
        return None if (wanted == wanted[:1]).all() else wanted / wanted.mean()
    labelled = emotion >= 0
    sums = np.bincount(emotion[labelled], weights=wanted[labelled], minlength=8)
    present = max(1, int((sums > 0).sum()))
    per_class = np.divide(labelled.sum() / present, sums, out=np.zeros_like(sums), where=sums > 0)
    return np.asarray(np.where(labelled, per_class[np.maximum(emotion, 0)], 1 / wanted.mean()) * wanted)
