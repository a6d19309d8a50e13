"""From a release on disk to a pack: read, decode, crop, write; whole or not at all."""

import errno
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap, write_array_header_1_0
from tqdm import tqdm

from emodet.data.cropping import check_crop, cut, require_croppable
from emodet.data.pack import FORMAT, VERSION, Pack, Table, block_hashes, counts_by_split, fingerprint_of
from emodet.data.records import Listing, Reader, Record
from emodet.data.synthetic_releases import STAMP
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

try:
    import fcntl
except ImportError:  # Windows
    _locking = False
else:
    _locking = True

__all__ = ["pack_folder", "prepare_pack"]

log = logging.getLogger(__name__)

_CHUNK = 64
_FACES_PER_PROCESS = 2000


def pack_folder(reader: Reader, preprocessing: Preprocessing, crop: str, packs: Path) -> Path:
    """Where the pack of a release with these crops lies below `packs`: the name changes with anything that matters."""
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


def prepare_pack(
    reader: Reader,
    preprocessing: Preprocessing,
    packs: Path,
    *,
    crop: str = "image",
    processes: int | None = None,
    max_unreadable: float = 0.01,
    progress: bool = True,
    announce: Callable[[Listing], None] | None = None,
) -> Pack:
    """Make the pack of a release, or open it where it is there already.

    Args:
        reader: The release.
        preprocessing: What a crop is.
        packs: The folder in which packs lie.
        crop: ``image`` takes each stored picture as a face crop, ``box`` cuts at the record's box.
        processes: How many decode at once; by default one per core, but none for less than 2,000 faces, as it takes
            seconds to start.
        max_unreadable: The share of pictures that may be unreadable. Those are listed in the manifest and left out.
        progress: Whether to draw a progress bar on standard error.
        announce: Told what was listed, before the long work.

    Raises:
        EmodetError: The release cannot be read, holds no face, misses boxes that `crop` needs, or has more unreadable
            pictures than allowed; an argument is out of range; or the disk is full. Nothing is left behind. (What a
            killed process had written lies in a folder ``….unfinished`` until the next preparation clears it.)
    """
    check_crop(crop)
    if not 0 <= max_unreadable <= 1:
        raise EmodetError(f"data.max_unreadable={max_unreadable}: a share from 0 to 1 was expected")
    if processes is not None and processes < 1:
        raise EmodetError(f"data.processes={processes}: at least 1 was expected")
    folder = pack_folder(reader, preprocessing, crop, packs)
    if (folder / "manifest.json").is_file():
        return Pack(folder)
    if folder.exists():
        raise EmodetError(f"{folder}: in the place of the pack lies something else (no manifest.json); delete it")
    listing = reader.read()
    if not listing.records:
        raise EmodetError(f"{reader.title} in {reader.root}: no face in it. Left out: {dict(listing.left_out)}")
    if announce is not None:
        announce(listing)
    require_croppable(listing.records, crop, preprocessing, max_unreadable)
    try:
        with _place_to_write(folder) as unfinished:
            # Another process may have been faster; its pack is as good as ours.
            if not (folder / "manifest.json").is_file():
                _write(reader, listing, preprocessing, crop, unfinished, processes, max_unreadable, progress)
                unfinished.rename(folder)
    except OSError as problem:
        raise EmodetError(f"data.packs={packs}: writing the pack failed ({problem}); nothing was kept") from problem
    except BrokenProcessPool:
        raise EmodetError(
            "a process that prepares pictures was killed, perhaps for want of memory; nothing was kept. "
            "Fewer at once need less: data.processes=1"
        ) from None
    return Pack(folder)


