"""Resolve the inputs that a user names: images, videos, folders, globs, cameras, streams, standard input."""

import dataclasses
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from emodet.errors import EmodetError
from emodet.images import IMAGE_SUFFIXES

__all__ = ["RESULT_ENDINGS", "FoundSources", "Source", "find_sources", "hide_password", "is_video", "printable"]

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".ts", ".mts"),
        *(".m2ts", ".3gp", ".3g2", ".ogv", ".mjpg", ".mjpeg", ".mxf", ".dv"),
    ]
)
RESULT_ENDINGS = (".annotated.jpg", ".annotated.mp4", ".timeline.png")
"""Results of earlier runs end like this; folders and globs pass them over."""

_URL = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|rtp|srtp)://", re.IGNORECASE)
_VIDEO_STARTS = re.compile(
    rb"RIFF....AVI |....ftyp(?!avi|hei|hev|hif|mif|msf)|....(moov|mdat|wide|free)|\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]"
    rb"|FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
_MAX_STEM_BYTES = 160  # so that endings and numbers fit into the 255 bytes of a file name


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Attributes:
        kind: ``image``, ``video`` (a file), ``live`` (a camera or URL) or ``pipe`` (one encoded image from standard
            input or a named pipe).
        name: For rows, progress and messages; printable, and without a password.
        address: A path; for ``live`` a camera index or a URL; ``-`` for standard input.
        stem: Relative path of its results below the output folder, without a suffix; unique.
        error: Why it cannot be read, or None.
    """

    kind: Literal["image", "video", "live", "pipe"]
    name: str
    address: Path | str | int
    stem: PurePath
    error: str | None = None


@dataclass(slots=True)
class FoundSources:
    """Inputs, each once, in the order named; and what folders and globs `skipped`, as reason to names."""

    sources: list[Source] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, path: Path, reason: str) -> None:
        """Record a file that is passed over."""
        self.skipped.setdefault(reason, []).append(printable(path))


def find_sources(named: Iterable[str]) -> FoundSources:
    """Resolve files, folders (with everything below, also through links), globs, camera indices, URLs and ``-``.

    Folders and globs are sorted by name and pass over hidden files and `RESULT_ENDINGS`. What cannot be read becomes a
    `Source` with an `error`.
    """
    found = FoundSources()
    for text in named:
        try:
            found.sources.extend(_resolve(text, found))
        except (EmodetError, OSError) as problem:
            name = hide_password(text)
            message = f"{name}: {problem.strerror or problem}" if isinstance(problem, OSError) else str(problem)
            found.sources.append(Source("image", name, text, PurePath(), message))
    found.sources = _unique(found.sources)
    return found


def hide_password(address: str) -> str:
    """The same text, printable, with the password in ``user:password@host`` replaced by three dots."""
    return printable(re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:…@", address))


def printable(path: str | os.PathLike[str]) -> str:
    """A path that any terminal and file takes: bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def is_video(start: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is a video."""
    return _VIDEO_STARTS.match(start) is not None


def _resolve(text: str, found: FoundSources) -> list[Source]:
    if text == "-":
        return [Source("pipe", "-", "-", PurePath("stdin"))]
    if _URL.match(text):
        name = hide_password(text)
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", name.partition("://")[2].rpartition("@")[2].partition("?")[0])
        return [Source("live", name, text, PurePath(stem.strip("-.") or "stream"))]
    path = Path(text)
    if text.isdecimal() and not path.exists():
        return [Source("live", f"camera {int(text)}", int(text), PurePath(f"camera{int(text)}"))]
    files: list[tuple[Path, PurePath]]
    if path.is_dir():
        files = [(file, file.relative_to(path).with_suffix("")) for file in _scan(path, found)]
        if not files:
            raise EmodetError(f"{printable(text)}: no image or video in this folder (by file name)")
    elif path.exists():
        files = [(path, PurePath(path.stem))]
    elif glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207 (absolute patterns)
        files = [(it, PurePath(it.stem)) for it in matches if not it.is_dir() and not _is_passed_over(it, found)]
        for folder in (it for it in matches if it.is_dir() and "**" not in text):
            files += [(file, file.relative_to(folder.parent).with_suffix("")) for file in _scan(folder, found)]
        if not files:
            raise EmodetError(f"{printable(text)}: no file matches")
    else:
        raise EmodetError(f"{printable(text)}: there is no such file or folder")
    return [Source(_kind(file), printable(file), file, stem) for file, stem in files]


def _scan(folder: Path, found: FoundSources) -> list[Path]:
    """Images and videos below a folder, by name; links to folders are followed once."""
    files, visited = [], set()

    def failed(error: OSError) -> None:
        found.skip(Path(error.filename or folder), f"folder that cannot be read ({error.strerror})")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=failed):
        for name in [name for name in folders if name.startswith(".")]:
            found.skip(Path(parent, name), "hidden")
            folders.remove(name)
        folders.sort()
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(real)
        for name in sorted(names):
            file = Path(parent, name)
            suffix = file.suffix.lower()
            if suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                if not name.startswith("."):
                    found.skip(file, "neither image nor video by name")
            elif name.startswith("."):
                found.skip(file, "hidden")
            elif not _is_passed_over(file, found):
                files.append(file)
    return sorted(files)


def _is_passed_over(file: Path, found: FoundSources) -> bool:
    if not file.is_file():
        found.skip(file, "broken link or no regular file")
    elif file.name.endswith(RESULT_ENDINGS):
        found.skip(file, "result of an earlier run")
    else:
        return False
    return True


def _kind(path: Path) -> Literal["image", "video", "pipe"]:
    if not path.is_file():
        return "pipe"  # to be read once: its first bytes as well
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return "video" if suffix in VIDEO_SUFFIXES else "image"
    with path.open("rb") as file:
        return "video" if is_video(file.read(16)) else "image"


def _unique(sources: Iterable[Source]) -> list[Source]:
    """Each input once, with a stem of its own."""
    seen: set[object] = set()
    stems: set[str] = set()
    kept: list[Source] = []
    for source in sources:
        regular = isinstance(source.address, Path) and source.kind != "pipe"
        key = Path(str(source.address)).resolve() if regular else source.address
        if key in seen:
            continue
        seen.add(key)
        plain = PurePath(*map(_short, source.stem.parts))
        stem, number = plain, 1
        while source.error is None and str(stem).lower() in stems:  # some file systems ignore case
            number += 1
            stem = plain.with_name(f"{plain.name}-{number}")
        stems.add(str(stem).lower())
        kept.append(dataclasses.replace(source, stem=stem))
    return kept


def _short(name: str) -> str:
    """A file name that every file system takes, leaving room for an ending."""
    text = os.fsencode(name).decode("utf-8", "replace").replace("\ufffd", "_")
    return os.fsdecode(text.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore").encode())
