"""Packing: decode and crop the pictures of a release once, at training size; detect changes of the release.

A pool of processes writes chunks of crops into one ``.npy`` file; a journal lists the finished chunks, so that an
interrupted packing continues where it stopped. The manifest is written last.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
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

from emodet.data import crop_pool
from emodet.data.pack import FORMAT, IMAGES, MANIFEST, TABLE, VERSION, Pack, Table, crop_hash, table_of
from emodet.datasets.folders import is_picture
from emodet.datasets.listed_pictures import in_threads
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.datasets.summary import listing_summary, outcome
from emodet.errors import EmodetError, os_errors
from emodet.files import atomic_path, sha256_of, write_atomically
from emodet.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_CHUNK = 64
_NAMED = 10
_JOURNAL = "journal.jsonl"
_MOST_LABELS = 100
_OF_ONES_OWN = ("class_folders", "own_csv")

Report = Callable[[str], object]  # logs or prints a text


@dataclass(frozen=True)
class Packing:
    """The pack of a release, which may not exist yet.

    Attributes:
        reader: Reader of the release.
        preprocessing: Definition of crops.
        packs: Folder of all packs.
        crop: See `emodet.data.sources.Source`; likewise the following.
        progress: Whether to show a progress bar.

    Raises:
        EmodetError: The release cannot be read, has no faces, lacks boxes that `crop` needs, has too many unreadable
            pictures, or changed during packing; or the disk is full. Finished chunks are kept.
    """

    reader: Reader
    preprocessing: Preprocessing
    packs: Path
    crop: str = "image"
    processes: int | None = None
    max_unreadable: float = 0.01
    progress: bool = True

    @cached_property
    def folder(self) -> Path:
        """Folder of the pack, whose name depends on the release, the reader's options and the crops."""
        identity = {
            "version": VERSION,
            "reader": self.reader.name,
            "root": str(self.reader.root.resolve()),
            "options": self.reader.options(),
            "preprocessing": self.preprocessing.fingerprint(),
            "crop": self.crop,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        return self.packs / f"{self.reader.name}-{self.preprocessing.size}px-{digest[:12]}"

    @property
    def is_made(self) -> bool:
        """Whether the pack exists."""
        return (self.folder / MANIFEST).is_file()

    def read(self, report: Report = log.info) -> Listing:
        """List and report the faces without opening pictures; raises `EmodetError` if they lack what `crop` needs."""
        listing = self.reader.read()
        report(f"{listing_summary(self.reader, listing)}\n")
        crop_pool.require_croppable(listing.samples, self.crop, self.preprocessing, self.max_unreadable)
        return listing

    def make(self, report: Report = log.info) -> Pack:
        """Make the pack if it does not exist, and open it.

        Reports the listing before packing and a summary afterwards. Unreadable pictures are left out and listed in the
        manifest.
        """
        if self.is_made:
            return Pack(self.folder)
        crop_pool.require_main_guard()
        way_out = ". Finished faces are kept: make room or name another folder, and run it again"
        with os_errors(f"data.packs={self.packs}: writing the pack failed", way_out):
            self.packs.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.packs / f".{self.folder.name}.lock")
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                log.info("another process prepares %s; waiting for it", self.folder)
                held = lock.acquire()
            with held:
                if not self.is_made:  # another process may have made it in the meantime
                    self._make(report)
                with suppress(PermissionError):  # Windows cannot delete an open file
                    Path(lock.lock_file).unlink(missing_ok=True)  # processes that wait for this lock find the pack
        return Pack(self.folder)

    def _make(self, report: Report) -> None:
        if self.folder.exists():
            raise EmodetError(f"{self.folder}: the folder exists but is not a pack (no {MANIFEST}); delete it")
        log.info("preparing %s from %s (once; later runs open the pack)", self.reader.full_title, self.reader.root)
        listing = self.read(report)
        samples, work = listing.samples, self.folder.with_name(f"{self.folder.name}.unfinished")
        if self.crop == "image" and self.reader.name in _OF_ONES_OWN:
            crop_pool.warn_of_photographs(self.reader, samples, self.preprocessing.size)
        cropper = crop_pool.Cropper(self.reader, self.preprocessing, self.crop, work / IMAGES)
        state = self.state(samples)
        done = _resume(work, state, cropper.shape(len(samples)))
        title = f"packing {self.reader.full_title}"
        bar = tqdm(total=len(samples), initial=len(done), unit="face", desc=title, disable=not self.progress)
        chunks = [(at, samples[at : at + _CHUNK]) for at in range(len(done), len(samples), _CHUNK)]
        with (
            bar,
            closing(crop_pool.crop_chunks(cropper, chunks, self.processes)) as results,
            (work / _JOURNAL).open("a", encoding="utf-8") as journal,
        ):
            for chunk in results:
                journal.write(json.dumps(chunk) + "\n")
                journal.flush()
                done += chunk
                if any(result.reason for result in chunk):
                    self._require_readable(samples, done)
                bar.update(len(chunk))
        self._require_readable(samples, done)
        if self.state(samples) != state:
            raise EmodetError(f"{self.reader.root}: the release changed during packing; prepare it again")
        manifest = self._finish(work, listing, done, state)
        work.rename(self.folder)
        report(outcome(manifest))

    def _require_readable(self, samples: Sequence[Sample], results: Sequence[crop_pool.CropResult]) -> None:
        unreadable, total, allowed = _unreadable(samples, results), len(samples), self.max_unreadable
        if len(unreadable) <= allowed * total + 1e-6 and len(unreadable) < total:
            return
        shown = "\n".join(f"  {entry['key']}: {entry['reason']}" for entry in unreadable[:_NAMED])
        share, verb = ("none", "can") if allowed == 1 else (f"more than {allowed:.1%}", "cannot")
        raise EmodetError(
            f"{share} of the {total} pictures {verb} be read (data.max_unreadable={allowed:g}). First ones:\n{shown}\n"
            "Repair the files, or raise data.max_unreadable, the share that may be left out"
        )

    def _finish(
        self, work: Path, listing: Listing, results: Sequence[crop_pool.CropResult], state: dict[str, str]
    ) -> dict[str, Any]:
        """Remove the crops of unreadable pictures; write the table and the manifest; return the manifest."""
        rows = [row for row, result in enumerate(results) if result.hash is not None]
        if not rows:
            raise EmodetError(
                f"data.crop=detect: no face was found in any of {len(results):,} pictures in {self.reader.root}; use "
                "data.crop=image if they are face crops"
            )
        samples, names = listing.samples, listing.class_names
        table = table_of([samples[row] for row in rows], [str(results[row].hash) for row in rows], len(names))
        pq.write_table(table.to_arrow(), work / TABLE)
        facts = crop_pool.detection_facts
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "reader": self.reader.name,
            "title": self.reader.full_title,
            "options": self.reader.options(),
            "redistributable": bool(self.reader.about().get("redistributable")),
            "crop": self.crop,
            "preprocessing": self.preprocessing.to_dict(),
            "faces": len(table),
            "class_names": list(names),
            "counts": table.counts(names),
            "expected": {split: dict(counts) for split, counts in self.reader.expected.items()},
            "left_out": dict(listing.left_out),
            "notes": list(listing.notes),
            "unreadable": _unreadable(samples, results),
            **({"detection": facts(samples, results)} if self.crop == "detect" else {}),
            "identical_across_splits": _across_splits(table),
            "table_sha256": sha256_of(work / TABLE),
            "fingerprint": table.fingerprint(self.preprocessing, names),
            "made_with": _libraries(),
            "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "release": state,
        }
        if len(rows) < len(results):  # last, so that an earlier failure can be resumed with all crops in place
            _keep_rows(work / IMAGES, rows)
        for name in (IMAGES, TABLE):
            with (work / name).open("r+b") as stream:  # Windows can sync only files that are open for writing
                os.fsync(stream.fileno())
        write_atomically(work / MANIFEST, json.dumps(manifest, indent=2))
        (work / _JOURNAL).unlink()
        return manifest

    def state(self, samples: Sequence[Sample]) -> dict[str, str]:
        """Return digests of the release with these samples, for detecting changes.

        Returns:
            ``listing``: digest of keys and annotations of all samples; ``files``: of path, size and modification time
            of their files; ``label_files``: see `label_files_state`.
        """
        listing, files, root = hashlib.sha256(), hashlib.sha256(), self.reader.root
        for s in samples:
            known = (s.key, s.split, s.emotion, s.soft_label, s.valence, s.arousal, s.box, s.landmarks, s.subject)
            listing.update(repr(known).encode())
        # Text, in the order of `Path`s: to sort and resolve these takes four times as long.
        names = {str(self.reader.file_of(sample)) for sample in samples}
        paths = sorted(names, key=lambda path: path.replace(os.sep, "\0"))
        resolved, below = str(root.resolve()), str(root / "x")[:-1]
        for path, found in zip(paths, in_threads(_facts_of, paths), strict=True):
            inside = path.startswith(below)
            place = os.path.join(resolved, path[len(below) :]) if inside else path  # noqa: PTH118
            files.update(repr((resolved if path == str(root) else place, found)).encode())
        label_files = label_files_state(root, self.packs)
        return {"listing": listing.hexdigest(), "files": files.hexdigest(), "label_files": label_files}


