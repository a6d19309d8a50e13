"""What a release was when it was listed and cut: annotations, pictures and files, so that a change can be noticed."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from emodet.data.cutting import file_facts
from emodet.datasets.folders import is_picture
from emodet.datasets.samples import Reader, Sample

__all__ = ["Pictures", "Traces", "annotation_digests", "facts_of", "listing_digest", "traces_now", "traces_of"]

Traces = Mapping[str, tuple[int, int]]
"""Paths below the root, folders with a slash at the end, to their size (of folders -1) and time of change."""

_MOST_TRACES = 20_000
_MOST_IN_A_FOLDER = 100
_LEVELS = 8
_MADE_BY_VIEWERS = frozenset({"thumbs.db", "desktop.ini"})
_AT_ONCE = 16
_LOOKED_AT_TOGETHER = 512


class Pictures(NamedTuple):
    """The listed faces of a release, or of a part of it, as they were when they were cut.

    Attributes:
        key: N names.
        annotation: uint64 (N,), see `annotation_digests`.
        size: int64 (N,), bytes of the picture's file, -1 where it could not be looked at.
        mtime_ns: int64 (N,), when that was written.
    """

    key: Sequence[str]
    annotation: npt.NDArray[np.uint64]
    size: npt.NDArray[np.int64]
    mtime_ns: npt.NDArray[np.int64]

    def to_arrow(self) -> pa.Table:
        """As Parquet stores it."""
        return pa.table(
            {
                "key": pa.array(self.key, pa.string()),
                **{name: pa.array(getattr(self, name)) for name in ("annotation", "size", "mtime_ns")},
            }
        )

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "Pictures":
        """The inverse of `to_arrow`."""
        numbers = (table.column(name).to_numpy() for name in ("annotation", "size", "mtime_ns"))
        return cls(table.column("key").to_pylist(), *numbers)


def annotation_digests(records: Sequence[Sample]) -> npt.NDArray[np.uint64]:
    """For each record a number that differs where anything that is known of the face differs: uint64 (N,)."""
    parts = (
        repr((r.split, r.emotion, r.soft_label, r.valence, r.arousal, r.box, r.landmarks, r.subject)).encode()
        for r in records
    )
    together = b"".join(hashlib.blake2b(part, digest_size=8).digest() for part in parts)
    return np.frombuffer(together, dtype="<u8").astype(np.uint64)


def listing_digest(records: Sequence[Sample], annotations: npt.NDArray[np.uint64]) -> str:
    """Hex digits that are equal on any two machines that list the same faces with the same annotations."""
    total = hashlib.sha256()
    for record in records:
        total.update(record.key.encode() + b"\n")
    total.update(annotations.astype("<u8").tobytes())
    return total.hexdigest()


def facts_of(reader: Reader, records: Sequence[Sample]) -> npt.NDArray[np.int64]:
    """`file_facts` of each record's picture as they are now: int64 (N, 2).

    Several at once: a network file system takes a millisecond for each.
    """

    def look(start: int) -> list[tuple[int, int]]:
        return [file_facts(reader.file_of(record)) for record in records[start : start + _LOOKED_AT_TOGETHER]]

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = chain.from_iterable(threads.map(look, range(0, len(records), _LOOKED_AT_TOGETHER)))
        return np.array(list(found), dtype=np.int64).reshape(-1, 2)


def traces_of(root: Path, ignored: Path) -> Traces:
    """By what most changes of a release are noticed without listing it: its label files, and when its folders changed.

    A folder's time changes with what is added to it, renamed and removed. Pictures are left to it, and so are label
    files where a folder has more than a hundred, one for each face: that one of these is changed in place is noticed
    by listing only. Names that begin with a dot are left out.

    Args:
        root: Of the release: a folder or a file.
        ignored: A folder that does not count, and what is in it: packs may lie within the release.
    """
    if not root.is_dir():
        beside = dict(_files_in(root.parent))
        return beside if len(beside) <= _MOST_IN_A_FOLDER else {root.name: file_facts(root)}
    return dict(islice(_walk(root, ignored), _MOST_TRACES))


def traces_now(root: Path, names: Iterable[str]) -> Traces:
    """The same files and folders as they are now; those that are gone have the size and the time of nothing."""
    base = root if root.is_dir() else root.parent
    return {name: _folder_facts(base / name) if name.endswith("/") else file_facts(base / name) for name in names}


def _walk(root: Path, ignored: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    ignored_place = _place(ignored)
    entered: set[tuple[int, int]] = set()
    level = [""]
    for _ in range(_LEVELS):
        following: list[str] = []
        for prefix in level:
            folder = root / prefix
            place = _place(folder)
            if place is None or place == ignored_place or place in entered:
                continue
            entered.add(place)
            yield prefix or "./", _folder_facts(folder)
            files = list(_files_in(folder))
            if len(files) <= _MOST_IN_A_FOLDER:
                yield from ((prefix + name, facts) for name, facts in files)
            following += [f"{prefix}{name}/" for name in _folders_in(folder)]
        level = following


def _files_in(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files in a folder that may hold labels, in order; a few more than a hundred where there are more."""
    try:
        with os.scandir(folder) as entries:
            names = list(islice((entry.name for entry in entries if _may_be_labels(entry)), _MOST_IN_A_FOLDER + 1))
    except OSError:
        return
    yield from ((name, file_facts(folder / name)) for name in sorted(names))


def _folders_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return []


def _may_be_labels(entry: "os.DirEntry[str]") -> bool:
    name = entry.name.lower()
    if name.startswith(".") or name in _MADE_BY_VIEWERS or is_picture(name):
        return False
    try:
        return entry.is_file()
    except OSError:
        return False


def _folder_facts(folder: Path) -> tuple[int, int]:
    return -1, file_facts(folder)[1]


def _place(folder: Path) -> tuple[int, int] | None:
    """Device and inode; None where there is no such folder."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
