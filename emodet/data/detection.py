"""Faces in photographs, found as live recognition finds them: for ``data.crop=detect``, and to notice its absence."""

import functools
import logging
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

if TYPE_CHECKING:
    from emodet.inference.detectors import Detector
    from emodet.inference.faces import Detection

log = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]

_SAMPLE = 64
_SEARCHED = (416, 192)
_SMALLEST = 96  # pixels: a smaller picture is hardly a whole photograph
_FILLED = 0.5  # of the longer side: a face crop's face is larger than that


@functools.cache
def _detector() -> "Detector":
    # Imported here: only this way of cropping needs the runtime (and each process of a pool its own detector).
    from emodet.inference.detectors import make_detector

    return make_detector("auto", threads=1)


def detection_facts(samples: Sequence[Sample], found: Sequence[int | None]) -> dict[str, Any]:
    """For a manifest: the detector, and the keys of pictures in which it found no face, or several.

    `found` is the number of faces of each sample, None for an unreadable one.
    """
    counted = [(sample.key, count) for sample, count in zip(samples, found, strict=True) if count is not None]
    return {
        "detector": _detector().name,
        "without_face": [key for key, count in counted if count == 0],
        "several_faces": [key for key, count in counted if count > 1],
    }


def crop_detected(image_rgb: UInt8, preprocessing: Preprocessing) -> tuple[UInt8 | None, int]:
    """Crop the face of a photograph exactly as `Recognizer` would.

    Args:
        image_rgb: uint8 (H, W, 3), RGB.
        preprocessing: Of the crop.

    Returns:
        uint8 (size, size, 3), RGB, of the face with the largest product of score and size, None without a face; and the
        number of faces found.

    Raises:
        EmodetError: No detector's weights are available.
    """
    from emodet.inference.detectors import find_faces

    found = find_faces(_detector(), image_rgb)
    if not found:
        return None, 0
    best: Detection = max(found, key=lambda face: face.score * face.side)
    return preprocessing.crop(image_rgb, best.box, best.landmarks), len(found)


def warn_of_photographs(reader: Reader, samples: Sequence[Sample], size: int) -> None:
    """Log a warning, with numbers, if pictures that are to be packed as they are look like whole photographs.

    Detects faces, at 416 pixels, in 64 pictures at most, evenly spaced; does nothing where no detector is available.

    Args:
        reader: Whose pictures are face crops, as far as it is known.
        samples: Its faces.
        size: Side of a packed crop in pixels.
    """
    from emodet.inference.detectors import find_faces

    shares = []
    rows = np.unique(np.linspace(0, len(samples) - 1, min(_SAMPLE, len(samples)), dtype=int)).tolist()
    for sample in (samples[row] for row in rows):
        try:
            image = decode_rgb(reader.encoded(sample), name=sample.key, least_side=_SEARCHED[0], quick=True)
        except (EmodetError, OSError):  # packing reports it
            continue
        longest = max(image.shape[:2])
        if longest < _SMALLEST:
            continue
        try:
            found = find_faces(_detector(), image, sides=_SEARCHED)
        except EmodetError:
            return
        shares += [max(face.side for face in found) / longest] if found else []
    median = statistics.median(shares) if shares else 1.0
    if len(shares) >= len(rows) / 4 and median < _FILLED:
        log.warning(
            "data.crop=image packs whole photographs: in %d of %d sampled pictures a face is found, and it takes up "
            "%.0f %% of the picture's longer side (median), %.0f pixels of a crop of %d. data.crop=detect cuts the "
            "faces out as live recognition does",
            *(len(shares), len(rows), 100 * median, median * size, size),
        )
