"""Several data sets as one: their packs side by side, and one sharing out of their faces."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.data.pack import Pack, Table
from emodet.data.sources import Source
from emodet.data.splits import Splits, assign_splits, numbered
from emodet.errors import EmodetError

__all__ = ["MixedPack", "mix_in", "mixed_splits", "share_out", "usable_faces"]

Indices = npt.NDArray[np.int64]


class MixedPack(Pack):
    """The packs of several data sets, in order, as one; their pixels stay where they are.

    A face's key is its data set's name, a colon and its own key, and so is its subject's: people of two data sets are
    never taken for one. Its fingerprint is made of the packs' names and fingerprints.

    Args:
        packs: Opened, by the name that the mix calls them.

    Attributes:
        names: Of the data sets, in order.
        packs: In the same order.

    Raises:
        EmodetError: There is none, or their crops are not made alike.
    """

    def __init__(self, packs: Mapping[str, Pack]) -> None:
        # Nothing to open here: each pack was checked when it was opened.
        if not packs:
            raise EmodetError("data.sources is empty: at least one data set is needed")
        self.names, self.packs = tuple(packs), tuple(packs.values())
        first = self.packs[0]
        for name, pack in packs.items():
            if pack.preprocessing.fingerprint() != first.preprocessing.fingerprint():
                raise EmodetError(
                    f"the crops of {name} are not made as those of {self.names[0]} are ({_difference(first, pack)}), "
                    "so they cannot be mixed; prepare both with the same preprocessing"
                )
        self.folder, self.preprocessing = first.folder.parent, first.preprocessing
        self.manifest = _manifest_of(packs)

    @cached_property
    def table(self) -> Table:
        """What is known about each face, data set by data set."""
        tables = [pack.table for pack in self.packs]
        named = list(zip(self.names, tables, strict=True))
        columns: dict[str, Any] = {
            field.name: np.concatenate([getattr(table, field.name) for table in tables]) for field in fields(Table)
        }
        columns["key"] = _text(f"{name}:{key}" for name, table in named for key in table.key.tolist())
        columns["subject"] = _text(
            f"{name}:{subject}" if subject else "" for name, table in named for subject in table.subject.tolist()
        )
        return Table(**columns)

    def source_of(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Indices:
        """Which data set each of these faces is from: int64, positions in `names`."""
        return np.searchsorted(self._ends, np.asarray(indices, dtype=np.int64), side="right").astype(np.int64)

    def part(self, number: int) -> slice:
        """The rows of one data set."""
        end = int(self._ends[number])
        return slice(end - len(self.packs[number]), end)

    def images(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """See `Pack.images`."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"indices from {wanted.min()} to {wanted.max()} in a mix of {len(self)} faces")
        size = self.preprocessing.size
        crops = np.empty((len(wanted), size, size, 3), dtype=np.uint8)
        source = self.source_of(wanted)
        for number in np.unique(source):
            here = source == number
            crops[here] = self.packs[number].images(wanted[here] - self.part(int(number)).start)
        return crops

    def verify(self) -> None:
        """See `Pack.verify`."""
        for pack in self.packs:
            pack.verify()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        # As of any pack, the table stays behind: a worker reads it for itself.
        kept = ("names", "packs", "folder", "preprocessing", "manifest")
        return {name: self.__dict__[name] for name in kept}

    @cached_property
    def _ends(self) -> Indices:
        return np.cumsum([len(pack) for pack in self.packs]).astype(np.int64)


def mix_in(pack: Pack) -> MixedPack | None:
    """The mix that a pack is, also with corrections laid over it; None where it is a single data set's."""
    if isinstance(pack, MixedPack):
        return pack
    # A pack laid over another one: with corrections, with smaller crops.
    below = getattr(pack, "pack", None)
    return None if below is None else mix_in(below)


def usable_faces(pack: Pack, table: Table, sources: Sequence[Source]) -> npt.NDArray[np.bool_]:
    """Which faces each data set lets be used: bool (N,). `table` is the pack's, or what corrections began from."""
    parts = zip(sources, _parts(pack), strict=True)
    return np.concatenate([source.usable(_part_of(table, rows)) for source, rows in parts])


def share_out(pack: Pack, sources: Sequence[Source], seed: int) -> Splits:
    """Which faces train, select and report: see `assign_splits` for one data set and `mixed_splits` for several.

    Raises:
        EmodetError: A split, or a data set, would be left without a face; the message names the data set.
    """
    splits = []
    for source, rows in zip(sources, _parts(pack), strict=True):
        table = _part_of(pack.table, rows)
        try:
            splits.append(assign_splits(table, source.usable(table), source.val_from, seed))
        except EmodetError as problem:
            raise EmodetError(f"data.sources: {source.name}: {problem}" if source.name else str(problem)) from None
    if mix_in(pack) is None:
        return splits[0]
    return mixed_splits([source.name for source in sources], pack.table, [rows.start for rows in _parts(pack)], splits)


