"""YuNet with OpenCV. Its weights are a file that the user names, or in the user's cache, downloaded once and checked.

Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector" (2023); weights of opencv_zoo, MIT licence.
"""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from emodet.arrays import Float64, UInt8
from emodet.errors import EmodetError, os_errors
from emodet.files import read_regular, sha256_of, write_atomically
from emodet.images import reduced
from emodet.inference.faces import Detection, enlarged, ordered_landmarks

VARIABLE = "EMODET_YUNET"
URL = "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_MIN_SIDE = 16
_MIN_SCORE = 0.6
_OVERLAP = 0.3
_MAX_DOWNLOAD = 4_000_000
_MAX_FILE = 100_000_000


class YuNet:
    """Face detector with boxes, five landmarks and scores; uses OpenCV's threads on the CPU. Thread-safe."""

    name = "yunet"
    min_score = _MIN_SCORE
    sure_score, sure_large_score = 0.85, 0.92

    def __init__(self, path: Path) -> None:
        """Load the weights; raises `EmodetError` if the file does not exist or OpenCV cannot load it."""
        if not path.is_file():
            raise EmodetError(f"YuNet's weights {path}: no such file")
        self.path = path.resolve()
        self.description = f"yunet ({path})"
        # The OpenCV object stores its input size and buffers, so only one call can run at a time.
        self._lock = threading.Lock()
        self._input = (320, 320)
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a default target
        try:
            # Read here, because OpenCV cannot open every path on Windows.
            data = np.frombuffer(read_regular(path, _MAX_FILE), dtype=np.uint8)
            self._network = cv2.FaceDetectorYN.create(
                "onnx", data, np.empty(0, dtype=np.uint8), self._input, _MIN_SCORE, _OVERLAP, 5000
            )
        except (cv2.error, OSError) as problem:
            raise EmodetError(f"YuNet's weights {path}: OpenCV cannot load them ({problem})") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __reduce__(self) -> tuple[type["YuNet"], tuple[Path]]:
        return YuNet, (self.path,)

    def __call__(
        self, image_rgb: UInt8, *, longest_side: int = 640, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find faces; see `emodet.inference.detectors.Detector`."""
        small = reduced(image_rgb, longest_side)
        size = small.shape[1], small.shape[0]
        if min(size) < _MIN_SIDE:
            return ()
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        with self._lock:
            if size != self._input:
                self._network.setInputSize(size)
                self._input = size
            self._network.setScoreThreshold(_MIN_SCORE if min_score is None else min_score)
            _, faces = self._network.detect(bgr)
        if faces is None:
            return ()
        rows = sorted(np.asarray(faces, dtype=np.float64), key=lambda row: -row[14])
        detections = (_detection(row) for row in rows if np.isfinite(row).all() and min(row[2:4]) > 0)
        return enlarged(detections, small, image_rgb)


def weights() -> Path:
    """Return the path of the weights; download them once into the user's cache; raise `EmodetError` if that fails."""
    if installed := installed_weights():
        return installed
    # Deferred: half of the import time of a recognizer.
    import hashlib
    import http.client
    import urllib.request

    path, way_out = _cached(), f"Download {URL} and set {VARIABLE} to its path, or use detector=centerface"
    try:
        with urllib.request.urlopen(URL, timeout=30) as answer:
            data: bytes = answer.read(_MAX_DOWNLOAD)
    except (OSError, http.client.HTTPException) as problem:
        raise EmodetError(f"YuNet's weights could not be downloaded ({problem}). {way_out}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise EmodetError(f"YuNet's weights from {URL} have SHA-256 {digest}, expected {SHA256}. {way_out}")
    with os_errors(f"YuNet's weights could not be written to {path}", f". {way_out}"):
        write_atomically(path, data)
    return path


def installed_weights() -> Path | None:
    """Return the path of the weights: the variable `VARIABLE`, else the user's cache, else None."""
    if path := os.environ.get(VARIABLE):
        if not Path(path).is_file():
            raise EmodetError(f"{VARIABLE}={path}: no such file")
        return Path(path)
    with suppress(OSError):
        if sha256_of(_cached()) == SHA256:
            return _cached()
    return None


def _cached() -> Path:
    """Return the path of the weights in the user's cache folder."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "emodet" / URL.rpartition("/")[2]


def _detection(row: Float64) -> Detection:
    x, y, width, height = row[:4].tolist()
    return Detection((x, y, x + width, y + height), ordered_landmarks(row[4:14].reshape(5, 2).tolist()), float(row[14]))
