"""`MixedPack`: the packs of one or several data sets as one, with corrections applied."""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Int64, UInt8
from emodet.data.corrections import Corrections, read_corrections
from emodet.data.pack import Pack, Table
from emodet.emotions import place_of
from emodet.errors import EmodetError


class MixedPack(Pack):
    """Several packs as one, in order, without copying pixels.

    Keys and subjects are prefixed with the data set's name and a colon, so that people of two data sets are different.
    A single data set can have the empty name; its keys, manifest and fingerprint then do not change.

    Args:
        packs: Opened packs by name, with the same preprocessing.
        classes: Names of the classes to use; None for all classes of the packs. Classes are matched by name
            (`emodet.emotions.place_of`), and the used ones are first in `class_names`.
        corrections: File of corrections, applied to the table.

    Attributes:
        classes: Used classes: the first ones of `class_names`.
        correction_facts: File name and SHA-256 of the corrections, and the number of changed faces by split.
    """

    def __init__(
        self, packs: Mapping[str, Pack], classes: Sequence[str] | None = None, corrections: Path | None = None
    ) -> None:
        self.names, self.packs = tuple(packs), tuple(packs.values())
        first, self._starts = self.packs[0], np.cumsum([0, *map(len, self.packs)])
        self.preprocessing = first.preprocessing
        self.folder, self.manifest = first.folder, first.manifest
        if self.names != ("",):
            self.folder, self.manifest = first.folder.parent, _manifest_of(packs)
        names, self.classes = _ordered_classes(self.packs, classes)
        self.manifest = {**self.manifest, "class_names": list(names)}
        self._corrections: Corrections | None = None
        self.correction_facts: dict[str, Any] | None = None
        if corrections is not None:
            found = read_corrections(corrections, names)
            self.table, counts = found.apply(self.table)
            self._corrections = found
            self.correction_facts = {"file": corrections.name, "sha256": found.sha256, "faces": counts}

    @cached_property
    def table(self) -> Table:
        """Annotations of all faces, in the order of the data sets, after the corrections."""
        tables = [_with_classes(pack.table, pack.class_names, self.class_names) for pack in self.packs]
        if self.names != ("",):
            tables = [_named(name, table) for name, table in zip(self.names, tables, strict=True)]
        table = Table(**{it.name: np.concatenate([getattr(each, it.name) for each in tables]) for it in fields(Table)})
        return table if self._corrections is None else self._corrections.apply(table)[0]

    def source_of(self, indices: Int64) -> Int64:
        """Return the data set of each of these faces: int64, indices of `packs`."""
        return np.searchsorted(self._starts[1:], indices, side="right").astype(np.int64)

    def part(self, number: int) -> slice:
        """Return the rows of a data set."""
        return slice(*self._starts[number : number + 2].tolist())

    def resized(self, size: int) -> "MixedPack":
        """Return the pack with crops that are reduced to `size` pixels when read."""
        other = copy.copy(self)
        other.preprocessing = replace(self.preprocessing, size=size)
        return other

    def images(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> UInt8:
        """See `Pack.images`."""
        wanted = np.asarray(indices, dtype=np.int64)
        stored, size = self.packs[0].preprocessing.size, self.preprocessing.size
        crops, source = np.empty((len(wanted), stored, stored, 3), dtype=np.uint8), self.source_of(wanted)
        for number in set(source.tolist()):
            here = source == number
            crops[here] = self.packs[number].images(wanted[here] - self._starts[number])
        if size == stored:
            return crops
        reduced = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in crops]
        return np.asarray(reduced, dtype=np.uint8).reshape(-1, size, size, 3)

    def verify(self) -> None:
        """See `Pack.verify`."""
        for pack in self.packs:
            pack.verify()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        # As in `Pack`, the table is not pickled: a worker reads it from disk.
        return {name: value for name, value in self.__dict__.items() if name != "table"}


def _ordered_classes(packs: Sequence[Pack], classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all classes of the packs, the used ones first; and the used ones."""
    known: list[str] = []
    for pack in packs:
        known += [name for name in pack.class_names if place_of(name, known) is None]
    if classes is None:
        return tuple(known), tuple(known)
    places = [place_of(name, known) for name in classes]
    odd = [name for name, place in zip(classes, places, strict=True) if place is None or places.count(place) > 1]
    if odd:
        raise EmodetError(
            f"data.classes=[{', '.join(classes)}]: {', '.join(odd)}: no class of this data, or named twice; there are "
            f"{', '.join(known)}"
        )
    chosen = tuple(known[place] for place in places if place is not None)
    return (*chosen, *(name for name in known if name not in chosen)), chosen


def _with_classes(table: Table, own: Sequence[str], wanted: Sequence[str]) -> Table:
    """Renumber the classes of a table by name."""
    if tuple(own) == tuple(wanted):
        return table
    places = np.array([place_of(name, wanted) for name in own], dtype=np.int64)
    soft = np.full((len(table), len(wanted)), np.nan, dtype=np.float32)
    soft[~np.isnan(table.soft_label).all(axis=1)] = 0
    soft[:, places] = table.soft_label
    return replace(table, emotion=np.where(table.emotion < 0, -1, places[table.emotion]), soft_label=soft)


def _named(name: str, table: Table) -> Table:
    """Prefix keys and subjects of a table with the data set's name."""
    key, subject = ([f"{name}:{word}" if word else "" for word in it.tolist()] for it in (table.key, table.subject))
    return replace(table, key=np.array(key, dtype=np.str_), subject=np.array(subject, dtype=np.str_))


def _manifest_of(packs: Mapping[str, Pack]) -> dict[str, Any]:
    """Return the description of a mix, with the keys of a pack's manifest."""
    manifests = {name: pack.manifest for name, pack in packs.items()}
    counts: dict[str, Counter[str]] = {}
    for manifest in manifests.values():
        for split, found in manifest["counts"].items():
            counts.setdefault(split, Counter()).update(found)
    named = [[name, manifest["fingerprint"]] for name, manifest in manifests.items()]
    # `sources` contains the full titles, which together are too long for a figure.
    drawn = {name: it["title"].startswith("drawn faces") for name, it in manifests.items()}
    about = ("fingerprint", "title", "reader")
    return {
        "reader": "mixed",
        "title": " + ".join(f"{name} (drawn faces)" if is_drawn else name for name, is_drawn in drawn.items()),
        "redistributable": all(manifest.get("redistributable", False) for manifest in manifests.values()),
        "counts": {split: dict(found) for split, found in counts.items()},
        "expected": {},
        "fingerprint": hashlib.sha256(json.dumps({"mixed": named}).encode()).hexdigest(),
        "sources": {
            name: {"folder": str(pack.folder), **{key: pack.manifest[key] for key in about}}
            for name, pack in packs.items()
        },
    }
