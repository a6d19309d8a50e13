"""Inputs that a user names: images, videos, folders, globs, lists, Parquet files, cameras, streams, pipes."""

import dataclasses
import glob
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from emodet.errors import EmodetError
from emodet.files import encoding_of
from emodet.images import IMAGE_SUFFIXES
from emodet.installation import needed

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".ts", ".mts"),
        *(".m2ts", ".m2t", ".3gp", ".3g2", ".ogv", ".mjpg", ".mjpeg", ".mxf", ".dv", ".vob", ".mpe", ".m2v", ".qt"),
        *(".f4v", ".divx", ".ivf", ".h264", ".264", ".h265", ".265", ".hevc"),
    ]
)
RESULT_ENDINGS = (".annotated.jpg", ".annotated.mp4", ".timeline.png")
"""Endings of result files, which folders and globs skip."""

_URL = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|rtp|srtp)://", re.IGNORECASE)
_VIDEO_STARTS = re.compile(
    rb"RIFF....AVI |....ftyp(?!avi|hei|hev|hif|mif|msf)|....(moov|mdat|wide|free)|\x1aE\xdf\xa3|\0\0\x01[\xba\xb3]"
    rb"|FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
_MAX_STEM_BYTES = 160  # leaves room for endings and numbers in the 255 bytes of a file name


@dataclass(frozen=True, slots=True)
class Source:
    """One input: an image, a video file, a camera or URL, or an encoded image from a table or a pipe."""

    kind: Literal["image", "video", "live", "pipe"]
    name: str  # for rows, progress and messages; printable, without a password
    address: Path | str | int | bytes  # path, URL, camera index, bytes of an image, or - for standard input
    stem: PurePath  # unique path of the results relative to the output folder, without a suffix
    error: str | None = None  # reason why the input cannot be read


Skip = Callable[[Path, str], object]
"""Called with a file that a folder or glob skips, and the reason."""


def find_sources(
    named: Iterable[str], *, column: str | None = None, skip: Skip = lambda path, reason: None
) -> Iterator[Source]:
    """Resolve files, folders (recursively, following links), globs, camera indices, URLs and ``-``; yield each once.

    ``@FILE`` is a text file with one path per line; a file that ends in ``.parquet`` is a table with paths or encoded
    images in `column` (None: the only suitable column). Relative paths start at the working directory. Folders and
    globs are sorted by name and skip hidden files and `RESULT_ENDINGS`. An input that cannot be read is a `Source`
    with an `error`.
    """
    return _unique(_resolve_all(named, column, skip))


def count_sources(named: Sequence[str], *, column: str | None = None) -> int:
    """Count the inputs of `find_sources`; repeated inputs count again, as finding them would double the time."""
    tables = [text for text in named if _is_table(Path(text))]
    others = _resolve_all((text for text in named if text not in tables), column, lambda path, reason: None)
    rows = sum(int(needed("pyarrow.parquet", table, "parquet").read_metadata(table).num_rows) for table in tables)
    return rows + sum(1 for _ in others)


def _resolve_all(named: Iterable[str], column: str | None, skip: Skip) -> Iterator[Source]:
    for text in named:
        try:
            yield from _resolve(text, column, skip)
        except (EmodetError, OSError) as problem:
            name = hide_password(text)
            message = f"{name}: {problem.strerror or problem}" if isinstance(problem, OSError) else str(problem)
            yield Source("image", name, text, PurePath(), message)


def hide_password(address: str) -> str:
    """Make an address printable and replace the password in ``user:password@host`` by three dots."""
    # This includes passwords with a slash, which are invalid; digits before a slash are a port.
    return printable(re.sub(r"(?<=://)([^/@:]*):([^/]*|(?!\d*/)[^@]*)@", r"\1:…@", address))


def printable(path: str | os.PathLike[str]) -> str:
    """Make a path printable: escape control characters and bytes that are not UTF-8."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def is_web_address(text: object) -> bool:
    """Return whether a value is an http or https address."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def is_video(start: bytes) -> bool:
    """Return whether a file that begins with these 16 bytes is a video."""
    return _VIDEO_STARTS.match(start) is not None


def _resolve(text: str, column: str | None, skip: Skip) -> Iterator[Source]:
    path, name = Path(text), hide_password(text)
    if not text:
        raise EmodetError("an empty name (an unset shell variable?); name a file, or . for this folder")
    if text == "-":
        yield Source("pipe", "-", "-", PurePath("stdin"))
    elif _URL.match(text):
        stem = re.sub(r"[^A-Za-z0-9.-]+", "-", name.partition("://")[2].rpartition("@")[2].partition("?")[0])
        yield Source("live", name, text, PurePath(stem.strip("-.") or "stream"))
    elif text.isdecimal() and not path.exists():
        yield Source("live", f"camera {int(text)}", int(text), PurePath(f"camera{int(text)}"))
    elif path.is_dir():
        yield from _require_any(_scan(path, path, skip), f"{name}: no image or video in this folder (by file name)")
    elif _is_table(path):
        yield from _require_any(_table(path, column), f"{name}: the table is empty")
    elif path.exists():
        yield Source(_kind(path), printable(path), path, PurePath(path.stem))
    elif text.startswith("@"):
        with Path(text[1:]).open("rb") as file:
            encoding = encoding_of(file.peek(2))
            errors = "replace" if encoding == "utf-16" else "surrogateescape"  # for names that are not UTF-8
            lines = io.TextIOWrapper(file, encoding, errors, newline="\n")
            paths = (entry for line in lines if (entry := line.rstrip("\r\n")))
            yield from _require_any(map(_listed, paths), f"{name}: the list is empty")
    elif glob.has_magic(text):
        yield from _require_any(_matches(text, skip), f"{name}: no file matches")
    else:
        raise EmodetError(f"{name}: there is no such file or folder")


def _require_any(sources: Iterator[Source], message: str) -> Iterator[Source]:
    """Yield the inputs; raise `EmodetError` if there are none."""
    if (first := next(sources, None)) is None:
        raise EmodetError(message)
    yield first
    yield from sources


def _listed(text: str) -> Source:
    """Convert a path of a list or table to an input, without checking that the file exists."""
    path = Path(text)
    if "\0" in text or not path.name or _URL.match(text):
        name = hide_password(text)
        return Source("image", name, text, PurePath(), f"{name}: not a path of a file; lists and tables contain paths")
    parts = [part for part in path.with_suffix("").parts if part not in (path.anchor, "..")]
    return Source(_kind_by_name(path) or "image", printable(path), path, PurePath(*parts))


def _matches(pattern: str, skip: Skip) -> Iterator[Source]:
    for path in sorted(map(Path, glob.glob(pattern, recursive=True))):  # noqa: PTH207 (absolute patterns)
        if path.is_dir():
            if "**" not in pattern:
                yield from _scan(path, path.parent, skip)
        elif not _is_skipped(path, skip):
            yield Source(_kind(path), printable(path), path, PurePath(path.stem))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".parquet" and path.exists()


def _table(path: Path, column: str | None) -> Iterator[Source]:
    """Yield the rows of a Parquet file: paths, or encoded images with the name FILE#ROW."""
    needed("pyarrow", f"{printable(path)}: Parquet", "parquet")
    import pyarrow
    from pyarrow import parquet, types

    def usable(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_struct(kind):  # as Hugging Face stores images
            return bool(kind.get_field_index("bytes") >= 0)
        return str(kind).removeprefix("large_").removesuffix("_view") in ("string", "binary")

    try:
        # With memory mapping or `pre_buffer`, memory use would grow with the file.
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            names = [field.name for field in file.schema_arrow if usable(field.type)]
            column = names[0] if column is None and len(names) == 1 else column
            if column is None or column not in names:
                raise EmodetError(
                    f"{printable(path)}: column={column!r}: choose a column of paths or encoded images with "
                    f"--column ({', '.join(names) or 'there is none'})"
                )
            batches = file.iter_batches(batch_size=16, columns=[column], use_threads=False)
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            for row, value in enumerate(values):
                yield row_source(value, f"{printable(path)}#{row}", PurePath(f"{path.stem}-{row}"))
    except (pyarrow.ArrowException, UnicodeDecodeError) as problem:
        raise EmodetError(f"{printable(path)}: not a readable Parquet file ({problem})") from None


def row_source(value: Any, name: str, stem: PurePath) -> Source:
    """Convert a path, an encoded image (named `name`) or a dict of ``bytes`` and ``path`` to an input."""
    if isinstance(value, dict):
        value = value["bytes"] or value.get("path")
    if isinstance(value, str) and value:
        return _listed(value)
    return Source("image", name, value or b"", stem, None if value else f"{name}: the row is empty")


def _scan(folder: Path, base: Path, skip: Skip) -> Iterator[Source]:
    """Yield images and videos below a folder, sorted, following each link once; stems are relative to `base`."""
    visited = set()

    def failed(error: OSError) -> None:
        skip(Path(error.filename or folder), f"unreadable folder ({error.strerror})")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=failed):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(real)
        for name in [name for name in folders if name.startswith(".")]:
            skip(Path(parent, name), "hidden")
            folders.remove(name)
        folders.sort()
        for file in (Path(parent, name) for name in sorted(names)):
            kind, hidden = _kind_by_name(file), file.name.startswith(".")
            if kind is None and not hidden:
                skip(file, "neither image nor video by name")
            elif kind is not None and hidden:
                skip(file, "hidden")
            elif kind is not None and not _is_skipped(file, skip):
                yield Source(kind, printable(file), file, file.relative_to(base).with_suffix(""))


def _is_skipped(file: Path, skip: Skip) -> bool:
    if not file.is_file():
        skip(file, "broken link or not a regular file")
    elif file.name.endswith(RESULT_ENDINGS):
        skip(file, "result of an earlier run")
    else:
        return False
    return True


def _kind_by_name(path: Path) -> Literal["image", "video"] | None:
    suffix = path.suffix.lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def _kind(path: Path) -> Literal["image", "video", "pipe"]:
    if not path.is_file():
        return "pipe"  # can be read only once, so do not read its first bytes here
    if (kind := _kind_by_name(path)) is None:
        with path.open("rb") as file:
            kind = "video" if is_video(file.read(16)) else "image"
    return kind


def _unique(sources: Iterable[Source]) -> Iterator[Source]:
    """Remove repeated inputs and make stems unique. Stores hashes only, since there can be millions of inputs."""
    seen: set[int] = set()
    stems: Counter[int] = Counter()
    for source in sources:
        address = source.name if isinstance(source.address, bytes) else source.address
        file = isinstance(address, Path) and source.kind != "pipe"
        key = hash(os.path.realpath(str(address)) if file else address)
        if key in seen:
            continue
        seen.add(key)
        plain = stem = PurePath(*map(_short, source.stem.parts))
        if source.error is None:
            while (key := hash(str(stem).lower())) in stems:  # some file systems ignore case
                stems[key] += 1
                stem = plain.with_name(f"{plain.name}-{stems[key]}")
            stems[key] = 1
        yield dataclasses.replace(source, stem=stem)


def _short(name: str) -> str:
    """Shorten a file name so that every file system accepts it with an ending."""
    text = os.fsencode(name).decode("utf-8", "replace").replace("\ufffd", "_")
    return os.fsdecode(text.encode()[:_MAX_STEM_BYTES].decode("utf-8", "ignore").encode())
