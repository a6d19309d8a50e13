"""From the paths that a list names to the pictures below a root, wherever unpacking put them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from emodet.datasets.class_labels import split_of
from emodet.datasets.folders import LEAST_RESOLVED, few, folders_below, names_in, spellings
from emodet.errors import EmodetError

__all__ = ["NOT_THERE", "TWICE", "EachOnce", "Located", "locate", "note_of_missing"]

NOT_THERE = "picture is not there"
TWICE = "listed more than once"

_SAMPLE = 1000
_QUICK_SAMPLE = 20


class Located(NamedTuple):
    """Where listed pictures lie.

    Attributes:
        folder: The folder that the listed paths are relative to.
        found: For each listed path the one that is there below `folder`, with its extension as it is spelt on disk, or
            None.
    """

    folder: Path
    found: list[str | None]


def locate(root: Path, base: Path, paths: Sequence[str], listed_in: Path, split: str | None = None) -> Located:
    """Find the folder below which a list's pictures lie, and which of them are there.

    The first rows decide nothing: an evenly spaced sample settles on a folder, and then every path is looked up.

    Args:
        root: What the user named, for an error.
        base: The folder to search in.
        paths: As the list has them, with forward slashes and relative (`relative_path`).
        listed_in: The list, for an error.
        split: What the list is for, if one thing: of folders that fit alike, one inside a folder called after another
            split comes last.

    Raises:
        EmodetError: Fewer than 90 % of the pictures are there.
    """
    if not paths:
        return Located(base, [])
    sample = paths[:: max(1, math.ceil(len(paths) / _SAMPLE))]
    folder, hits = _folder_of(base, sample, split)
    if hits < LEAST_RESOLVED * len(sample):
        missing = next((path for path in sample if not _is_there(folder, path)), sample[0])
        raise EmodetError(
            f"{listed_in}: of a sample of {len(sample):,} listed pictures {hits:,} are below data.root={root} "
            f"(best folder: {folder}; not there: {missing}). "
            "Unpack all parts of the archive, or point root at the folder that holds lists and pictures"
        )
    by_folder: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_folder[path.rpartition("/")[0]].append(index)
    found: list[str | None] = [None] * len(paths)
    for directory, indices in by_folder.items():
        names = names_in(folder / directory)
        for index in indices:
            name = paths[index].rpartition("/")[2]
            spelt = name if name in names else next((other for other in spellings(name) if other in names), None)
            if spelt is not None:
                found[index] = f"{directory}/{spelt}" if directory else spelt
    missing_paths = [path for path, there in zip(paths, found, strict=True) if there is None]
    if len(missing_paths) > (1 - LEAST_RESOLVED) * len(paths):
        raise EmodetError(
            f"{listed_in}: {len(missing_paths):,} of {len(paths):,} listed pictures are not below {folder} "
            f"({few(missing_paths)}). Unpack all parts of the archive"
        )
    return Located(folder, found)


def note_of_missing(located: Located, paths: Sequence[str], base: Path, listed_in: Path) -> str:
    """A sentence about the pictures that are not there, at least one."""
    missing = [path for path, there in zip(paths, located.found, strict=True) if there is None]
    return (
        f"{len(missing):,} pictures of {listed_in.name} are not below {located.folder.relative_to(base)}/: "
        f"{few(missing)}"
    )


class EachOnce:
    """Lets each picture through once, and refuses a second entry that says something else about it."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, str]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, key: str) -> bool:
        return key in self._seen

    def is_new(self, key: str, label: object, where: str) -> bool:
        """Whether `key` was not there before.

        Args:
            key: The picture.
            label: What the entry says about it.
            where: The entry's place, for an error.

        Raises:
            EmodetError: It was there with another label.
        """
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = (label, where)
            return True
        if before[0] != label:
            raise EmodetError(
                f"{where}: {key} is {label} here and {before[0]} in {before[1]}; put one of them right or delete it"
            )
        return False


def _folder_of(base: Path, sample: Sequence[str], split: str | None) -> tuple[Path, int]:
    """The folder below which most of the sample lies, and how many do."""

    def is_of_another_split(folder: Path) -> bool:
        return any(split_of(part) not in (None, split) for part in folder.relative_to(base).parts)

    folders: Iterable[Path] = folders_below(base)
    if split is not None:
        folders = sorted(folders, key=is_of_another_split)
    quick = sample[:: max(1, math.ceil(len(sample) / _QUICK_SAMPLE))]
    best, most = base, 0
    for folder in folders:
        if any(_is_there(folder, path) for path in quick):
            hits = sum(_is_there(folder, path) for path in sample)
            if hits > most:
                best, most = folder, hits
            if hits == len(sample):
                break
    return best, most


def _is_there(folder: Path, path: str) -> bool:
    try:
        return any((folder / other).is_file() for other in spellings(path))
    except OSError:  # a name longer than any disk takes
        return False
