"""CenterFace with ONNX Runtime, with weights that are part of the package.

Xu et al., "CenterFace: joint face detection and alignment using face as point" (2019); MIT licence, beside the weights.
`experiments/detectors` contains the script that converted the weights, and measurements.
"""

import math
from pathlib import Path

import cv2
import numpy as np

from emodet.arrays import UInt8
from emodet.errors import os_errors
from emodet.images import reduced
from emodet.inference.faces import Detection, enlarged, ordered_landmarks
from emodet.onnx_session import open_session

MIN_SIDE = 16
MIN_SCORE = 0.5
OVERLAP = 0.3
STRIDE = 4  # output maps are a quarter of the input size
MULTIPLE = 32  # input height and width must be multiples of this

_MAPS = ("scores", "sizes", "offsets", "landmarks")


class CenterFace:
    """Face detector with boxes, five landmarks and scores. Its time is proportional to the searched area."""

    name = "centerface"
    min_score = MIN_SCORE
    sure_score, sure_large_score = 0.65, 0.85
    description = "centerface (shipped with emodet)"

    def __init__(self, path: Path | None = None, threads: int | None = None) -> None:
        """Load the shipped weights, or a file with the same inputs and outputs; raises `EmodetError` if that fails."""
        self.path, self.threads = path, threads
        path = weights_file() if path is None else path
        with os_errors(f"CenterFace's weights {path}: cannot be read"):
            self._session = open_session(path.read_bytes(), str(path), ("cpu",), threads)

    def __reduce__(self) -> tuple[type["CenterFace"], tuple[Path | None, int | None]]:
        return CenterFace, (self.path, self.threads)

    def __call__(
        self, image_rgb: UInt8, *, longest_side: int = 480, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find faces; see `emodet.inference.detectors.Detector`."""
        small = reduced(image_rgb, longest_side)
        height, width = small.shape[:2]
        if min(height, width) < MIN_SIDE:
            return ()
        # Pad with black to the right and below, which preserves the proportions of faces.
        full = [math.ceil(side / MULTIPLE) * MULTIPLE for side in (height, width)]
        planes = np.zeros((1, 3, *full), dtype=np.float32)
        planes[0, :, :height, :width] = small.transpose(2, 0, 1)
        heat, size, offset, points = (each[0] for each in self._session.run(_MAPS, {"pixels": planes}))
        scores = heat[0]
        rows, columns = np.nonzero(scores >= (MIN_SCORE if min_score is None else min_score))
        if not len(rows):
            return ()
        high, wide = np.exp(size[:, rows, columns]) * STRIDE
        top = (rows + offset[0, rows, columns] + 0.5) * STRIDE - high / 2
        left = (columns + offset[1, rows, columns] + 0.5) * STRIDE - wide / 2
        # Landmarks are five pairs (y, x), as fractions of the box.
        points = points[:, rows, columns].reshape(5, 2, -1)
        landmarks = np.stack([points[:, 1] * wide + left, points[:, 0] * high + top], axis=2).transpose(1, 0, 2)
        boxes = np.stack([left, top, wide, high], axis=1)
        confidences = scores[rows, columns].tolist()
        kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), confidences, 0.0, OVERLAP)).ravel()  # highest score first
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).tolist()
        faces = (
            Detection(tuple(corners[index]), ordered_landmarks(landmarks[index]), confidences[index]) for index in kept
        )
        return enlarged(faces, small, image_rgb)


def weights_file() -> Path:
    """Path of the shipped weights."""
    return Path(__file__).parents[1] / "weights" / "centerface.onnx"