def _resume(folder: Path, state: dict[str, str], shape: tuple[int, ...]) -> list[crop_pool.CropResult]:
    """Prepare the files for `shape` crops; return the results of chunks that a run finished for the same listing."""
    header = json.dumps([VERSION, state, _libraries(), shape[0]])
    done: list[crop_pool.CropResult] = []
    kept, journal = "", folder / _JOURNAL
    try:
        lines = journal.read_text(encoding="utf-8").split("\n")
        crops = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        if lines[0] == header and crops.shape == shape:  # another shape: stopped after `_keep_rows`
            for line in lines[1:-1]:
                chunk = [crop_pool.CropResult(*result) for result in json.loads(line)]
                if any(it.hash and crop_hash(crops[row]) != it.hash for row, it in enumerate(chunk, len(done))):
                    break
                done, kept = done + chunk, f"{kept}{line}\n"
    except (OSError, ValueError, TypeError, IndexError):
        done, kept = [], ""  # nothing, or nothing complete
    if not done:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape)
    write_atomically(journal, f"{header}\n{kept}")
    return done


def _unreadable(samples: Sequence[Sample], results: Sequence[crop_pool.CropResult]) -> list[dict[str, str]]:
    pairs = zip(samples, results, strict=False)
    return [{"key": sample.key, "reason": result.reason} for sample, result in pairs if result.reason is not None]


