"""Finding files in an unpacked release: nested folders, paths written in lists, pictures by name.

Nesting depends on the unpacking and the case of extensions on copying, so readers search for files.
"""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from emodet.errors import EmodetError
from emodet.images import IMAGE_SUFFIXES

UNREAD_SUFFIXES = frozenset({".jxl", ".dib", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})
"""Suffixes of pictures that emodet cannot decode: counted and named, never skipped silently."""

PICTURE_SUFFIXES = IMAGE_SUFFIXES - UNREAD_SUFFIXES
"""Suffixes of pictures that are read; all other files (``Thumbs.db``, ``.DS_Store``) are ignored."""

_SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "train_set"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "dev"),
    "test": ("test", "testing", "test_set"),
}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}


def split_of(word: str) -> str | None:
    """Return ``train``, ``val`` or ``test`` for a common name of the split, in any case, else None."""
    return _SPLIT_OF.get(word.strip().lower())


def split_folders(base: Path) -> dict[str, list[str]]:
    """Return the folders in `base` with the name of a split, by split; a split can have several folders."""
    of_split = {split: [name for name in folders_in(base) if split_of(name) == split] for split in _SPLIT_WORDS}
    return {split: names for split, names in of_split.items() if names}


def refuse_unread(problem: OSError) -> NoReturn:
    """Raise an `EmodetError` that names an unreadable folder, whose files would otherwise be left out."""
    raise EmodetError(f"{problem.filename}: cannot be read ({problem.strerror or problem})")


def names_in(folder: Path, most: int | None = None) -> set[str]:
    """Return the names of at most `most` entries of a folder; empty if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in itertools.islice(entries, most)}
    except PermissionError as problem:
        refuse_unread(problem)
    except (OSError, ValueError):
        return set()


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of subfolders, without hidden ones; empty if the folder does not exist."""

    def refuse(problem: OSError) -> None:
        if isinstance(problem, PermissionError):
            refuse_unread(problem)

    names = next(os.walk(folder, onerror=refuse), ("", [], []))[1]
    return sorted(filter(_may_enter, names))


def files_in(folder: Path, suffix: str, most: int = 1000, among: int | None = None) -> list[Path]:
    """Return the first files with this suffix, in any case, sorted, without hidden ones; `among` limits the listing."""
    shown = (name for name in names_in(folder, among) if not name.startswith("."))
    names = sorted(name for name in shown if name.lower().endswith(suffix))
    return [path for name in names[:most] if (path := folder / name).is_file()]


def is_picture(name: str, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> bool:
    """Return whether a file name is that of a picture and not hidden."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() in suffixes and stem != "" and not name.startswith(".")


def pictures_below(folder: Path, passed_over: list[str]) -> Iterator[str]:
    """Yield the pictures below a folder, recursively, as relative paths with forward slashes.

    Links are followed, but no folder is entered twice. `passed_over` receives pictures in unsupported formats and
    broken links.
    """
    entered = set()
    for directory, folders, files in os.walk(folder, onerror=refuse_unread, followlinks=True):
        place = Path(directory).stat()
        # Some network drives have no inode numbers.
        if place.st_ino and (place.st_dev, place.st_ino) in entered:
            folders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        folders[:] = sorted(filter(_may_enter, folders))
        below = Path(directory).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(files):
            if is_picture(name):
                yield prefix + name
            elif is_picture(name, UNREAD_SUFFIXES) or is_broken_link(Path(directory, name)):
                passed_over.append(prefix + name)


def is_broken_link(path: Path) -> bool:
    """Return whether a path is a link to a missing file or to itself."""
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110


def relative_path(text: str, where: str) -> str:
    """Normalise a path in a list: forward slashes, no ``.`` parts; raises `EmodetError` if it leaves the folder."""
    slashed = text.strip().replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    is_absolute = slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed)
    if not parts or is_absolute or ".." in parts or "\0" in slashed:
        raise EmodetError(f"{where}: {text!r}: expected a path relative to the folder of pictures, without ..")
    return "/".join(parts)


def few(names: Iterable[str], count: int = 3) -> str:
    """Join the first names for a note: ``a, b, c, …``."""
    first = list(itertools.islice(names, count + 1))
    return ", ".join([*first[:count], "…"] if len(first) > count else first)


def _may_enter(folder: str) -> bool:
    return not folder.startswith(".") and folder not in ("__MACOSX", "lost+found")
