"""Whether a release is still what was packed of it."""

import hashlib
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
    paths = sorted({reader.file_of(sample) for sample in samples})
    files, root = hashlib.sha256(), reader.root
    # Several at once: a network file system takes a millisecond for each.
    with ThreadPoolExecutor(_THREADS) as threads:
        for path, facts in zip(paths, threads.map(_facts_of, paths, chunksize=512), strict=True):
            place = root.resolve() / path.relative_to(root) if path.is_relative_to(root) else path
            files.update(repr((str(place), facts)).encode())
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


def _facts_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds; (-1, 0) for a file that cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns
