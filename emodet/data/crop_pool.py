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
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emodet.cpu import available_cores
from emodet.data.detection import crop_detected
from emodet.data.pack import crop_hash
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

_UNGUARDED = (
    'put the code of a script under `if __name__ == "__main__":`, as each process that prepares pictures imports the '
    "script again; or set processes=1"
)

_FACES_PER_PROCESS = 2000

Chunk = tuple[int, Sequence[Sample]]
UInt8 = npt.NDArray[np.uint8]


def require_croppable(samples: Sequence[Sample], crop: str, preprocessing: Preprocessing, allowed: float) -> None:
    """Refuse a way to crop for which more than this share of samples lack a box or landmarks; opens no picture."""
    total = len(samples)
    if crop == "detect" and (boxes := sum(sample.box is not None for sample in samples)):
        raise EmodetError(f"data.crop=detect: {boxes:,} of {total:,} faces have a box already; use data.crop=box")
    needed = {}
    if crop == "box":
        needed["box"] = ("data.crop=box", "data.crop=image, or a reader's option that brings boxes")
        if preprocessing.alignment == "eyes":
            way_out = "preprocessing.alignment=none, or data.reader_options={landmarks: true} where the reader has it"
            needed["landmarks"] = ("preprocessing.alignment=eyes", way_out)
    for what, (setting, way_out) in needed.items():
        missing = sum(getattr(sample, what) is None for sample in samples)
        if missing > allowed * total:
            raise EmodetError(f"{setting}: {missing:,} of {total:,} faces have no {what}; use {way_out}")


def cut(image_rgb: UInt8, sample: Sample, crop: str, preprocessing: Preprocessing) -> UInt8:
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


class CropResult(NamedTuple):
    """A face, cropped; the row of an unreadable picture is left blank.

    Attributes:
        hash: Its `crop_hash`, None where the picture is unreadable, or no face was detected in it.
        reason: Why it is unreadable, else None.
        found: The number of detected faces; None where none was to be detected.
    """

    hash: str | None
    reason: str | None
    found: int | None


@dataclass(frozen=True, slots=True)
class Cropper:
    """From a sample to its crop; `crop` is ``image``, ``box`` or ``detect``."""

    reader: Reader
    preprocessing: Preprocessing
    crop: str

    def shape(self, faces: int) -> tuple[int, int, int, int]:
        """Of so many stored crops: one channel where they are grey."""
        size = self.preprocessing.size
        return faces, size, size, 1 if self.preprocessing.colour == "grey" else 3

    def __call__(self, sample: Sample) -> tuple[UInt8 | None, int | None]:
        """Crop one face: uint8 (size, size, 3), RGB, None without a face; and `CropResult.found`."""
        # A box is in the picture's own pixels; without one a JPEG is decoded no larger than needed.
        least = self.preprocessing.size if self.crop == "image" else None
        image = decode_rgb(self.reader.encoded(sample), name=sample.key, least_side=least, quick=True)
        if self.crop == "detect":
            return crop_detected(image, self.preprocessing)
        return cut(image, sample, self.crop, self.preprocessing), None


def require_main_guard() -> None:
    """Refuse to run at the top level of a script that a new process imports: it would wait for its parent for ever."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            raise EmodetError(_UNGUARDED)
        frame = frame.f_back


def crop_chunks(
    cropper: Cropper, file: Path, chunks: Sequence[Chunk], processes: int | None
) -> Generator[list[CropResult], None, None]:
    """Write the crops of each chunk to an ``.npy`` file; yields the results in order.

    Args:
        cropper: Applied to each sample.
        file: Holds zeros of `Cropper.shape`.
        chunks: Row of the first face, and samples.
        processes: How many; None takes one per core, or this process alone for fewer than 2,000 faces, as processes
            take seconds to start. They end with the iterator, at once when it is closed before its end.
    """
    faces = sum(len(samples) for _, samples in chunks)
    count = processes or max(1, min(available_cores(), faces // _FACES_PER_PROCESS))
    if count == 1:
        yield from (_crop_chunk(cropper, file, chunk) for chunk in chunks)
        return
    others = set(multiprocessing.active_children())
    # Fork would copy the threads of whatever library the caller has loaded in an unknown state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=(cropper, file))
    waiting = iter(chunks)
    try:
        # A bounded number in flight: the samples of a large release are not all pickled at once.
        running = deque(pool.submit(_in_worker, chunk) for chunk in islice(waiting, 4 * count))
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(_in_worker, chunk) for chunk in islice(waiting, 1))
    except BrokenProcessPool:
        raise EmodetError(
            f"a process that prepares pictures ended unexpectedly. Either {_UNGUARDED}; or it was killed (out of "
            "memory?): finished faces are kept, run it again with data.processes=1 to need less memory"
        ) from None
    except BaseException:
        # Shutting down waits for the pool's processes, also for those that are still starting.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _crop_chunk(cropper: Cropper, file: Path, chunk: Chunk) -> list[CropResult]:
    start, samples = chunk
    crops = np.zeros(cropper.shape(len(samples)), dtype=np.uint8)
    results = []
    for row, sample in enumerate(samples):
        try:
            crop, found = cropper(sample)
        except (EmodetError, OSError) as problem:
            results.append(CropResult(None, str(problem), None))
            continue
        if crop is not None:
            crops[row] = crop[:, :, : crops.shape[3]]
        results.append(CropResult(None if crop is None else crop_hash(crops[row]), None, found))
    offset = np.load(file, mmap_mode="r").offset
    # Written, not mapped: a full disk is then an error, not a killed process.
    with file.open("r+b", buffering=0) as stream:
        stream.seek(offset + start * crops[0].nbytes)
        left = crops.data.cast("B")
        while left:
            left = left[stream.write(left) :]
    return results


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


def _in_worker(chunk: Chunk) -> list[CropResult]:
    assert _worker is not None
    return _crop_chunk(*_worker, chunk)