def _keep_rows(file: Path, rows: Sequence[int]) -> None:
    """Reduce an ``.npy`` file to these ascending rows."""
    crops = np.load(file, mmap_mode="r")
    with atomic_path(file) as shorter, shorter.open("wb") as stream:
        shape = (len(rows), *crops.shape[1:])
        write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(rows), _CHUNK):
            stream.write(crops[rows[start : start + _CHUNK]].data)
        del crops  # Windows cannot replace a mapped file


def _across_splits(table: Table) -> dict[str, int]:
    """Count groups of identical crops in several splits, and the faces in them."""
    pairs = pa.table({"picture": table.pixel_hash.tolist(), "split": table.split.tolist()})
    pictures = pairs.group_by("picture").aggregate([("split", "count_distinct"), ("split", "count")])
    across = pictures.column("split_count_distinct").to_numpy() > 1
    return {"groups": int(across.sum()), "faces": int(pictures.column("split_count").to_numpy()[across].sum())}


def _libraries() -> dict[str, str]:
    """Return the versions of the libraries that determine the pixels of crops."""
    return {"Pillow": PIL.__version__, "libjpeg": str(features.version("jpg") or ""), "OpenCV": cv2.__version__}


def label_files_state(root: Path, packs: Path) -> str:
    """Return a digest of a release's label files and the modification times of its folders.

    It is fast enough for each start and detects most changes, but not overwritten pictures, nor changed label files in
    folders with more than a hundred of them. Hidden files and `packs` are ignored.
    """
    # Resolved, so that relative paths, absolute paths and links have the same digest.
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


def _facts_of(path: Path | str) -> tuple[int, int]:
    """Return size in bytes and modification time in nanoseconds, or (-1, 0) for an inaccessible file."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns
