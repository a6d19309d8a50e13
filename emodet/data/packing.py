"""Make a pack: decode and crop the pictures of a release once, at training size.

A pool of processes writes chunks of crops into one ``.npy`` file; a journal lists the finished chunks, so that an
interrupted packing continues where it stopped. The manifest is written last.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap, write_array_header_1_0
from PIL import features
from tqdm import tqdm

from emodet.data.crop_pool import (
    UNGUARDED,
    Cropper,
    CropPool,
    CropResult,
    check_crop,
    require_croppable,
    require_main_guard,
)
from emodet.data.detection import detection_facts
from emodet.data.pack import (
    FORMAT,
    IMAGES,
    MANIFEST,
    TABLE,
    VERSION,
    Pack,
    Table,
    counts_by_split,
    crop_hash,
    fingerprint_of,
    table_of,
)
from emodet.data.release import ReleaseState, about_release, release_state
from emodet.datasets.samples import Listing, Reader
from emodet.errors import EmodetError
from emodet.files import sha256_of, write_atomically
from emodet.preprocessing import Preprocessing

__all__ = ["Packing", "pack_folder", "prepare_pack"]

log = logging.getLogger(__name__)

_CHUNK = 64
_NAMED = 10
_JOURNAL = "journal.jsonl"


def pack_folder(reader: Reader, preprocessing: Preprocessing, crop: str, packs: Path) -> Path:
    """Folder of the pack below `packs`; its name depends on the release, the reader's options and the crops."""
    identity = {
        "version": VERSION,
        "reader": reader.name,
        "root": str(reader.root.resolve()),
        "options": reader.options(),
        "preprocessing": preprocessing.fingerprint(),
        "crop": crop,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    return packs / f"{reader.name}-{preprocessing.size}px-{digest[:12]}"


def prepare_pack(reader: Reader, preprocessing: Preprocessing, packs: Path, **options: Any) -> Pack:
    """Make the pack of a release, or open it if it exists; `options` are those of `Packing`."""
    return Packing(reader, preprocessing, packs, **options).run()


@dataclass(frozen=True)
class Packing:
    """How a release is packed.

    Attributes:
        reader: The release.
        preprocessing: Geometry and colour of a crop.
        packs: The folder of all packs.
        crop: ``image`` takes each stored picture as a face crop, ``box`` cuts at the sample's box, ``detect`` at the
            face that a detector finds.
        processes: How many decode in parallel; None takes one per core, or none for fewer than 2,000 faces.
        max_unreadable: The share of pictures that may be unreadable. They are listed in the manifest and left out.
        progress: Whether to draw a progress bar on standard error.
        announce: Called with the listing before the long work.

    Raises:
        EmodetError: A value is out of its range.
    """

    reader: Reader
    preprocessing: Preprocessing
    packs: Path
    crop: str = "image"
    processes: int | None = None
    max_unreadable: float = 0.01
    progress: bool = True
    announce: Callable[[Listing], None] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_crop(self.crop)
        if not 0 <= self.max_unreadable <= 1:
            raise EmodetError(f"data.max_unreadable={self.max_unreadable}: a share from 0 to 1 was expected")
        if self.processes is not None and self.processes < 1:
            raise EmodetError(f"data.processes={self.processes}: at least 1 was expected")

    @property
    def folder(self) -> Path:
        """The pack's folder."""
        return pack_folder(self.reader, self.preprocessing, self.crop, self.packs)

    def exists(self) -> bool:
        """Whether the pack is there."""
        return (self.folder / MANIFEST).is_file()

    def run(self) -> Pack:
        """Make the pack, or open it if it exists.

        Raises:
            EmodetError: The release cannot be read, has no face, lacks boxes that `crop` needs, has more unreadable
                pictures than allowed, or changed while it was packed; or the disk is full. Finished chunks are kept.
        """
        folder = self.folder
        if not self.exists():
            require_main_guard()
            if folder.exists():
                raise EmodetError(f"{folder}: the pack's folder holds something else (no {MANIFEST}); delete it")
            try:
                self.packs.mkdir(parents=True, exist_ok=True)
                with self._locked() as lock:
                    if not self.exists():  # another process may have made it in the meantime
                        self._make()
                    # Whoever still waits for this lock finds the pack.
                    lock.unlink(missing_ok=True)
            except OSError as problem:
                raise EmodetError(
                    f"data.packs={self.packs}: writing the pack failed ({problem}). Finished faces are kept: make "
                    "room or name another folder, and run it again"
                ) from problem
            except BrokenProcessPool:
                raise EmodetError(
                    f"a process that prepares pictures ended unexpectedly. Either {UNGUARDED}; or it was killed (out "
                    "of memory?): finished faces are kept, run it again with data.processes=1 to need less memory"
                ) from None
        return Pack(folder)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        lock = FileLock(self.packs / f".{self.folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process prepares %s; waiting for it", self.folder)
            lock.acquire()
        try:
            yield Path(lock.lock_file)
        finally:
            lock.release()

    def _make(self) -> None:
        listing = self.reader.read()
        if not listing.samples:
            raise EmodetError(
                f"{self.reader.title} in {self.reader.root}: no face found. Left out: {dict(listing.left_out)}"
            )
        if self.announce is not None:
            self.announce(listing)
        require_croppable(listing.samples, self.crop, self.preprocessing, self.max_unreadable)
        state = release_state(self.reader, listing.samples, self.packs)
        work = _Work(self, listing, self.folder.with_name(f"{self.folder.name}.unfinished"), state)
        results = work.crop_all()
        if release_state(self.reader, listing.samples, self.packs) != state:
            raise EmodetError(f"{self.reader.root}: the release changed while it was packed; prepare it again")
        work.finish(results)
        work.folder.rename(self.folder)


@dataclass(frozen=True, slots=True)
class _Work:
    """A pack in the making: crops of all listed faces, and the journal of the chunks that are done."""

    packing: Packing
    listing: Listing
    folder: Path
    state: ReleaseState

    def crop_all(self) -> list[CropResult]:
        """Crop every face that the journal does not list yet; the results of all chunks in order."""
        packing, samples = self.packing, self.listing.samples
        cropper = Cropper(packing.reader, packing.preprocessing, packing.crop)
        done = self._resume(cropper)
        start = sum(len(result.hashes) for result in done)
        bar = tqdm(
            total=len(samples),
            initial=start,
            unit="face",
            desc=f"packing {packing.reader.title}",
            disable=not packing.progress,
        )
        pool = CropPool(cropper, packing.processes, len(samples) - start)
        with bar, pool, (self.folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            chunks = [(at, samples[at : at + _CHUNK]) for at in range(start, len(samples), _CHUNK)]
            for result in pool.crop(self.folder / IMAGES, chunks):
                journal.write(json.dumps(astuple(result)) + "\n")
                journal.flush()
                done.append(result)
                self._require_readable(done)
                bar.update(len(result.hashes))
        self._require_readable(done)
        return done

    def _resume(self, cropper: Cropper) -> list[CropResult]:
        """Results of the chunks whose crops an earlier run wrote for the same listing; prepares the files."""
        header = json.dumps([VERSION, self.state, _libraries(), len(self.listing.samples)])
        done: list[CropResult] = []
        journal = self.folder / _JOURNAL
        try:
            lines = journal.read_text(encoding="utf-8").split("\n")
            if lines[0] == header:
                crops = np.load(self.folder / IMAGES, mmap_mode="r", allow_pickle=False)
                for line in lines[1:-1]:
                    result = CropResult(*map(tuple, json.loads(line)))
                    start = len(done) * _CHUNK
                    if any(
                        crop_hash(crops[start + row]) != digest for row, digest in enumerate(result.hashes) if digest
                    ):
                        break
                    done.append(result)
        except (OSError, ValueError, TypeError, IndexError):
            done = []  # nothing, or nothing complete
        if not done:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self._create_images(cropper)
        text = "".join(json.dumps(astuple(result)) + "\n" for result in done)
        write_atomically(journal, f"{header}\n{text}")
        return done

    def _create_images(self, cropper: Cropper) -> None:
        size = self.packing.preprocessing.size
        shape = (len(self.listing.samples), size, size, cropper.channels)
        needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(self.folder).free
        if needed > free:
            raise EmodetError(
                f"data.packs={self.packing.packs}: the crops need {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. "
                "Make room, or name another folder"
            )
        open_memmap(self.folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape)

    def _require_readable(self, results: Sequence[CropResult]) -> None:
        unreadable, total, allowed = self._unreadable(results), len(self.listing.samples), self.packing.max_unreadable
        if len(unreadable) <= allowed * total + 1e-6 and len(unreadable) < total:
            return
        shown = "\n".join(f"  {entry['key']}: {entry['reason']}" for entry in unreadable[:_NAMED])
        share, verb = ("none", "can") if allowed == 1 else (f"more than {allowed:.1%}", "cannot")
        raise EmodetError(
            f"{share} of the {total} pictures {verb} be read (data.max_unreadable={allowed:g}). First ones:\n{shown}\n"
            "Repair the files, or raise data.max_unreadable, the share that may be left out"
        )

    def _unreadable(self, results: Sequence[CropResult]) -> list[dict[str, str]]:
        reasons = [reason for result in results for reason in result.reasons]
        pairs = zip(self.listing.samples, reasons, strict=False)
        return [{"key": sample.key, "reason": reason} for sample, reason in pairs if reason is not None]

    def finish(self, results: Sequence[CropResult]) -> None:
        """Close the gaps of unreadable pictures; write the table and the manifest."""
        hashes = [digest for result in results for digest in result.hashes]
        rows = [row for row, digest in enumerate(hashes) if digest is not None]
        if not rows:
            raise EmodetError(
                f"data.crop=detect: no face was found in any of {len(hashes):,} pictures in "
                f"{self.packing.reader.root}; use data.crop=image if they are face crops"
            )
        if len(rows) < len(hashes):
            _keep_rows(self.folder / IMAGES, rows)
        samples, names = self.listing.samples, self.listing.class_names
        table = table_of([samples[row] for row in rows], [str(hashes[row]) for row in rows], len(names))
        pq.write_table(table.to_arrow(), self.folder / TABLE)
        manifest = json.dumps(self._manifest(table, results), indent=2)
        for name in (IMAGES, TABLE):
            with (self.folder / name).open("rb") as stream:
                os.fsync(stream.fileno())
        write_atomically(self.folder / MANIFEST, manifest)
        (self.folder / _JOURNAL).unlink()

    def _manifest(self, table: Table, results: Sequence[CropResult]) -> dict[str, Any]:
        unreadable, found = self._unreadable(results), [count for result in results for count in result.found]
        packing, reader, names = self.packing, self.packing.reader, self.listing.class_names
        about = about_release(reader.root)
        return {
            "format": FORMAT,
            "version": VERSION,
            "reader": reader.name,
            "title": f"{about['title']}, as {reader.title}" if "title" in about else reader.title,
            "options": reader.options(),
            "redistributable": bool(about.get("redistributable", reader.redistributable)),
            "crop": packing.crop,
            "preprocessing": packing.preprocessing.to_dict(),
            "faces": len(table),
            "class_names": list(names),
            "counts": counts_by_split(table, names),
            "expected": {split: dict(counts) for split, counts in reader.expected.items()},
            "left_out": dict(self.listing.left_out),
            "notes": list(self.listing.notes),
            "unreadable": list(unreadable),
            **({"detection": detection_facts(self.listing.samples, found)} if packing.crop == "detect" else {}),
            "identical_across_splits": _across_splits(table),
            "table_sha256": sha256_of(self.folder / TABLE),
            "release": self.state._asdict(),
            "fingerprint": fingerprint_of(table, packing.preprocessing, names),
            "made_with": _libraries(),
            "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _keep_rows(file: Path, rows: Sequence[int]) -> None:
    """Shorten an ``.npy`` file to these rows, which rise."""
    crops = np.load(file, mmap_mode="r+")
    kept = (len(rows), *crops.shape[1:])
    end = int(crops.offset) + int(np.prod(kept, dtype=np.int64))
    for start in range(0, len(rows), _CHUNK):
        block = rows[start : start + _CHUNK]
        crops[start : start + len(block)] = crops[block]
    crops.flush()
    del crops
    with file.open("r+b") as stream:
        # The header is padded to one length for any number of rows.
        write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": kept})
        stream.truncate(end)


def _across_splits(table: Table) -> dict[str, int]:
    pairs = pa.table({"picture": table.pixel_hash.tolist(), "split": table.split.tolist()})
    pictures = pairs.group_by("picture").aggregate([("split", "count_distinct"), ("split", "count")])
    across = pictures.column("split_count_distinct").to_numpy() > 1
    return {"groups": int(across.sum()), "faces": int(pictures.column("split_count").to_numpy()[across].sum())}


def _libraries() -> dict[str, str]:
    """Libraries that decide a crop's pixels."""
    return {"Pillow": PIL.__version__, "libjpeg": str(features.version("jpg") or ""), "OpenCV": cv2.__version__}
