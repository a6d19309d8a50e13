"""Occlusion maps: which parts of a face a prediction depends on (Zeiler and Fergus 2014, section 4.2).

They need the model file only, no gradients.
"""

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.modelfile import ModelFile

__all__ = ["occlusion_map"]

_PATCH = 0.25  # of the crop's side
_STEPS = 9  # positions along each side
_LEAST_PROBABILITY = 1e-12  # a softmax in float32 can be 0, whose logarithm is not finite


def occlusion_map(model: ModelFile, crop: npt.NDArray[np.uint8], class_name: str) -> npt.NDArray[np.float32]:
    """How much each part of a crop contributes to a class.

    Args:
        model: The model file.
        crop: uint8, (size, size, 3), RGB, cut by the model file's preprocessing.
        class_name: One of its classes.

    Returns:
        float32, (size, size): how far the class's log odds, ln(p / (1 - p)), fall when the surroundings of a pixel are
        covered with the crop's mean colour; negative where they rise. Probabilities near 1 hardly change, log odds do.
        82 crops are evaluated.

    Raises:
        EmodetError: The model file has no such class.
    """
    if class_name not in model.info.class_names:
        raise EmodetError(f"class {class_name!r}: the model file has {', '.join(model.info.class_names)}")
    column = model.info.class_names.index(class_name)
    size = crop.shape[0]
    patch = max(1, round(size * _PATCH))
    starts = np.linspace(0, size - patch, _STEPS).round().astype(int)
    covered = np.repeat(crop[None], 1 + _STEPS * _STEPS, axis=0)
    colour = crop.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    places = [(y, x) for y in starts for x in starts]
    for index, (y, x) in enumerate(places, start=1):
        covered[index, y : y + patch, x : x + patch] = colour
    odds = _log_odds(model.probabilities(covered), column)
    heat = np.zeros((size, size), dtype=np.float32)
    times = np.zeros((size, size), dtype=np.float32)
    for (y, x), left in zip(places, odds[1:], strict=True):
        heat[y : y + patch, x : x + patch] += odds[0] - left
        times[y : y + patch, x : x + patch] += 1
    heat /= np.maximum(times, 1)
    # Smooth the edges of the patches.
    return np.asarray(cv2.GaussianBlur(heat, (0, 0), patch / 4), dtype=np.float32)


def _log_odds(probabilities: npt.NDArray[np.float32], column: int) -> npt.NDArray[np.float32]:
    # The others' sum, not 1 - p: near 1 that would be a step of float32.
    others = np.delete(probabilities, column, axis=1).sum(axis=1)
    least = np.float32(_LEAST_PROBABILITY)
    return np.asarray(np.log(np.maximum(probabilities[:, column], least)) - np.log(np.maximum(others, least)))
