"""Assignment of faces to train, val and test."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from emodet.arrays import Bools, Int64
from emodet.data.pack import Table
from emodet.errors import EmodetError, require

_SAME_PICTURE = "same picture as a val or test face"
_SAME_SUBJECT = "same subject as a val or test face"


@dataclass(frozen=True, slots=True)
class Splits:
    """Row indices of the splits in the pack's table.

    Attributes:
        train: int64, faces for training.
        val: int64, faces that select epoch, hyper-parameters and temperature.
        test: int64, faces for the reported result.
        val_name: Origin of the val faces, for titles (``val``, ``10 % of train``).
        test_name: Origin of the test faces (``test``, ``val``).
        dropped: Number of unused training faces, by reason.
    """

    train: Int64
    val: Int64
    test: Int64
    val_name: str
    test_name: str
    dropped: Mapping[str, int]


def assign_splits(table: Table, usable: Bools, val_from: str | float, seed: int) -> Splits:
    """Assign the faces of one data set to splits.

    Val and test are different faces if the release allows it. The splits of a release with train, val and test are used
    unchanged. For a release without test, test is its val, and val is a seeded, stratified part of train that shares no
    subject and no picture with the rest. With ``val_from="val"``, val and test are the same faces, which the name of
    the split states. Training faces whose picture or subject is in val or test are dropped.

    `val_from` is ``auto``, ``val``, or the share of train to hold out with `seed`, up to 0.5; `usable` (N,) are the
    faces of the table that can be used.

    Raises:
        EmodetError: `val_from` is invalid, or a split would have no faces.
    """
    picture, known = _numbered(table.pixel_hash), table.subject != ""
    subject = np.where(known, _numbered(table.subject), -1 - np.arange(len(table)))  # unknown: all different
    of = {split: np.flatnonzero((table.split == split) & usable) for split in ("train", "val", "test")}
    labelled = {split: rows[table.emotion[rows] >= 0] for split, rows in of.items()}
    if val_from == "auto":
        val_from = "val" if labelled["test"].size and labelled["val"].size else 0.1
    dropped = Counter[str]()

    def apart(rows: Int64, others: Int64) -> Int64:
        rows = _without_copies(rows, picture, others, dropped)
        return _without_copies(rows, subject, others, dropped, _SAME_SUBJECT)

    train = of["train"]
    official = next(((labelled[split], split) for split in ("test", "val") if labelled[split].size), None)
    if official is not None:
        # Before holding out a part of train, because val must not contain copies of test faces either.
        train = apart(train, official[0])
    if val_from == "val":
        val, val_name = labelled["val"], "val"
        if not val.size:
            raise EmodetError("data.val_from=val: this release has no val split; use auto or a share such as 0.1")
    else:
        is_share = isinstance(val_from, int | float) and 0 < val_from <= 0.5
        require(is_share, "data.val_from", val_from, "auto, val, or a share of train from 0 to 0.5")
        # Groups that are not divided: faces of a subject if known, else of a picture.
        group, candidates = np.where(known, subject, len(table) + picture), train[table.emotion[train] >= 0]
        val = _drawn_groups(table.emotion[candidates], group[candidates], candidates, float(val_from), seed)
        train = np.setdiff1d(train, val)
        val_name = f"{100 * float(val_from):g} % of train"
    test, test_name = official or (val, val_name)
    if val_name == test_name:
        test_name = val_name = f"{val_name} (also used for model selection)"
    train = apart(train, val)
    for split, rows in (("train", train), ("val", val), ("test", test)):
        if not rows.size:
            why = "".join(f"; {count:,} training faces dropped: {reason}" for reason, count in dropped.items() if count)
            raise EmodetError(
                f"data.val_from={val_from!r}: the split {split!r} would have no faces; add faces, or choose another "
                f"share up to 0.5{why}"
            )
    return Splits(train, val, test, val_name, test_name, dict(+dropped))


def _drawn_groups(emotion: Int64, group: Int64, rows: Int64, share: float, seed: int) -> Int64:
    """Draw the held-out part of `rows`: about `share` of each class, in whole groups, in a seeded order."""
    names, group_of = np.unique(group, return_inverse=True)
    classes = int(emotion.max(initial=0)) + 1
    counts = np.zeros((len(names), classes), dtype=np.int64)
    np.add.at(counts, (group_of, emotion), 1)
    wanted = (np.bincount(emotion, minlength=classes) * share).tolist()
    taken = [0] * classes
    chosen = np.zeros(len(names), dtype=bool)
    main = counts.argmax(axis=1).tolist()
    brings = counts.max(axis=1, initial=0).tolist()
    for number in np.random.default_rng([seed, 0x5E1EC7]).permutation(len(names)).tolist():
        # Add a group if its most frequent class still lacks at least half as many faces as the group has.
        if taken[main[number]] + brings[number] / 2 <= wanted[main[number]]:
            chosen[number] = True
            taken = [so_far + more for so_far, more in zip(taken, counts[number].tolist(), strict=True)]
    return rows[chosen[group_of]]


def mix_splits(names: Sequence[str], table: Table, starts: Sequence[int], splits: Sequence[Splits]) -> Splits:
    """Combine the splits of the data sets of a mix.

    A picture in test of any data set is removed from train and val of the others, and a picture in val from train. A
    picture in train of several data sets is used once, with the label of the first.

    The splits of each data set contain row indices of its own part of `table`, which begins at its entry in `starts`;
    the returned splits contain row indices of `table`. Titles name the data sets if these differ (``affectnet val +
    rafdb test``).
    """
    picture = _numbered(table.pixel_hash)
    dropped = Counter[str]()
    for own in splits:
        dropped.update(own.dropped)
    test = [start + own.test for start, own in zip(starts, splits, strict=True)]
    val: list[Int64] = []
    reason = "does not validate, as another data set tests on the same picture"
    for number, (start, own) in enumerate(zip(starts, splits, strict=True)):
        elsewhere = _joined(test[:number] + test[number + 1 :])
        val.append(_without_copies(start + own.val, picture, elsewhere, dropped, reason))
    if not any(map(len, val)):
        raise EmodetError(
            "data.sources: no val faces are left, because all are copies of test faces of another data set; "
            "set data.val_from=0.1"
        )
    train: list[Int64] = []
    for name, start, own in zip(names, starts, splits, strict=True):
        rows = _without_copies(start + own.train, picture, _joined(test + val), dropped)
        reason = "same picture as a training face of a data set that is named before"
        rows = _without_copies(rows, picture, _joined(train), dropped, reason)
        if not rows.size:
            raise EmodetError(
                f"data.sources: none of the {len(own.train):,} training faces of {name} are left, because all are "
                f"copies of faces of other data sets; name {name} first, or leave it out"
            )
        train.append(rows)
    val_name, test_name = (_title(names, [getattr(own, it) for own in splits]) for it in ("val_name", "test_name"))
    return Splits(_joined(train), _joined(val), _joined(test), val_name, test_name, dict(+dropped))


def _without_copies(
    rows: Int64, picture: Int64, others: Int64, dropped: Counter[str], reason: str = _SAME_PICTURE
) -> Int64:
    copies = np.isin(picture[rows], picture[others])
    dropped[reason] += int(copies.sum())
    return rows[~copies]


def _joined(rows: Sequence[Int64]) -> Int64:
    return np.concatenate([*rows, np.empty(0, dtype=np.int64)])


def _title(names: Sequence[str], titles: Sequence[str]) -> str:
    if len(set(titles)) == 1:
        return titles[0]
    return " + ".join(f"{name} {title}" for name, title in zip(names, titles, strict=True))


def _numbered(words: npt.NDArray[np.str_]) -> Int64:
    """Number words, equal words equally, because comparing numbers is much faster than comparing text."""
    return np.asarray(pa.array(words.tolist()).dictionary_encode().indices, dtype=np.int64)
