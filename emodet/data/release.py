"""Whether a release is still what was packed of it."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from emodet.datasets.folders import is_picture
from emodet.datasets.samples import Reader, Sample

__all__ = ["ReleaseState", "about_release", "label_files_state", "release_state"]

_ABOUT = "synthetic.json"

_LEVELS = 8
_MOST_FILES = 100
_THREADS = 16
_MADE_BY_VIEWERS = frozenset({"thumbs.db", "desktop.ini"})


class ReleaseState(NamedTuple):
    """Digests of a release, equal as long as nothing changes.

    Attributes:
        listing: Of the keys and annotations of all samples.
        files: Of path, size and time of change of the samples' files.
        labels: See `label_files_state`.
    """

    listing: str
    files: str
    labels: str


def release_state(reader: Reader, samples: Sequence[Sample], packs: Path) -> ReleaseState:
    """The state of a release that was just listed."""
    listing = hashlib.sha256()
    for s in samples:
        known = (s.key, s.split, s.emotion, s.soft_label, s.valence, s.arousal, s.box, s.landmarks, s.subject)
        listing.update(repr(known).encode())
    paths = sorted({reader.file_of(sample) for sample in samples})
    files, real = hashlib.sha256(), reader.root.resolve()
    # Several at once: a network file system takes a millisecond for each.
    with ThreadPoolExecutor(_THREADS) as threads:
        for path, facts in zip(paths, threads.map(_facts_of, paths, chunksize=512), strict=True):
            files.update(repr((_resolved(path, reader.root, real), facts)).encode())
    return ReleaseState(listing.hexdigest(), files.hexdigest(), label_files_state(reader.root, packs))


def label_files_state(root: Path, packs: Path) -> str:
    """A digest of what most changes of a release touch: its label files, and the times of its folders.

    Cheap enough for each start. Overwritten pictures are not noticed, nor changed label files in folders that hold
    more than a hundred of them. Hidden files and `packs` do not count.
    """
    digest = hashlib.sha256()
    # The same digest whether the root is given relative, absolute or through a link.
    for path in _label_files(root.resolve(), packs):
        folder = path.is_dir()
        digest.update(repr((str(path), folder, _facts_of(path)[int(folder) :])).encode())
    return digest.hexdigest()


def about_release(root: Path) -> dict[str, Any]:
    """A release's own ``title`` and ``redistributable``, from a file that drawn releases have; else empty."""
    try:
        found = json.loads((root / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _label_files(root: Path, packs: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield from islice(_files_in(root.parent), _MOST_FILES)
        return
    level = [root]
    for _ in range(_LEVELS):
        following: list[Path] = []
        for folder in level:
            if folder.resolve() == packs.resolve():
                continue
            yield folder
            files = list(islice(_files_in(folder), _MOST_FILES + 1))
            yield from files if len(files) <= _MOST_FILES else ()
            following += [path for path in _entries(folder) if path.is_dir()]
        level = following


def _resolved(path: Path, root: Path, real: Path) -> str:
    """The path with its root replaced by the resolved one."""
    return str(real / path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _files_in(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        if not is_picture(path.name) and path.name.lower() not in _MADE_BY_VIEWERS and path.is_file():
            yield path


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError:
        return []


def _facts_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; (-1, 0) for a file that cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns
