"""Cropping of pictures with ``data.crop``, in a pool of processes that write directly into an ``.npy`` file.

``image`` uses the whole picture, which is a face crop already. ``box`` crops the square around the sample's box, with
``preprocessing.margin``, and with ``preprocessing.alignment=eyes`` rotates it upright by the sample's landmarks.
``detect`` detects box and landmarks in a photograph, as in live recognition.
"""

import functools
import inspect
import logging
import math
import signal
import statistics
from collections.abc import Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from emodet.arrays import UInt8
from emodet.cpu import available_cores, worker_pool
from emodet.data.pack import crop_hash
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

if TYPE_CHECKING:
    from emodet.inference.detectors import Detector
    from emodet.inference.faces import Detection

log = logging.getLogger(__name__)

_SAMPLE = 64
_SEARCHED = (416, 192)
_SMALLEST = 96  # pixels: smaller pictures are probably not whole photographs
_MANY_LOST = 0.25
_FILLED = 0.5  # share of the longer side: the face in a face crop is larger
_UNGUARDED = (
    'put the code of a script under `if __name__ == "__main__":`, as each process that prepares pictures imports the '
    "script again; or set processes=1"
)

_FACES_PER_PROCESS = 2000

Chunk = tuple[int, Sequence[Sample]]  # row of the first face, and samples


def require_croppable(samples: Sequence[Sample], crop: str, preprocessing: Preprocessing, allowed: float) -> None:
    """Raise `EmodetError` if more than this share of samples lack the box or landmarks of `crop`; opens no pictures."""
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
            if missing < total:
                way_out += f"; data.max_unreadable={math.ceil(100 * missing / total) / 100} leaves them out"
            raise EmodetError(f"{setting}: {missing:,} of {total:,} faces have no {what}; use {way_out}")


def cut(image_rgb: UInt8, sample: Sample, crop: str, preprocessing: Preprocessing) -> UInt8:
    """Crop a face from its stored picture, uint8 (H, W, 3) RGB; returns uint8 (size, size, 3), RGB.

    Raises `EmodetError` if the sample lacks the box or landmarks that the crop needs, or the centre of the box is
    outside the picture.
    """
    if crop != "box":
        return preprocessing.crop(image_rgb)
    if sample.box is None:
        raise EmodetError("no box, which data.crop=box needs")
    if preprocessing.alignment == "eyes" and sample.landmarks is None:
        raise EmodetError("no landmarks, which preprocessing.alignment=eyes needs")
    x1, y1, x2, y2 = sample.box
    height, width = image_rgb.shape[:2]
    # A box can extend over the edge, where pixels are repeated, but with its centre outside too little is visible.
    if not (0 <= (x1 + x2) / 2 <= width and 0 <= (y1 + y2) / 2 <= height):
        raise EmodetError(
            f"the centre of the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is outside the {width}×{height} picture"
        )
    return preprocessing.crop(image_rgb, sample.box, sample.landmarks)


class CropResult(NamedTuple):
    """Result of cropping one face; the crop of an unreadable picture is blank."""

    hash: str | None  # `crop_hash`; None if the picture is unreadable, or no face was detected
    reason: str | None  # reason why the picture is unreadable
    found: int | None  # number of detected faces; None without detection


@dataclass(frozen=True, slots=True)
class Cropper:
    """Crops chunks of samples into an ``.npy`` file of `shape`; each process writes its own chunks."""

    reader: Reader
    preprocessing: Preprocessing
    crop: str
    file: Path

    def shape(self, faces: int) -> tuple[int, int, int, int]:
        """Return the shape of the array of stored crops; grey crops have one channel."""
        size = self.preprocessing.size
        return faces, size, size, 1 if self.preprocessing.colour == "grey" else 3

    def __call__(self, chunk: Chunk) -> list[CropResult]:
        """Crop the samples of a chunk and write the crops; raises `OSError` if the disk is full."""
        start, samples = chunk
        crops = np.zeros(self.shape(len(samples)), dtype=np.uint8)
        results = []
        for row, sample in enumerate(samples):
            try:
                crop, found = self._crop(sample)
            except (EmodetError, OSError) as problem:
                results.append(CropResult(None, str(problem), None))
                continue
            if crop is not None:
                crops[row] = crop[:, :, : crops.shape[3]]
            results.append(CropResult(None if crop is None else crop_hash(crops[row]), None, found))
        offset = np.load(self.file, mmap_mode="r").offset
        # Written and not mapped: a full disk then raises an error instead of killing the process.
        with self.file.open("r+b", buffering=0) as stream:
            stream.seek(offset + start * crops[0].nbytes)
            left = crops.data.cast("B")
            while left:
                left = left[stream.write(left) :]
        return results

    def _crop(self, sample: Sample) -> tuple[UInt8 | None, int | None]:
        """Crop one face: uint8 (size, size, 3), RGB, or None without a face; and `CropResult.found`.

        Of several detected faces, the one with the largest product of score and size is used.
        """
        # A box is in pixels of the full picture; without a box, a JPEG is decoded at a reduced size.
        least = self.preprocessing.size if self.crop == "image" else None
        image = decode_rgb(self.reader.encoded(sample), name=sample.key, least_side=least, quick=True)
        if self.crop != "detect":
            return cut(image, sample, self.crop, self.preprocessing), None
        if not (found := _find_faces(image)):
            return None, 0
        best = max(found, key=lambda face: face.score * face.side)
        return self.preprocessing.crop(image, best.box, best.landmarks), len(found)


