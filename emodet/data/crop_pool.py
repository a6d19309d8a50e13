"""Crop pictures as ``data.crop`` asks, in a pool of processes, straight into an ``.npy`` file.

``image`` takes the whole picture, which is a face crop already. ``box`` cuts the square around the sample's box, with
``preprocessing.margin`` around it, and with ``preprocessing.alignment=eyes`` turned upright by the sample's landmarks.
``detect`` finds box and landmarks with the runtime's face detector, see `emodet.data.detection`.
"""

import inspect
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from emodet.cpu import available_cores
from emodet.data.detection import crop_detected
from emodet.data.pack import crop_hash
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

__all__ = [
    "UNGUARDED",
    "CropPool",
    "CropResult",
    "Cropper",
    "check_crop",
    "cut",
    "require_croppable",
    "require_main_guard",
]

UNGUARDED = (
    'put the code of a script under `if __name__ == "__main__":`, as each process that prepares pictures imports the '
    "script again; or set processes=1"
)

_FACES_PER_PROCESS = 2000

_Chunk = tuple[int, Sequence[Sample]]


def check_crop(crop: str) -> None:
    """Refuse an unknown way to crop."""
    if crop not in ("image", "box", "detect"):
        raise EmodetError(
            f"data.crop={crop!r}: there are image, box and detect; with the latter two, preprocessing.margin scales "
            "the box and preprocessing.alignment=eyes turns the face upright"
        )


def require_croppable(samples: Sequence[Sample], crop: str, preprocessing: Preprocessing, allowed: float) -> None:
    """Refuse a way to crop for which more than this share of samples lack a box or landmarks; opens no picture."""
    boxes = sum(sample.box is not None for sample in samples)
    if crop == "detect" and boxes:
        raise EmodetError(
            f"data.crop=detect: {boxes:,} of {len(samples):,} faces have a box already; use data.crop=box"
        )
    if crop != "box":
        return
    missing = len(samples) - boxes
    if missing > allowed * len(samples):
        raise EmodetError(
            f"data.crop=box: {missing:,} of {len(samples):,} faces have no box; use data.crop=image, or a reader's "
            "option that brings boxes"
        )
    missing = sum(sample.landmarks is None for sample in samples)
    if preprocessing.alignment == "eyes" and missing > allowed * len(samples):
        raise EmodetError(
            f"preprocessing.alignment=eyes: {missing:,} of {len(samples):,} faces have no landmarks; use "
            "preprocessing.alignment=none, or data.reader_options={landmarks: true} where the reader has that option"
        )


def cut(
    image_rgb: npt.NDArray[np.uint8], sample: Sample, crop: str, preprocessing: Preprocessing
) -> npt.NDArray[np.uint8]:
    """Crop one face out of its stored picture, uint8 (H, W, 3) RGB: uint8 (size, size, 3), RGB.

    Refuses a sample without the box or the landmarks that the crop needs, and a box whose centre lies outside the
    picture.
    """
    if crop != "box":
        return preprocessing.crop(image_rgb)
    if sample.box is None:
        raise EmodetError("no box, which data.crop=box needs")
    if preprocessing.alignment == "eyes" and sample.landmarks is None:
        raise EmodetError("no landmarks, which preprocessing.alignment=eyes needs")
    x1, y1, x2, y2 = sample.box
    height, width = image_rgb.shape[:2]
    # A box may reach over the edge, where pixels are repeated; if its centre is outside, hardly any of it is left.
    if not (0 <= (x1 + x2) / 2 <= width and 0 <= (y1 + y2) / 2 <= height):
        raise EmodetError(
            f"the centre of the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is outside the {width}×{height} picture"
        )
    return preprocessing.crop(image_rgb, sample.box, sample.landmarks)


@dataclass(frozen=True, slots=True)
class CropResult:
    """Consecutive faces, cropped; the rows of unreadable pictures are left blank.

    Attributes:
        hashes: A `crop_hash` for each face, None where the picture is unreadable, or no face was detected in it.
        reasons: Why it is unreadable, else None.
        found: The number of detected faces; None where none was to be detected.
    """

    hashes: tuple[str | None, ...]
    reasons: tuple[str | None, ...]
    found: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Cropper:
    """From a sample to its crop; `crop` is ``image``, ``box`` or ``detect``."""

    reader: Reader
    preprocessing: Preprocessing
    crop: str

    @property
    def channels(self) -> int:
        """Of a stored crop."""
        return 1 if self.preprocessing.colour == "grey" else 3

    def __call__(self, sample: Sample) -> tuple[npt.NDArray[np.uint8] | None, int | None]:
        """Crop one face: uint8 (size, size, 3), RGB, (size, size, 1) where crops are grey; see `CropResult.found`."""
        # A box is in the picture's own pixels; without one a JPEG is decoded no larger than needed.
        least = self.preprocessing.size if self.crop == "image" else None
        image = decode_rgb(self.reader.encoded(sample), name=sample.key, least_side=least, quick=True)
        found = None
        if self.crop == "detect":
            crop, found = crop_detected(image, self.preprocessing)
        else:
            crop = cut(image, sample, self.crop, self.preprocessing)
        return None if crop is None else crop[:, :, : self.channels], found


def require_main_guard() -> None:
    """Refuse to run at the top level of a script that a new process imports: it would wait for its parent for ever."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            raise EmodetError(UNGUARDED)
        frame = frame.f_back


class CropPool:
    """Processes that crop; they end with the context, at once after an error.

    Args:
        cropper: Applied to each sample.
        processes: How many; None takes one per core, or this process alone for fewer than 2,000 faces, as processes
            take seconds to start.
        faces: How many there are in all.
    """

    def __init__(self, cropper: Cropper, processes: int | None, faces: int) -> None:
        self.cropper = cropper
        self.count = processes or max(1, min(available_cores(), faces // _FACES_PER_PROCESS))
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())

    def __enter__(self) -> "CropPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _problem: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # Python waits for the pool's processes when it ends, also for those that are still starting.
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def crop(self, file: Path, chunks: Sequence[_Chunk]) -> Iterator[CropResult]:
        """Write the crops of each chunk to `file`, from its first row on; yields the results in order."""
        if self.count <= 1:
            for chunk in chunks:
                yield _crop_chunk(self.cropper, file, chunk)
            return
        # Fork would copy the threads of whatever library the caller has loaded in an unknown state.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.count, context, initializer=_start_worker, initargs=(self.cropper, file))
        waiting = iter(chunks)
        # A bounded number in flight: the samples of a large release are not all pickled at once.
        running = deque(self._pool.submit(_in_worker, chunk) for chunk in islice(waiting, 4 * self.count))
        while running:
            yield running.popleft().result()
            running.extend(self._pool.submit(_in_worker, chunk) for chunk in islice(waiting, 1))


def _crop_chunk(cropper: Cropper, file: Path, chunk: _Chunk) -> CropResult:
    start, samples = chunk
    size = cropper.preprocessing.size
    crops = np.zeros((len(samples), size, size, cropper.channels), dtype=np.uint8)
    results: list[tuple[str | None, str | None, int | None]] = []
    for row, sample in enumerate(samples):
        try:
            crop, found = cropper(sample)
        except (EmodetError, OSError) as problem:
            results.append((None, str(problem), None))
        else:
            crops[row] = 0 if crop is None else crop
            results.append((None if crop is None else crop_hash(crops[row]), None, found))
    offset = np.load(file, mmap_mode="r").offset
    # Written, not mapped: a full disk is then an error, not a killed process.
    with file.open("r+b", buffering=0) as stream:
        stream.seek(offset + start * crops[0].nbytes)
        left = crops.data.cast("B")
        while left:
            left = left[stream.write(left) :]
    return CropResult(*zip(*results, strict=True))


_worker: tuple[Cropper, Path] | None = None


def _start_worker(cropper: Cropper, file: Path) -> None:
    global _worker
    # Ctrl-C reaches every process of a terminal; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = (cropper, file)


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_worker(chunk: _Chunk) -> CropResult:
    assert _worker is not None
    return _crop_chunk(*_worker, chunk)
