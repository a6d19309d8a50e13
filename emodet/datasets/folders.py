"""Finding one's way in an unpacked release: nested folders, paths written in lists, pictures by name.

Unpacking decides the nesting and copying decides the case of extensions, so readers search instead of insisting.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from emodet.errors import EmodetError

__all__ = [
    "LEAST_RESOLVED",
    "PICTURE_SUFFIXES",
    "few",
    "first_line",
    "folders_below",
    "folders_in",
    "inner_root",
    "is_picture",
    "names_in",
    "pictures_below",
    "pictures_by_stem",
    "relative_path",
    "some_names",
    "spellings",
]

PICTURE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"})
"""In lower case, without the dot; anything else beside the pictures (``Thumbs.db``, ``.DS_Store``) is no picture."""

LEAST_RESOLVED = 0.9
"""A release of whose pictures fewer than this share are there is taken for incomplete, and refused."""

_MAX_LINE_BYTES = 1 << 16
_MAX_FOLDERS = 2000


def inner_root(root: Path, bears_signs: Callable[[Path], bool], *, levels: int = 2) -> Path | None:
    """The folder that bears a family's signs: the root, or the only folder inside it, and so on.

    Returns:
        None where no such folder is found within `levels` steps down, or something cannot be read.
    """
    folder = root
    try:
        for _ in range(levels + 1):
            if bears_signs(folder):
                return folder
            with os.scandir(folder) as entries:
                inside = list(itertools.islice((e.name for e in entries if _may_enter(e)), 2))
            if len(inside) != 1:
                return None
            folder = folder / inside[0]
    except OSError:
        return None
    return None


def folders_below(base: Path, *, levels: int = 4) -> Iterator[Path]:
    """`base` and the folders below it, nearest first, in name order; folders named by a number are not entered."""
    level = [base]
    for _ in range(levels + 1):
        following: list[Path] = []
        for folder in level:
            yield folder
            try:
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if not entry.name.isdigit() and _may_enter(entry))
            except OSError:
                continue
            following += [folder / name for name in names]
        level = following[:_MAX_FOLDERS]


def names_in(folder: Path) -> set[str]:
    """The names of everything in `folder`; empty where there is no such folder or it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (OSError, ValueError):
        return set()


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in `folder` in order, hidden ones left out; empty where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _may_enter(entry))
    except (OSError, ValueError):
        return []


def pictures_below(folder: Path) -> Iterator[str]:
    """The pictures in `folder` and in all folders below it, as paths relative to it with forward slashes.

    Links are followed, but no folder is entered twice, so that a loop of links ends.

    Raises:
        EmodetError: A folder cannot be read.
    """
    pending, entered = [""], set()
    while pending:
        directory = pending.pop()
        prefix = f"{directory}/" if directory else ""
        try:
            place = (folder / directory).stat()
            # Without inode numbers, as on some network drives, nothing can be told apart.
            if place.st_ino and (place.st_dev, place.st_ino) in entered:
                continue
            entered.add((place.st_dev, place.st_ino))
            with os.scandir(folder / directory) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as problem:
            raise EmodetError(f"{folder / directory}: cannot be read ({problem.strerror or problem})") from None
        for entry in inside:
            if _may_enter(entry):
                pending.append(prefix + entry.name)
            elif is_picture(entry.name):
                yield prefix + entry.name


def is_picture(name: str) -> bool:
    """Whether a file's name says that it is a picture; hidden files are none."""
    stem, _, suffix = name.rpartition(".")
    return suffix.lower() in PICTURE_SUFFIXES and stem != "" and not name.startswith(".")


def some_names(folder: Path) -> list[str]:
    """A thousand names of `folder` at most, whichever come first; empty where it cannot be read. For recognising."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, 1000)]
    except (OSError, ValueError):
        return []


def pictures_by_stem(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The pictures of one folder.

    Returns:
        File name by stem, and the names that had to be passed over because a picture of another type bears the
        same stem.
    """
    found: dict[str, str] = {}
    passed_over: list[str] = []
    for name in sorted(names_in(folder)):
        if not is_picture(name):
            continue
        stem = name.rpartition(".")[0]
        if stem in found:
            passed_over.append(name)
        else:
            found[stem] = name
    return found, passed_over


def spellings(path: str) -> list[str]:
    """`path` first, then with its extension in lower case, upper case and capitalised."""
    stem, dot, suffix = path.rpartition(".")
    if not dot:
        return [path]
    return list(
        dict.fromkeys((path, f"{stem}.{suffix.lower()}", f"{stem}.{suffix.upper()}", f"{stem}.{suffix.capitalize()}"))
    )


def relative_path(text: str, where: str) -> str:
    """A path written in a list, with forward slashes and without ``.`` parts.

    Args:
        text: What the list says; back-slashes count as slashes.
        where: How an error names the place, as in ``training.csv, line 7``.

    Raises:
        EmodetError: It is empty, absolute, or leaves the folder.
    """
    slashed = text.strip().replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if not parts or "\0" in slashed:
        raise EmodetError(f"{where}: {text!r} is not the path of a picture")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
        raise EmodetError(
            f"{where}: the path {text!r} leaves the folder of pictures; write it relative to that folder, without .."
        )
    return "/".join(parts)


def first_line(path: Path) -> str:
    """The first line of a text file without its end and byte-order mark; undecodable bytes become U+FFFD.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        # readline ends at \n; a file with \r alone comes as far as the limit.
        start = file.readline(_MAX_LINE_BYTES).partition(b"\r")[0]
    return start.decode("utf-8-sig", errors="replace").rstrip("\r\n")


def few(names: Iterable[str], count: int = 3) -> str:
    """The first names for a note: ``a, b, c, …``."""
    first = list(itertools.islice(names, count + 1))
    return ", ".join([*first[:count], "…"] if len(first) > count else first)


def _may_enter(entry: "os.DirEntry[str]") -> bool:
    try:
        return not entry.name.startswith(".") and entry.name != "__MACOSX" and entry.is_dir()
    except OSError:  # a link to itself
        return False