def require_main_guard() -> None:
    """Raise `EmodetError` at the top level of a script, which a new process would import and execute again."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            raise EmodetError(_UNGUARDED)
        frame = frame.f_back


def crop_chunks(
    cropper: Cropper, chunks: Sequence[Chunk], processes: int | None
) -> Generator[list[CropResult], None, None]:
    """Crop chunks in several processes; yields the results in order.

    `processes` is the number of processes; None means one per core, or this process alone for fewer than 2,000 faces,
    since processes take seconds to start. They end with the iterator, immediately if it is closed early. The workers of
    torch's data loader would import torch, and end only after their current picture.
    """
    faces = sum(len(samples) for _, samples in chunks)
    count = processes or max(1, min(available_cores(), faces // _FACES_PER_PROCESS))
    if count == 1:
        yield from map(cropper, chunks)
        return
    try:
        with worker_pool(count, _start_worker, cropper) as pool:
            yield from pool.map(_in_worker, chunks)
    except BrokenProcessPool:
        raise EmodetError(
            f"a process that crops pictures ended unexpectedly. Either {_UNGUARDED}; or it was killed (out of "
            "memory?): finished faces are kept, run the command again with data.processes=1 to use less memory"
        ) from None


_worker: Cropper | None = None


def _start_worker(cropper: Cropper) -> None:
    global _worker
    # Ctrl-C is sent to every process of a terminal; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = cropper


def _in_worker(chunk: Chunk) -> list[CropResult]:
    assert _worker is not None
    return _worker(chunk)


@functools.cache
def _detector() -> "Detector":
    # Imported here, because only detection needs the runtime (and one detector per process).
    from emodet.inference.detectors import make_detector

    return make_detector("auto", threads=1)


def _find_faces(image_rgb: UInt8, **options: Any) -> "Sequence[Detection]":
    """Detect faces as in live recognition; raises `EmodetError` if the weights are not available."""
    from emodet.inference.detectors import find_faces

    return find_faces(_detector(), image_rgb, **options)


def detection_facts(samples: Sequence[Sample], results: Sequence[CropResult]) -> dict[str, Any]:
    """Return the detector and the keys of pictures without a face and with several faces; warn about the former."""
    found = [(sample.key, it.found) for sample, it in zip(samples, results, strict=True) if it.found is not None]
    without = [key for key, count in found if count == 0]
    if len(without) > _MANY_LOST * len(found):
        log.warning(
            "data.crop=detect (%s) found no face in %d of %d pictures; if they are face crops, use data.crop=image; "
            "if the faces are drawn, use YuNet (EMODET_YUNET=WEIGHTS.onnx)",
            *(_detector().name, len(without), len(found)),
        )
    several = [key for key, count in found if count > 1]
    return {"detector": _detector().name, "without_face": without, "several_faces": several}


def warn_of_photographs(reader: Reader, samples: Sequence[Sample], size: int) -> None:
    """Log a warning if pictures that will be packed without cropping seem to be whole photographs.

    Detects faces, at 416 pixels, in at most 64 evenly spaced pictures; does nothing without a detector.
    """
    shares, some = [], samples[:: math.ceil(len(samples) / _SAMPLE)]
    for sample in some:
        with suppress(EmodetError, OSError):  # of a picture that cannot be read, which packing reports
            image = decode_rgb(reader.encoded(sample), name=sample.key, least_side=_SEARCHED[0], quick=True)
            longest = max(image.shape[:2])
            if longest >= _SMALLEST and (found := _find_faces(image, sides=_SEARCHED)):
                shares.append(max(face.side for face in found) / longest)
    median = statistics.median(shares) if shares else 1.0
    if len(shares) >= len(some) / 4 and median < _FILLED:
        log.warning(
            "data.crop=image packs whole photographs: in %d of %d sampled pictures a face is detected, with a median "
            "size of %.0f %% of the picture's longer side, %.0f pixels in a crop of %d. data.crop=detect crops the "
            "faces as in live recognition",
            *(len(shares), len(some), 100 * median, median * size, size),
        )
