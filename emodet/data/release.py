"""Whether a release is still what was packed of it."""

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emodet.datasets.folders import is_picture
from emodet.datasets.samples import Reader, Sample

_ABOUT = "synthetic.json"
_MOST_LABELS = 100
_THREADS = 16
_LOOKED_AT = 64  # files, by a thread at once


def release_state(reader: Reader, samples: Sequence[Sample], packs: Path) -> dict[str, str]:
    """Digests of a release that was just listed, equal as long as nothing changes.

    Returns:
        ``listing``, of the keys and annotations of all samples; ``files``, of path, size and time of change of their
        files; ``label_files``, see `label_files_state`.
    """
    listing = hashlib.sha256()
    for s in samples:
        known = (s.key, s.split, s.emotion, s.soft_label, s.valence, s.arousal, s.box, s.landmarks, s.subject)
        listing.update(repr(known).encode())
    # Text: to sort and resolve `Path`s takes four times as long.
    paths = sorted({str(reader.file_of(sample)) for sample in samples}, key=lambda path: path.split(os.sep))  # noqa: PTH206
    files, root = hashlib.sha256(), reader.root
    resolved, below = str(root.resolve()), str(root / "x")[:-1]
    # Several at once: a network file system takes a millisecond for each.
    chunks = [paths[start : start + _LOOKED_AT] for start in range(0, len(paths), _LOOKED_AT)]
    with ThreadPoolExecutor(_THREADS) as threads:
        facts = itertools.chain.from_iterable(threads.map(lambda chunk: [*map(_facts_of, chunk)], chunks))
        for path, found in zip(paths, facts, strict=True):
            inside = path.startswith(below)
            place = os.path.join(resolved, path[len(below) :]) if inside else path  # noqa: PTH118
            files.update(repr((resolved if path == str(root) else place, found)).encode())
    labels = label_files_state(root, packs)
    return {"listing": listing.hexdigest(), "files": files.hexdigest(), "label_files": labels}


def label_files_state(root: Path, packs: Path) -> str:
    """A digest of what most changes of a release touch: its label files, and the times of its folders.

    Cheap enough for each start. Overwritten pictures are not noticed, nor changed label files in folders that hold
    more than a hundred of them. Hidden files and `packs` do not count.
    """
    # The same digest whether the root is given relative, absolute or through a link.
    root, packs = root.resolve(), packs.resolve()
    facts: list[object] = [] if root.is_dir() else [_facts_of(root)]
    for folder, inside, names in os.walk(root):
        if Path(folder) == packs:
            inside.clear()
            continue
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        labels = sorted(Path(folder, name) for name in names if not name.startswith(".") and not is_picture(name))
        facts += [folder, _facts_of(Path(folder))[1], len(labels)]
        facts += [(path.name, _facts_of(path)) for path in labels if len(labels) <= _MOST_LABELS]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def about_release(root: Path) -> dict[str, Any]:
    """A release's own ``title`` and ``redistributable``, from a file that drawn releases have; else empty."""
    try:
        found = json.loads((root / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _facts_of(path: Path | str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; (-1, 0) for a file that cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns
