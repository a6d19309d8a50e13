"""From annotations to the pictures of a release, wherever unpacking put them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from emodet.datasets.folders import few, folders_in, is_picture, names_in, spellings, split_of
from emodet.datasets.samples import Listing
from emodet.errors import EmodetError

__all__ = [
    "NOT_THERE",
    "TWICE",
    "Seen",
    "find_pictures",
    "is_new",
    "map_in_threads",
    "pair_by_stem",
    "require_most",
    "split_part",
]

NOT_THERE = "picture is not there"
TWICE = "listed more than once"

_RESOLVED = 0.9
_MAX_FOLDERS = 2000
_SAMPLE = 1000
_QUICK_SAMPLE = 20
_THREADS = 8
_CHUNK = 256

_T = TypeVar("_T")
_R = TypeVar("_R")


def require_most(missing: Sequence[str], total: int, what: str) -> None:
    """Refuse a release of whose annotated pictures more than a tenth are missing; `what` names it in the error."""
    if total - len(missing) < _RESOLVED * total:
        raise EmodetError(
            f"{what}: {len(missing):,} of {total:,} pictures are not there ({few(missing)}). Unpack the whole archive"
        )


Seen = dict[str, tuple[str, str]]
"""Of each picture so far: its label, and where it is listed."""


def is_new(seen: Seen, key: str, label: str, where: str) -> bool:
    """Add a picture to `seen`; False where it is there already, an error where it is there with another label."""
    label_before, place = seen.setdefault(key, (label, where))
    if label_before != label:
        raise EmodetError(
            f"{where}: {key} is {label} here and {label_before} in {place}; put one of them right or delete it"
        )
    return place == where


def find_pictures(
    listing: Listing, base: Path, paths: Sequence[str], listed_in: Path, split: str | None = None
) -> list[str | None]:
    """Find the folder below `base` that the paths of a list are relative to, and which of the pictures are there.

    An evenly spaced sample decides on the folder, then every path is looked up. Missing pictures are counted and noted;
    fewer than 90 % are an error. Of folders that fit alike, one inside a folder called after another split than `split`
    comes last. Returns for each path the picture's path below `base`, with the extension as on disk, or None.
    """
    if not paths:
        return []
    sample = paths[:: math.ceil(len(paths) / _SAMPLE)]
    folder, hits = _folder_of(base, sample, split)
    if hits < _RESOLVED * len(sample):
        missing = next((path for path in sample if not _is_there(folder, path)), sample[0])
        raise EmodetError(
            f"{listed_in}: of a sample of {len(sample):,} listed pictures {hits:,} are below {base} "
            f"(best folder: {folder}; not there: {missing}). Unpack all parts of the archive, or point data.root at "
            "the folder that holds lists and pictures"
        )
    below = folder.relative_to(base).as_posix()
    prefix = "" if below == "." else f"{below}/"
    by_folder: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        by_folder[path.rpartition("/")[0]].append(index)
    found: list[str | None] = [None] * len(paths)
    for directory, indices in by_folder.items():
        names = names_in(folder / directory)
        for index in indices:
            name = paths[index].rpartition("/")[2]
            on_disk = name if name in names else next((other for other in spellings(name) if other in names), None)
            if on_disk is not None:
                found[index] = f"{prefix}{directory}/{on_disk}" if directory else prefix + on_disk
    absent = [path for path, there in zip(paths, found, strict=True) if there is None]
    require_most(absent, len(paths), f"{listed_in}, pictures in {folder}")
    note = f"{len(absent):,} pictures of {listed_in.name} are not below {prefix or './'}: {few(absent)}"
    listing.leave_out(NOT_THERE, absent, note)
    return found


def pair_by_stem(
    listing: Listing, folder: Path, annotations: str, stems: Sequence[str], noun: str
) -> list[tuple[str, str]]:
    """(stem, name of the picture) for the annotation files of `folder` whose picture is in ``images/``.

    What has no counterpart is counted and named; more than a tenth without a picture are an error. `stems` are those of
    the files in the folder `annotations`, and `noun` is the word for one, with its article.
    """
    pictures: dict[str, str] = {}
    doubles = []
    for name in sorted(filter(is_picture, names_in(folder / "images"))):
        if pictures.setdefault(name.rpartition(".")[0], name) != name:
            doubles.append(name)
    annotated = set(stems)
    missing = [stem for stem in stems if stem not in pictures]
    require_most(missing, len(stems), f"{folder}: images/ does not fit {annotations}/")
    extra = [name for stem, name in pictures.items() if stem not in annotated]
    for reason, names in ((f"{noun.split(' ', 1)[1]} without a picture", missing), (f"picture without {noun}", extra)):
        listing.leave_out(reason, names, f"{folder.name}/, {reason}: {len(names):,} ({few(names)}).")
    if doubles:
        listing.notes.append(f"{folder.name}/images/: pictures named like another are not read: {few(doubles)}.")
    return [(stem, pictures[stem]) for stem in stems if stem in pictures]


def split_part(listing: Listing, base: Path, names: Sequence[str], annotations: str, split: str) -> Path | None:
    """The folder of a split under one of several names; None, with a note, where there is none."""
    there = [name for name in names if (base / name / annotations).is_dir()]
    if there:
        if len(there) > 1:
            listing.notes.append(f"Read {there[0]}/; {few(there[1:])} is not read.")
        return base / there[0]
    for name in names:
        if (base / name / "images").is_dir():
            raise EmodetError(
                f"{base / name}: {annotations}/ is missing beside images/. Unpack all parts of the archive"
            )
    listing.notes.append(f"There is no {names[0]}/, so no {split} faces.")
    return None


def map_in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """`function` of each item in order, several at a time: for small files, opening them takes the time."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for results in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            yield from results


def _folders_below(base: Path, *, levels: int = 4) -> Iterator[Path]:
    """`base` and the folders below it, nearest first, in name order; folders named by a number are not entered."""
    level = [base]
    for _ in range(levels + 1):
        following: list[Path] = []
        for folder in level:
            yield folder
            following += [folder / name for name in folders_in(folder) if not name.isdigit()]
        level = following[:_MAX_FOLDERS]


def _folder_of(base: Path, sample: Sequence[str], split: str | None) -> tuple[Path, int]:
    """The folder below which most of the sample lies, and how many do."""

    def is_of_another_split(folder: Path) -> bool:
        return any(split_of(part) not in (None, split) for part in folder.relative_to(base).parts)

    folders: Iterable[Path] = _folders_below(base)
    if split is not None:
        folders = sorted(folders, key=is_of_another_split)
    quick = sample[:: math.ceil(len(sample) / _QUICK_SAMPLE)]
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