@contextmanager
def _place_to_write(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, ours alone, removed at the end unless it was renamed.

    A lock on it makes a second process wait for the first, and tells a folder that is being written from one that a
    killed process left: the kernel gives back a lock with its process.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    lock = _lock(unfinished)
    if lock is None:
        # No locks here (Windows, some network file systems): a name that nobody else has.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{unfinished.name}-", dir=folder.parent))
        unfinished.chmod(0o777 & ~_umask())
    try:
        for left in unfinished.iterdir():
            left.unlink()
        yield unfinished
    finally:
        # Once it has been renamed, the name may already be another process's.
        if lock is None or _is_at(lock, unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder that is made where needed and locked, or None where that cannot be done."""
    while _locking:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process is preparing the same pack; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                folder.rmdir()
            return None
        if _is_at(descriptor, folder):
            return descriptor
        # Whoever held it has renamed or removed it: what we locked is no longer what lies there.
        os.close(descriptor)
    return None


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One piece of work: the rows [start, start + len(records)) of the image file."""

    start: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a worker says of a chunk: a hash per readable row, a reason per unreadable one."""

    start: int
    hashes: tuple[str | None, ...]
    reasons: tuple[str | None, ...]


class _Cutter:
    """The work of one process: decode and crop a chunk's pictures straight into the shared image file."""

    def __init__(self, reader: Reader, preprocessing: Preprocessing, crop: str, file: Path) -> None:
        self.reader, self.preprocessing, self.crop = reader, preprocessing, crop
        self.images: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r+")

    def __call__(self, chunk: _Chunk) -> _Done:
        hashes: list[str | None] = []
        reasons: list[str | None] = []
        for row, record in enumerate(chunk.records, start=chunk.start):
            try:
                face = self._cut(record)
            except (EmodetError, OSError) as problem:
                hashes.append(None)
                reasons.append(str(problem))
                continue
            channels = face[:, :, : self.images.shape[3]]
            self.images[row] = channels
            hashes.append(hashlib.blake2b(channels.tobytes(), digest_size=12).hexdigest())
            reasons.append(None)
        return _Done(chunk.start, tuple(hashes), tuple(reasons))

    def _cut(self, record: Record) -> npt.NDArray[np.uint8]:
        # With a box the picture's own pixels are needed; without one a JPEG may be decoded smaller.
        least = 2 * self.preprocessing.size if self.crop == "image" else None
        image = decode_rgb(self.reader.encoded(record), name=record.key, least_side=least)
        return cut(image, record, self.crop, self.preprocessing)


_cutter: _Cutter | None = None


def _start_worker(reader: Reader, preprocessing: Preprocessing, crop: str, file: Path) -> None:
    global _cutter
    # Ctrl-C reaches every process of a terminal; the parent's answer to it is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _cutter = _Cutter(reader, preprocessing, crop, file)


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _cut_chunk(chunk: _Chunk) -> _Done:
    if _cutter is None:
        raise RuntimeError("the worker was not started")
    return _cutter(chunk)


def _write(
    reader: Reader,
    listing: Listing,
    preprocessing: Preprocessing,
    crop: str,
    folder: Path,
    processes: int | None,
    max_unreadable: float,
    progress: bool,
) -> None:
    records = listing.records
    file = folder / "images-00000.npy"
    size, channels = preprocessing.size, 1 if preprocessing.colour == "grey" else 3
    images = open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(records), size, size, channels))
    _reserve(file, images.offset)
    hashes: list[str | None] = [None] * len(records)
    unreadable: list[dict[str, str]] = []
    allowed = max_unreadable * len(records) + 1e-6
    with (
        tqdm(total=len(records), unit="face", desc=f"packing {reader.title}", disable=not progress) as bar,
        closing(_work(reader, records, preprocessing, crop, file, processes)) as work,
    ):
        for done in work:
            hashes[done.start : done.start + len(done.hashes)] = done.hashes
            for offset, reason in enumerate(done.reasons):
                if reason is not None:
                    unreadable.append({"key": records[done.start + offset].key, "reason": reason})
            if len(unreadable) > allowed:
                raise EmodetError(_too_many(unreadable, len(records), max_unreadable))
            bar.update(len(done.hashes))
    readable = [row for row, pixel_hash in enumerate(hashes) if pixel_hash is not None]
    if not readable:
        raise EmodetError(_too_many(unreadable, len(records), max_unreadable))
    images.flush()
    if len(readable) < len(records):
        _without_gaps(images, readable, file)
    table = _table([records[row] for row in readable], [str(hashes[row]) for row in readable])
    _write_manifest(reader, listing, preprocessing, crop, folder, table, unreadable)


def _reserve(file: Path, start: int) -> None:
    """Ask for the room of a whole file of zeros at once.

    So a full disk is an error here, not a killed process when a mapped page finds no room later.
    """
    end = file.stat().st_size
    with file.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, end)
            except OSError as problem:
                if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
            else:
                return
        stream.seek(start)
        for position in range(start, end, 2**24):
            stream.write(bytes(min(2**24, end - position)))


