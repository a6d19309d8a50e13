"""YuNet through OpenCV, and where its weights are: named, in the user's cache, or fetched once and checked.

Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector" (2023); weights of opencv_zoo, MIT licence.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Literal, overload

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference.faces import Detection

__all__ = ["SHA256", "URL", "VARIABLE", "YuNet", "cache_folder", "weights"]

VARIABLE = "EMODET_YUNET"
URL = "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_LEAST_SIDE = 16
_LEAST_SCORE = 0.6
_OVERLAP = 0.3
_LARGEST_DOWNLOAD = 4_000_000
_ERRORS_ONLY = 2


class YuNet:
    """Boxes, five landmarks, scores. One picture at a time, on the CPU, with OpenCV's threads."""

    name = "yunet"
    min_score = _LEAST_SCORE

    def __init__(self, path: Path) -> None:
        """Load the weights.

        Raises:
            EmodetError: The file is not there or OpenCV cannot load it.
        """
        if not path.is_file():
            raise EmodetError(f"YuNet's weights {path}: there is no such file")
        self.description = f"yunet ({path})"
        try:
            # Read here and not by OpenCV, which cannot open every path on Windows.
            data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
            # OpenCV 5 warns here that it will not use the target that it was not asked to use.
            level = cv2.utils.logging.setLogLevel(_ERRORS_ONLY)
            self._network = cv2.FaceDetectorYN.create(
                "onnx", data, np.empty(0, dtype=np.uint8), (320, 320), _LEAST_SCORE, _OVERLAP, 5000
            )
            cv2.utils.logging.setLogLevel(level)
        except (cv2.error, OSError) as problem:
            raise EmodetError(f"YuNet's weights {path}: OpenCV cannot load them ({problem})") from None
        self._input = (320, 320)

    def __call__(
        self, image_rgb: npt.NDArray[np.uint8], *, longest_side: int = 640, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of a picture; see `emodet.inference.detectors.Detector`."""
        height, width = image_rgb.shape[:2]
        if min(height, width) < _LEAST_SIDE:
            return ()
        scale = min(1.0, longest_side / max(height, width))
        size = (max(_LEAST_SIDE, round(width * scale)), max(_LEAST_SIDE, round(height * scale)))
        small = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else image_rgb
        if size != self._input:
            self._network.setInputSize(size)
            self._input = size
        self._network.setScoreThreshold(_LEAST_SCORE if min_score is None else min_score)
        _, found = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if found is None:
            return ()
        stretch = np.array([width / size[0], height / size[1]])
        rows = sorted(np.asarray(found, dtype=np.float64), key=lambda row: -row[14])
        return tuple(_detection(row, stretch) for row in rows if np.isfinite(row).all() and min(row[2:4]) > 0)


@overload
def weights(*, download: Literal[True]) -> Path: ...


@overload
def weights(*, download: bool) -> Path | None: ...


def weights(*, download: bool) -> Path | None:
    """Where the weights are: what `VARIABLE` names, else the user's cache, else None or fetched into it.

    Raises:
        EmodetError: The variable names no file; or they cannot be fetched, or are not what they should be.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise EmodetError(f"{VARIABLE}={named}: there is no such file")
        return Path(named)
    cached = cache_folder() / URL.rpartition("/")[2]
    try:
        at_hand = cached.is_file() and hashlib.sha256(cached.read_bytes()).hexdigest() == SHA256
    except OSError:
        at_hand = False
    if at_hand:
        return cached
    return _fetch(cached) if download else None


def cache_folder() -> Path:
    """The user's folder for files that can be fetched again, as the operating system has it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "emodet"


def _fetch(place: Path) -> Path:
    # Not at the top: half of what importing a recognizer would cost.
    import http.client
    import urllib.request

    way_out = f"Fetch {URL} by hand and set {VARIABLE} to its path, or use detector=centerface"
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer:
            data: bytes = answer.read(_LARGEST_DOWNLOAD)
    except (OSError, http.client.HTTPException) as problem:
        raise EmodetError(f"YuNet's weights could not be fetched ({problem}). {way_out}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise EmodetError(f"YuNet's weights from {URL} have SHA-256 {found}, not {SHA256}: not used. {way_out}")
    partial = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(place)
    except OSError as problem:
        raise EmodetError(f"YuNet's weights could not be kept at {place} ({problem.strerror}). {way_out}") from None
    return place


def _detection(row: npt.NDArray[np.float64], stretch: npt.NDArray[np.float64]) -> Detection:
    corners = np.stack([row[:2], row[:2] + row[2:4]]) * stretch
    points = row[4:14].reshape(5, 2) * stretch
    # YuNet names eyes and mouth corners by the person's side; crops need them by the picture's.
    eyes, nose, mouth = sorted(points[:2], key=_x), points[2], sorted(points[3:], key=_x)
    box = (float(corners[0, 0]), float(corners[0, 1]), float(corners[1, 0]), float(corners[1, 1]))
    landmarks = tuple((float(x), float(y)) for x, y in (*eyes, nose, *mouth))
    return Detection(box, landmarks, float(row[14]))


def _x(point: npt.NDArray[np.float64]) -> float:
    return float(point[0])
