"""Pictures to crops, over several processes: read, decode, cut and write into one image file."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from emodet.data.cropping import cut
from emodet.data.image_file import ImageFile
from emodet.data.pack import crop_hash
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

__all__ = ["ABSENT", "Cropper", "CropPool", "Outcome", "file_facts"]

ABSENT = (-1, 0)
"""What `file_facts` says of a file that cannot be looked at."""

_CHUNK = 64
_FACES_PER_PROCESS = 2000


def file_facts(file: Path) -> tuple[int, int]:
    """By what a change of a file is noticed: its size in bytes and when it was written, in nanoseconds."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return ABSENT
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of consecutive rows of an image file; the rows of unreadable pictures are left blank.

    Attributes:
        start: The first row.
        hashes: A `crop_hash` for each row, None where the picture is unreadable.
        reasons: Why it is; None where it is readable.
        facts: `file_facts` of each picture's file when it was read.
    """

    start: int
    hashes: tuple[str | None, ...]
    reasons: tuple[str | None, ...]
    facts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cropper:
    """From a record to its crop: the reader's bytes, decoded and cut by the one definition.

    Attributes:
        reader: Of the release.
        preprocessing: What a crop is.
        crop: ``image`` or ``box``.
    """

    reader: Reader
    preprocessing: Preprocessing
    crop: str

    @property
    def channels(self) -> int:
        """Of a stored crop."""
        return 1 if self.preprocessing.colour == "grey" else 3

    def __call__(self, record: Sample) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """Cut one face.

        Returns:
            uint8 (size, size, 3), RGB, or (size, size, 1) where crops are grey; and `file_facts` of the picture's file.

        Raises:
            EmodetError: The picture is none, is damaged, or was changed while it was read; or the crop cannot be cut.
            OSError: Its file cannot be read.
        """
        file = self.reader.file_of(record)
        facts = file_facts(file)
        data = self.reader.encoded(record)
        if file_facts(file) != facts:
            raise EmodetError(f"{record.key}: {file.name} was changed while it was read")
        # A box is in the picture's own pixels; without one a JPEG is decoded no larger than is needed.
        least = self.preprocessing.size if self.crop == "image" else None
        image = decode_rgb(data, name=record.key, least_side=least, quick=True)
        return cut(image, record, self.crop, self.preprocessing)[:, :, : self.channels], facts


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One piece of work: consecutive rows of an image file."""

    file: ImageFile
    start: int
    records: tuple[Sample, ...]


def _cut_chunk(cropper: Cropper, chunk: _Chunk) -> Outcome:
    size = cropper.preprocessing.size
    crops = np.zeros((len(chunk.records), size, size, cropper.channels), dtype=np.uint8)
    hashes: list[str | None] = []
    reasons: list[str | None] = []
    every: list[tuple[int, int]] = []
    for row, record in enumerate(chunk.records):
        try:
            crops[row], facts = cropper(record)
        except (EmodetError, OSError) as problem:
            hashes.append(None)
            reasons.append(str(problem))
            every.append(file_facts(cropper.reader.file_of(record)))
        else:
            hashes.append(crop_hash(crops[row]))
            reasons.append(None)
            every.append(facts)
    # One write for all: what cannot be written is an error here, as it would not be in mapped memory.
    chunk.file.write(chunk.start, crops)
    return Outcome(chunk.start, tuple(hashes), tuple(reasons), tuple(every))


_cropper: Cropper | None = None


def _start_worker(cropper: Cropper) -> None:
    global _cropper
    # Ctrl-C reaches every process of a terminal; the parent's answer to it is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _cropper = cropper


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_worker(chunk: _Chunk) -> Outcome:
    if _cropper is None:
        raise RuntimeError("the worker was not started")
    return _cut_chunk(_cropper, chunk)


class CropPool:
    """Processes that cut, started with the first faces and ended with the context.

    Args:
        cropper: What they do.
        processes: How many; None takes one per core, but this one alone for less than 2,000 faces, as processes take
            seconds to start.
        faces: How many there are in all.

    Raises:
        EmodetError: `processes` is less than 1.
    """

    def __init__(self, cropper: Cropper, processes: int | None, faces: int) -> None:
        if processes is not None and processes < 1:
            raise EmodetError(f"data.processes={processes}: at least 1 was expected")
        self.cropper = cropper
        chunks = -(-faces // _CHUNK)
        self.count = min(processes or max(1, min(_cores(), faces // _FACES_PER_PROCESS)), chunks)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "CropPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            # After an error nobody waits for crops that nobody will read.
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def cut(self, records: Sequence[Sample], file: ImageFile) -> Generator[Outcome, None, None]:
        """Write the crops of `records` to the rows of `file`, and say what became of them, in order.

        Raises:
            OSError: A crop cannot be written.
            BrokenProcessPool: A process was killed.
        """
        chunks = (
            _Chunk(file, start, tuple(records[start : start + _CHUNK])) for start in range(0, len(records), _CHUNK)
        )
        if self.count <= 1:
            for chunk in chunks:
                yield _cut_chunk(self.cropper, chunk)
            return
        if self._pool is None:
            # Fork would copy the threads of whatever library the caller has loaded in an unknown state.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_start_worker, initargs=(self.cropper,))
        # A bounded number under way: the records of a large release are not all pickled at once.
        running = deque(self._pool.submit(_in_worker, chunk) for chunk in islice(chunks, 4 * self.count))
        while running:
            yield running.popleft().result()
            running.extend(self._pool.submit(_in_worker, chunk) for chunk in islice(chunks, 1))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
