"""From finished parts to a pack: their files under one name, one table, one manifest."""

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emodet.data.changes import write_traces
from emodet.data.pack import FORMAT, MANIFEST, TABLE, VERSION, Table, counts_by_split, file_sha256, fingerprint_of
from emodet.data.parts import PICTURES, Part
from emodet.datasets.samples import Listing, Reader
from emodet.data.release_state import Traces
from emodet.synthetic.releases import STAMP

__all__ = ["assemble"]

log = logging.getLogger(__name__)


def assemble(parts: Sequence[Part], reader: Reader, listing: Listing, traces: Traces, folder: Path) -> None:
    """Write a pack, the manifest last.

    Args:
        parts: Of every face, in order.
        reader: Of the release.
        listing: What was packed.
        traces: Of the release, to notice later changes by.
        folder: An empty one, on the file system of the parts: their image files are linked into it, and copied only
            where a file system knows no links.

    Raises:
        OSError: It cannot be written.
    """
    shards: list[dict[str, str | int]] = []
    for part in parts:
        if part.faces:
            name = f"images-{len(shards):05d}.npy"
            _link(part.images, folder / name)
            shards.append({"file": name, "faces": part.faces})
    table = Table.from_arrow(pa.concat_tables(part.table for part in parts if part.faces))
    pq.write_table(table.to_arrow(), folder / TABLE)
    pq.write_table(pa.concat_tables(part.pictures.to_arrow() for part in parts), folder / PICTURES)
    write_traces(folder, traces)
    work = parts[0].work
    drawn = (reader.root / STAMP).is_file()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "reader": reader.name,
        "title": f"drawn faces, as {reader.title}" if drawn else reader.title,
        "options": reader.options(),
        "redistributable": drawn or reader.redistributable,
        "crop": work.crop,
        "preprocessing": work.preprocessing.to_dict(),
        "counts": counts_by_split(table),
        "expected": {split: dict(counts) for split, counts in reader.expected.items()},
        "left_out": dict(listing.left_out),
        "notes": [*listing.notes, *_notes(parts)],
        "unreadable": [entry for part in parts for entry in part.unreadable],
        "identical_across_splits": _across_splits(table),
        "shards": shards,
        "table_sha256": file_sha256(folder / TABLE),
        "pictures_sha256": file_sha256(folder / PICTURES),
        "fingerprint": fingerprint_of(table, work.preprocessing),
        "made_with": parts[0].facts["made_with"],
        "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    unfinished = folder / f"{MANIFEST}.unfinished"
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.rename(folder / MANIFEST)


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except (OSError, NotImplementedError):
        shutil.copyfile(file, link)


def _notes(parts: Sequence[Part]) -> list[str]:
    made_with = {json.dumps(part.facts["made_with"], sort_keys=True): part.facts["shard"] for part in parts}
    if len(made_with) == 1:
        return []
    each = "; ".join(f"shard {shard} {_in_words(json.loads(text))}" for text, shard in made_with.items())
    note = f"Its shards were cut with different libraries ({each}), so crops may differ by a grey level."
    log.warning("%s", note)
    return [note]


def _in_words(made_with: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in made_with.items())


def _across_splits(table: Table) -> dict[str, int]:
    pairs = pa.table({"picture": table.pixel_hash.tolist(), "split": table.split.tolist()})
    pictures = pairs.group_by("picture").aggregate([("split", "count_distinct"), ("split", "count")])
    across = pictures.column("split_count_distinct").to_numpy() > 1
    return {"groups": int(across.sum()), "faces": int(pictures.column("split_count").to_numpy()[across].sum())}
