"""Whether a release is still what was packed of it: cheaply on each use, face by face when there is doubt."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from emodet.data.cutting import Cropper
from emodet.data.pack import Pack, crop_hash, file_sha256
from emodet.data.parts import PICTURES
from emodet.datasets.samples import Sample
from emodet.data.release_state import Pictures, Traces, annotation_digests, facts_of, traces_now, traces_of
from emodet.errors import EmodetError

__all__ = ["Changes", "changed_pictures", "changes_since", "check_release", "compared", "looks_changed", "write_traces"]

log = logging.getLogger(__name__)

_TRACES = "release.json"
_NAMED = 3
_CUT_AGAIN = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """How a release differs from what was packed of it.

    Attributes:
        new: Keys of faces that were not listed then.
        gone: Keys of faces that are not listed now.
        annotated: Keys of faces of which something else is known now: another class, box, split.
        pictures: Keys of faces whose pictures are others, or could not be read then and can be now, or the reverse.
    """

    new: Sequence[str] = ()
    gone: Sequence[str] = ()
    annotated: Sequence[str] = ()
    pictures: Sequence[str] = ()

    def __bool__(self) -> bool:
        return any((self.new, self.gone, self.annotated, self.pictures))

    def __str__(self) -> str:
        parts = (
            (self.new, "new"),
            (self.gone, "no longer listed"),
            (self.annotated, "annotated otherwise"),
            (self.pictures, "of another picture"),
        )
        return "; ".join(f"{_number(keys)} {what} ({_few(keys)})" for keys, what in parts if keys)


def compared(records: Sequence[Sample], then: Pictures) -> Changes:
    """How the listing differs; pictures are not looked at.

    Args:
        records: As listed now.
        then: As packed.
    """
    annotations = dict(zip(then.key, then.annotation.tolist(), strict=True))
    now = {record.key: digest for record, digest in zip(records, annotation_digests(records).tolist(), strict=True)}
    return Changes(
        new=[key for key in now if key not in annotations],
        gone=[key for key in annotations if key not in now],
        annotated=[key for key, digest in now.items() if annotations.get(key, digest) != digest],
    )


def changed_pictures(
    cropper: Cropper, records: Sequence[Sample], then: Pictures, hashes: Mapping[str, str]
) -> list[str]:
    """The keys of those faces whose crop would not be what it was.

    A file of another size is another picture. One of the same size that was written at another time may have been
    copied: its crop is cut again and compared; of more than 500 such files an evenly spaced sample is. What could not
    be read is tried again.

    Args:
        cropper: As it was packed.
        records: Faces of `then`, in the same order.
        then: What their files were.
        hashes: The `crop_hash` of those that could be read, by key.
    """
    facts = facts_of(cropper.reader, records)
    other_size = facts[:, 0] != then.size
    other_time = (facts[:, 1] != then.mtime_ns) & ~other_size
    unread = np.array([record.key not in hashes for record in records], dtype=bool) & ~other_size
    changed = set(np.flatnonzero(other_size).tolist())
    doubtful = np.flatnonzero(other_time & ~unread)
    if len(doubtful) > _CUT_AGAIN:
        log.info(
            "%d pictures have another time than when they were packed: %d are cut again", len(doubtful), _CUT_AGAIN
        )
        doubtful = doubtful[np.linspace(0, len(doubtful) - 1, _CUT_AGAIN).astype(int)]
    for row in [*doubtful.tolist(), *np.flatnonzero(unread).tolist()]:
        if _hash_of(cropper, records[row]) != hashes.get(records[row].key):
            changed.add(row)
    return [records[row].key for row in sorted(changed)]


def changes_since(pack: Pack, cropper: Cropper) -> Changes:
    """List the release and compare each face with what was packed; seconds for 300,000 faces on a local disk.

    Raises:
        EmodetError: The release cannot be read, or the pack is damaged.
    """
    file = pack.folder / PICTURES
    if not file.is_file() or file_sha256(file) != pack.manifest["pictures_sha256"]:
        raise EmodetError(
            f"pack {pack.folder}: {PICTURES} is missing or was changed after it was packed; delete the folder and "
            "prepare it again"
        )
    then = Pictures.from_arrow(pq.read_table(file))
    records = cropper.reader.read().samples
    changes = compared(records, then)
    place = {key: row for row, key in enumerate(then.key)}
    both = [record for record in records if record.key in place]
    rows = [place[record.key] for record in both]
    kept = Pictures([record.key for record in both], then.annotation[rows], then.size[rows], then.mtime_ns[rows])
    hashes = dict(zip(pack.table.key.tolist(), pack.table.pixel_hash.tolist(), strict=True))
    return Changes(changes.new, changes.gone, changes.annotated, changed_pictures(cropper, both, kept, hashes))


def looks_changed(pack: Pack, root: Path) -> bool:
    """Whether a label file or a folder of the release is not as it was when pack and release were last compared."""
    try:
        noted = json.loads((pack.folder / _TRACES).read_text(encoding="utf-8"))
        then = {str(name): (int(size), int(time)) for name, (size, time) in noted.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return True
    return dict(traces_now(root, then)) != then


def write_traces(folder: Path, traces: Traces) -> None:
    """Note in a pack's folder what `looks_changed` compares with.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = folder / f"{_TRACES}.unfinished"
    unfinished.write_text(json.dumps(traces), encoding="utf-8")
    unfinished.replace(folder / _TRACES)


def check_release(pack: Pack, cropper: Cropper, packs: Path, *, thorough: bool) -> Changes:
    """How the release differs from what was packed of it.

    Args:
        pack: Of the release.
        cropper: As it was packed.
        packs: The folder in which packs lie; what changes in it does not count.
        thorough: Look at each face even where label files and folders are as they were. That alone notices a picture,
            or one of very many label files, that was overwritten in place.

    Raises:
        EmodetError: See `changes_since`.
    """
    root = cropper.reader.root
    if not thorough and not looks_changed(pack, root):
        return Changes()
    log.info("comparing %s in %s with what was packed of it", cropper.reader.title, root)
    traces = traces_of(root, packs)
    changes = changes_since(pack, cropper)
    if not changes:
        # The next use need not list it; a pack may be read-only.
        with suppress(OSError):
            write_traces(pack.folder, traces)
    return changes


def _hash_of(cropper: Cropper, record: Sample) -> str | None:
    try:
        return crop_hash(cropper(record)[0])
    except (EmodetError, OSError):
        return None


def _number(keys: Sequence[str]) -> str:
    return f"{len(keys):,} {'face is' if len(keys) == 1 else 'faces are'}"


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (", …" if len(keys) > _NAMED else "")