def _work(
    reader: Reader,
    records: Sequence[Record],
    preprocessing: Preprocessing,
    crop: str,
    file: Path,
    processes: int | None,
) -> Generator[_Done, None, None]:
    chunks = [_Chunk(start, tuple(records[start : start + _CHUNK])) for start in range(0, len(records), _CHUNK)]
    count = min(processes or max(1, min(_cores(), len(records) // _FACES_PER_PROCESS)), len(chunks))
    if count <= 1:
        cutter = _Cutter(reader, preprocessing, crop, file)
        yield from map(cutter, chunks)
        return
    # Fork would copy the threads of whatever library the caller has loaded in an unknown state.
    context = multiprocessing.get_context("spawn")
    arguments = (reader, preprocessing, crop, file)
    with ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=arguments) as pool:
        # A bounded number of chunks under way: records of a large release are not all pickled at once.
        waiting = iter(chunks)
        running = deque(pool.submit(_cut_chunk, chunk) for chunk in islice(waiting, 4 * count))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(_cut_chunk, chunk) for chunk in islice(waiting, 1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _too_many(unreadable: Sequence[Mapping[str, str]], total: int, allowed: float) -> str:
    shown = "\n".join(f"  {entry['key']}: {entry['reason']}" for entry in unreadable[:10])
    share = "none" if allowed == 1 else f"more than {allowed:.1%}"
    verb = "can" if allowed == 1 else "cannot"
    return (
        f"{share} of the {total} pictures {verb} be read (data.max_unreadable={allowed:g}). First ones:\n{shown}\n"
        "Put the files right, or raise data.max_unreadable, the share that may be left out"
    )


def _without_gaps(images: npt.NDArray[np.uint8], rows: Sequence[int], file: Path) -> None:
    """Replace the image file by one with the given rows only."""
    closed = file.with_suffix(".closed.npy")
    # Written, not mapped: a full disk is then an error.
    with closed.open("wb") as stream:
        write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
        )
        for start in range(0, len(rows), 1024):
            stream.write(images[rows[start : start + 1024]].tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    closed.replace(file)


def _table(records: Sequence[Record], hashes: Sequence[str]) -> Table:
    def number(value: float | None) -> float:
        return np.nan if value is None else value

    blank = (np.nan,) * len(EMOTIONS)
    return Table(
        key=np.array([record.key for record in records], dtype=np.str_),
        split=np.array([record.split for record in records], dtype=np.str_),
        emotion=np.array([-1 if record.emotion is None else record.emotion for record in records], dtype=np.int64),
        soft_label=np.array([record.soft_label or blank for record in records], np.float32).reshape(-1, len(EMOTIONS)),
        valence=np.array([number(record.valence) for record in records], dtype=np.float32),
        arousal=np.array([number(record.arousal) for record in records], dtype=np.float32),
        subject=np.array([record.subject or "" for record in records], dtype=np.str_),
        pixel_hash=np.array(hashes, dtype=np.str_),
    )


def _write_manifest(
    reader: Reader,
    listing: Listing,
    preprocessing: Preprocessing,
    crop: str,
    folder: Path,
    table: Table,
    unreadable: Sequence[Mapping[str, str]],
) -> None:
    table_file = folder / "table.parquet"
    pq.write_table(table.to_arrow(), table_file)
    with table_file.open("rb") as stream:
        table_sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    image_file = folder / "images-00000.npy"
    shards = [{"file": image_file.name, "faces": len(table), "blocks": list(block_hashes(image_file))}]
    splits_of: dict[str, set[str]] = defaultdict(set)
    for pixel_hash, split in zip(table.pixel_hash.tolist(), table.split.tolist(), strict=True):
        splits_of[pixel_hash].add(split)
    across = {pixel_hash for pixel_hash, splits in splits_of.items() if len(splits) > 1}
    drawn = (reader.root / STAMP).is_file()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "reader": reader.name,
        "title": f"drawn faces, as {reader.title}" if drawn else reader.title,
        "options": reader.options(),
        "redistributable": drawn or reader.redistributable,
        "crop": crop,
        "preprocessing": preprocessing.to_dict(),
        "counts": counts_by_split(table),
        "expected": {split: dict(counts) for split, counts in reader.expected.items()},
        "left_out": dict(listing.left_out),
        "notes": list(listing.notes),
        "unreadable": list(unreadable),
        "identical_across_splits": {
            "groups": len(across),
            "faces": int(np.isin(table.pixel_hash, list(across)).sum()) if across else 0,
        },
        "shards": shards,
        "table_sha256": table_sha256,
        "fingerprint": fingerprint_of(table, shards, preprocessing),
        "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    unfinished = folder / "manifest.json.unfinished"
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.rename(folder / "manifest.json")