def mixed_splits(names: Sequence[str], table: Table, starts: Sequence[int], splits: Sequence[Splits]) -> Splits:
    """One sharing out of all faces, made of the data sets' own.

    Each data set's faces are shared out as if it were alone, so that its val and test faces stay what they are
    elsewhere. Then, over all of them:

    - a face whose picture another data set reports on does not select;
    - a face whose picture any data set selects or reports on does not train;
    - a picture that several data sets would train on trains once, with the label of the one that is named first.

    Args:
        names: Of the data sets.
        table: Of all faces.
        starts: For each data set, its first row in `table`.
        splits: For each data set, positions in its own part of `table`.

    Returns:
        Positions in `table`. Titles name the data sets where these differ (``affectnet val + rafdb test``).

    Raises:
        EmodetError: A data set is left without a face to train on, or all are left without one to select on.
    """
    picture = numbered(table.pixel_hash)
    report = [start + own.test for start, own in zip(starts, splits, strict=True)]
    dropped = Counter[str]()
    for own in splits:
        dropped.update(own.dropped)
    val = []
    for number, (start, own) in enumerate(zip(starts, splits, strict=True)):
        rows = start + own.val
        reported = _pictures(picture, report[:number] + report[number + 1 :])
        copies = np.isin(picture[rows], reported)
        dropped["does not select, as another data set reports on the same picture"] += int(copies.sum())
        val.append(rows[~copies])
    measured = _pictures(picture, report + val)
    train: list[Indices] = []
    for name, start, own in zip(names, starts, splits, strict=True):
        rows = start + own.train
        copies = np.isin(picture[rows], measured)
        dropped["same picture as a val or test face"] += int(copies.sum())
        rows = rows[~copies]
        copies = np.isin(picture[rows], _pictures(picture, train))
        dropped["same picture as a training face of a data set that is named before"] += int(copies.sum())
        if copies.all():
            raise EmodetError(
                f"data.sources: none of the {len(own.train):,} training faces of {name} is left, as they are copies "
                f"of other data sets' faces; name {name} first, or leave it out"
            )
        train.append(rows[~copies])
    if not any(map(len, val)):
        raise EmodetError(
            "data.sources: no val face is left, as each is a copy of a face that another data set reports on; "
            "set data.val_from=0.1"
        )
    return Splits(
        train=np.concatenate(train),
        val=np.concatenate(val),
        test=np.concatenate(report),
        val_name=_title(names, [own.val_name for own in splits]),
        test_name=_title(names, [own.test_name for own in splits]),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _parts(pack: Pack) -> list[slice]:
    mix = mix_in(pack)
    return [slice(0, len(pack))] if mix is None else [mix.part(number) for number in range(len(mix.packs))]


def _part_of(table: Table, rows: slice) -> Table:
    return Table(**{field.name: getattr(table, field.name)[rows] for field in fields(Table)})


def _pictures(picture: Indices, rows: Sequence[Indices]) -> Indices:
    return np.asarray(picture[np.concatenate([*rows, np.empty(0, dtype=np.int64)])])


def _title(names: Sequence[str], titles: Sequence[str]) -> str:
    if len(set(titles)) == 1:
        return titles[0]
    return " + ".join(f"{name} {title}" for name, title in zip(names, titles, strict=True))


def _text(words: Iterator[str]) -> npt.NDArray[np.str_]:
    return np.array(list(words), dtype=np.str_)


def _difference(one: Pack, other: Pack) -> str:
    here, there = one.preprocessing.to_dict(), other.preprocessing.to_dict()
    return ", ".join(f"{key} {there[key]}, not {here[key]}" for key in here if here[key] != there[key])


def _manifest_of(packs: Mapping[str, Pack]) -> dict[str, Any]:
    """What the mix says of itself, with the words that a pack's manifest has."""
    manifests = {name: pack.manifest for name, pack in packs.items()}
    counts: dict[str, Counter[str]] = {}
    for manifest in manifests.values():
        for split, found in manifest["counts"].items():
            counts.setdefault(split, Counter()).update(found)
    named = [[name, manifest["fingerprint"]] for name, manifest in manifests.items()]
    return {
        "reader": "mixed",
        # Each one's full title stands in `sources`: all of them together are too long for a figure.
        "title": " + ".join(
            f"{name} (drawn faces)" if manifest["title"].startswith("drawn faces") else name
            for name, manifest in manifests.items()
        ),
        "redistributable": all(manifest.get("redistributable", False) for manifest in manifests.values()),
        "counts": {split: dict(found) for split, found in counts.items()},
        "expected": {},
        "fingerprint": hashlib.sha256(json.dumps({"mixed": named}).encode()).hexdigest(),
        "sources": {
            name: {
                "folder": str(pack.folder),
                **{key: pack.manifest[key] for key in ("fingerprint", "title", "reader")},
            }
            for name, pack in packs.items()
        },
    }
