"""Finding the pictures of annotations in an unpacked release."""

import functools
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from emodet.datasets.folders import few, folders_in, is_picture, names_in, split_folders, split_of
from emodet.datasets.samples import Listing
from emodet.errors import EmodetError

NOT_THERE = "picture is not there"
TWICE = "listed more than once"

_RESOLVED = 0.9
_MAX_FOLDERS = 2000
_LEVELS = 5
_SAMPLE = 20

_T = TypeVar("_T")
_R = TypeVar("_R")


def in_threads(action: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """Map in several threads, in order; a network file system takes a millisecond per file access."""
    chunks = [items[start : start + 64] for start in range(0, len(items), 64)]
    with ThreadPoolExecutor(16) as pool:
        for results in pool.map(lambda chunk: [*map(action, chunk)], chunks):
            yield from results


def require_most(missing: Sequence[str], total: int, what: str) -> None:
    """Raise `EmodetError`, which begins with `what`, if more than a tenth of the annotated pictures are missing."""
    if total - len(missing) < _RESOLVED * total:
        raise EmodetError(
            f"{what}: {len(missing):,} of {total:,} pictures are not there ({few(missing)}). Unpack all parts of the "
            "archive, or point data.root at the folder that holds annotations and pictures (a list's paths are "
            "relative to its own folder)"
        )


Seen = dict[str, tuple[str, str]]
"""Label and place of each listed picture so far."""


def is_new(listing: Listing, seen: Seen, key: str, label: str, where: str) -> bool:
    """Add a picture to `seen`; count it if it is there already, raise `EmodetError` if it has another label there."""
    label_before, place = seen.setdefault(key, (label, where))
    if label_before != label:
        raise EmodetError(
            f"{where}: {key} is {label} here and {label_before} in {place}; put one of them right or delete it"
        )
    listing.left_out[TWICE] += place != where
    return place == where


def find_pictures(
    listing: Listing, base: Path, paths: Sequence[str], listed_in: Path, split: str | None = None
) -> list[str | None]:
    """Find the folder below `base` to which the paths of a list are relative; returns each picture's path, or None.

    It is the folder with most pictures of a sample, the nearest of several; folders of other splits than `split` are
    tried last. On disk, extensions can have another case, and umlauts two characters. Missing pictures are counted and
    noted; more than a tenth are an error. Returned paths are below `base`.
    """

    @functools.cache
    def names_of(folder: str) -> dict[str, str]:
        """Return the names in a folder by themselves and by their `_plain` form."""
        names: dict[str, str] = {}
        for name in sorted(names_in(base / folder)):
            names[name] = name
            names.setdefault(_plain(name), name)
        return names

    def find(prefix: str, path: str) -> str | None:
        directory, slash, name = f"{prefix}{path}".rpartition("/")
        names = names_of(directory)
        name = names.get(name) or names.get(_plain(name), "")
        return f"{directory}{slash}{name}" if name else None

    sample = paths[:: math.ceil(len(paths) / _SAMPLE)] if paths else []
    best, most = "", 0
    for prefix in _folders_below(base, split):
        hits = sum(find(prefix, path) is not None for path in sample)
        if hits > most:
            best, most = prefix, hits
        if hits == len(sample):
            break
    found = [find(best, path) for path in paths]
    missing = [path for path, there in zip(paths, found, strict=True) if there is None]
    require_most(missing, len(paths), f"{listed_in}, pictures in {base / best}")
    listing.leave_out(NOT_THERE, missing, f"{best or './'}, listed in {listed_in.name}")
    return found


def split_parts(
    listing: Listing, base: Path, annotations: str, expected: Sequence[str] = ("train", "val")
) -> Iterator[tuple[str, Path]]:
    """Yield each split and its folder, see `split_folders`; add a note if an expected split is missing."""
    names = split_folders(base)
    for split in dict.fromkeys((*expected, *names)):
        of_split = names.get(split, [])
        there = [name for name in of_split if (base / name / annotations).is_dir()]
        for name in () if there or split not in expected else of_split:
            if (base / name / "images").is_dir():
                raise EmodetError(
                    f"{base / name}: {annotations}/ is missing next to images/. Unpack all parts of the archive"
                )
        if len(there) > 1:
            listing.notes.append(f"Read {there[0]}/; {few(there[1:])} is not read.")
        if there:
            yield split, base / there[0]
        elif split in expected:
            listing.notes.append(f"There is no folder of {split} faces.")


def read_annotations(
    listing: Listing, folder: Path, ending: str, noun: str, read: Callable[[Path], _R]
) -> Iterator[tuple[str, _R]]:
    """Yield the picture of each annotation file, as a path from the common folder, and the result of `read`.

    Pictures are in ``images/`` next to `folder`; a picture belongs to the annotation file with the same stem and this
    `ending` in any case. Files without a counterpart are counted and named, with `noun` and article; more than a tenth
    of annotations without a picture are an error.
    """
    pictures: dict[str, str] = {}
    doubles = []
    for name in sorted(filter(is_picture, names_in(folder.parent / "images"))):
        if pictures.setdefault(name.rpartition(".")[0], name) != name:
            doubles.append(name)
    # Not the ``._NAME`` that macOS writes for each file on disks of other systems.
    names = sorted(name for name in names_in(folder) if name.lower().endswith(ending) and not name.startswith("."))
    files = {name[: -len(ending)]: name for name in names}
    if "classes" not in pictures:
        files.pop("classes", None)  # written by labelling tools
    missing = [stem for stem in files if stem not in pictures]
    require_most(missing, len(files), f"{folder.parent}: images/ does not fit {folder.name}/")
    extra = [name for stem, name in pictures.items() if stem not in files]
    listing.leave_out(f"{noun.split(' ', 1)[1]} without a picture", missing, f"{folder.parent.name}/")
    listing.leave_out(f"picture without {noun}", extra, f"{folder.parent.name}/")
    if doubles:
        listing.notes.append(f"{folder.parent.name}/images/: pictures named like another are not read: {few(doubles)}.")
    pairs = [(f"images/{pictures[stem]}", folder / name) for stem, name in files.items() if stem in pictures]
    yield from in_threads(lambda pair: (pair[0], read(pair[1])), pairs)


def _folders_below(base: Path, split: str | None) -> Iterator[str]:
    """Yield `base` and the folders below it, nearest first, sorted: relative paths, empty or with a trailing slash.

    Folders with a number as name are not entered; folders of other splits than `split` are last.
    """
    level, later = [""], []
    for _ in range(_LEVELS):
        following: list[str] = []
        for prefix in level:
            if split is not None and any(split_of(part) not in (None, split) for part in prefix.split("/")):
                later.append(prefix)
            else:
                yield prefix
            following += [f"{prefix}{name}/" for name in folders_in(base / prefix) if not name.isdigit()]
        level = following[:_MAX_FOLDERS]
    yield from later


def _plain(name: str) -> str:
    """Normalise a name: extension in lower case, umlauts as one character (two on macOS)."""
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"
