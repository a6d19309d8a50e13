"""Finding files in an unpacked release: nested folders, paths written in lists, pictures by name.

Unpacking decides the nesting and copying decides the case of extensions, so readers search instead of insisting.
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
"""Pictures that emodet does not decode: counted and named, never skipped silently."""

PICTURE_SUFFIXES = IMAGE_SUFFIXES - UNREAD_SUFFIXES
"""Pictures that are read; files that are neither (``Thumbs.db``, ``.DS_Store``) are ignored."""

_SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "train_set"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "dev"),
    "test": ("test", "testing", "test_set"),
}
_SPLIT_OF = {word: split for split, words in _SPLIT_WORDS.items() for word in words}


def split_of(word: str) -> str | None:
    """``train``, ``val`` or ``test`` for any usual word for it in any case, else None."""
    return _SPLIT_OF.get(word.strip().lower())


def split_folders(base: Path) -> dict[str, list[str]]:
    """The folders in `base` that are called as a split is, by split; several where it has several words for one."""
    of_split = {split: [name for name in folders_in(base) if split_of(name) == split] for split in _SPLIT_WORDS}
    return {split: names for split, names in of_split.items() if names}


def refuse_unread(problem: OSError) -> NoReturn:
    """Raise an `EmodetError` that names the folder: what it holds would be left out."""
    raise EmodetError(f"{problem.filename}: cannot be read ({problem.strerror or problem})")


def names_in(folder: Path, most: int | None = None) -> set[str]:
    """The names of everything in `folder`, at most `most` of them; empty where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in itertools.islice(entries, most)}
    except PermissionError as problem:
        refuse_unread(problem)
    except (OSError, ValueError):
        pass
    return set()


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in `folder` in order, without hidden ones; empty where there is no such folder."""

    def refuse(problem: OSError) -> None:
        if isinstance(problem, PermissionError):
            refuse_unread(problem)

    names = next(os.walk(folder, onerror=refuse), ("", [], []))[1]
    return sorted(filter(_may_enter, names))


def files_in(folder: Path, suffix: str, most: int = 1000, among: int | None = None) -> list[Path]:
    """The first files in `folder` with this suffix, in any case and not hidden, by name; `among` limits a listing."""
    shown = (name for name in names_in(folder, among) if not name.startswith("."))
    names = sorted(name for name in shown if name.lower().endswith(suffix))
    return [path for name in names[:most] if (path := folder / name).is_file()]


def is_picture(name: str, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> bool:
    """Whether a file's name is that of a picture; hidden files are none."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() in suffixes and stem != "" and not name.startswith(".")


def pictures_below(folder: Path, passed_over: list[str]) -> Iterator[str]:
    """The pictures in `folder` and in all folders below it, as paths relative to it with forward slashes.

    Links are followed, but no folder is entered twice, so that a loop of links ends. `passed_over` receives the
    pictures in formats that are not read, and links that lead nowhere.
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
    """Whether it is a link to nothing, or to itself."""
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110


def relative_path(text: str, where: str) -> str:
    """A path written in a list, with forward slashes and without ``.`` parts; it may not leave the folder."""
    slashed = text.strip().replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if not parts or "\0" in slashed:
        raise EmodetError(f"{where}: {text!r} is not the path of a picture")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
        raise EmodetError(
            f"{where}: the path {text!r} leaves the folder of pictures; write it relative to that folder, without .."
        )
    return "/".join(parts)


def few(names: Iterable[str], count: int = 3) -> str:
    """The first names for a note: ``a, b, c, …``."""
    first = list(itertools.islice(names, count + 1))
    return ", ".join([*first[:count], "…"] if len(first) > count else first)


def _may_enter(folder: str) -> bool:
    return not folder.startswith(".") and folder not in ("__MACOSX", "lost+found")
