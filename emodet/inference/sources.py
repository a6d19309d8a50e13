"""What a user named, as a list of things to recognise: pictures, videos, cameras, streams, standard input."""

import dataclasses
import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from emodet.errors import EmodetError

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "Problem", "Source", "find_sources", "hide_password"]

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]  # what decode_rgb reads
)
VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".ogv",
        ".mjpg",
        ".mjpeg",
    ]
)

_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "rtp://")
_STARTS_OF_VIDEOS = (
    b"RIFF....AVI ",
    b"....ftyp",
    b"\x1aE\xdf\xa3",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
    b"FLV\x01",
)


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to recognise.

    Attributes:
        kind: ``image``, ``video`` (a file that ends), ``live`` (a camera or a stream) or ``stdin`` (one encoded
            image).
        name: As rows, progress and messages call it; a stream's password is left out of it.
        address: A path; for ``live`` a camera's number or a URL.
        stem: Where its results go below the output folder, without a suffix; no two sources share one.
    """

    kind: Literal["image", "video", "live", "stdin"]
    name: str
    address: Path | str | int
    stem: PurePath


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was named and cannot be recognised, with what to tell the user."""

    name: str
    message: str


def find_sources(named: Iterable[str], *, leave_out: Path | None = None) -> list[Source | Problem]:
    """Turn what a user typed into sources, in that order; folders and globs sorted by name.

    Args:
        named: Files, folders (with everything below them), globs (``**`` reaches into folders), camera numbers,
            URLs, or ``-``.
        leave_out: A folder whose files are results of earlier runs, not inputs.

    Returns:
        Sources, each once; and a `Problem` in the place of what cannot be one.
    """
    found: list[Source | Problem] = []
    for text in named:
        try:
            found.extend(_sources_of(text, leave_out))
        except EmodetError as problem:
            found.append(Problem(hide_password(text), str(problem)))
        except OSError as problem:
            found.append(Problem(text, f"{text}: {problem.strerror or problem}"))
    return _with_own_stems(_once(found))


def hide_password(address: str) -> str:
    """The same URL with the password in ``user:password@host`` replaced by three dots."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:…@", address)


def _sources_of(text: str, leave_out: Path | None) -> Sequence[Source]:
    if text == "-":
        return [Source("stdin", "-", "-", PurePath("stdin"))]
    if text.lower().startswith(_SCHEMES):
        safe = hide_password(text)
        host = re.sub(r"[^A-Za-z0-9.-]+", "-", safe.partition("://")[2].rpartition("@")[2].partition("?")[0])
        return [Source("live", safe, text, PurePath(host.strip("-.") or "stream"))]
    path = Path(text)
    if text.isdecimal() and not path.exists():
        return [Source("live", f"camera {int(text)}", int(text), PurePath(f"camera{int(text)}"))]
    if path.is_dir():
        return _in_folder(path, text, leave_out)
    if path.exists():
        return [_file(path, PurePath(path.stem))]
    if glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207 (an absolute pattern has no root to ask)
        files = [match for match in matches if match.is_file() and not _below(match, leave_out)]
        if not files:
            raise EmodetError(f"{text}: no file matches it")
        return [_file(file, PurePath(file.stem)) for file in files]
    raise EmodetError(f"{text}: there is no such file or folder")


def _in_folder(folder: Path, text: str, leave_out: Path | None) -> list[Source]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
        and not _below(file, leave_out)
    ]
    if not files:
        raise EmodetError(f"{text}: there is no image or video in this folder (looked for by their file names)")
    return [_file(file, file.relative_to(folder).with_suffix("")) for file in files]


def _below(file: Path, folder: Path | None) -> bool:
    return folder is not None and file.resolve().is_relative_to(folder.resolve())


def _file(path: Path, stem: PurePath) -> Source:
    return Source("video" if _is_video(path) else "image", str(path), path, stem)


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    with path.open("rb") as file:
        start = file.read(16)
    return any(re.match(re.escape(magic).replace(rb"\.", b"."), start, re.DOTALL) for magic in _STARTS_OF_VIDEOS)


def _once(found: Iterable[Source | Problem]) -> list[Source | Problem]:
    seen: set[object] = set()
    kept: list[Source | Problem] = []
    for each in found:
        identity = each.address.resolve() if isinstance(each, Source) and isinstance(each.address, Path) else each
        if identity not in seen:
            seen.add(identity)
            kept.append(each)
    return kept


def _with_own_stems(found: Iterable[Source | Problem]) -> list[Source | Problem]:
    taken: set[str] = set()
    own: list[Source | Problem] = []
    for each in found:
        if isinstance(each, Source):
            stem, number = each.stem, 1
            # Compared without case: some file systems know no difference.
            while str(stem).lower() in taken:
                number += 1
                stem = each.stem.with_name(f"{each.stem.name}-{number}")
            taken.add(str(stem).lower())
            each = dataclasses.replace(each, stem=stem)
        own.append(each)
    return own
