"""Heat maps that explain a prediction: occlusion maps (Zeiler and Fergus 2014, section 4.2), without gradients."""

from collections.abc import Sequence

import cv2
import numpy as np

from emodet.arrays import Float32, UInt8
from emodet.inference.faces import Detection, Face
from emodet.inference.overlay import HeatMap
from emodet.inference.recognizer import Recognizer
from emodet.modelfile import ModelFile

_PATCH = 0.25  # of the crop's side
_STEPS = 9  # positions along each side
_FACES = 3  # as many as fit beside a picture
_MIN_PROBABILITY = np.float32(1e-12)  # a float32 softmax can be 0, and log(0) is not finite


def heat_maps(recognizer: Recognizer, image_rgb: UInt8, faces: Sequence[Face]) -> tuple[HeatMap, ...]:
    """Explain the three largest faces of a frame, uint8 (H, W, 3) RGB, largest first.

    Each face takes 82 crops through the model file.
    """
    maps = []
    for face in sorted(faces, key=lambda face: face.box[0] - face.box[2])[:_FACES]:
        whole = recognizer.detector.name == "none"
        crop = recognizer.crop(image_rgb, Detection(face.box, face.landmarks, face.detection_score, whole))
        number = "" if face.track_id is None else f"#{face.track_id} "
        heat = occlusion_map(recognizer.model, crop, face.most_probable)
        maps.append(HeatMap(f"{number}{face.most_probable}", crop, heat))
    return tuple(maps)


def occlusion_map(model: ModelFile, crop: UInt8, class_name: str) -> Float32:
    """Compute how much each part of a crop of `Recognizer.crop`, uint8 (size, size, 3) RGB, contributes to a class.

    Returns:
        float32, (size, size): decrease of the class's log odds, ln(p / (1 - p)), when the surroundings of a pixel are
        covered with the crop's mean colour; negative for an increase. Unlike log odds, probabilities near 1 hardly
        change.
    """
    column = model.info.class_names.index(class_name)
    size = crop.shape[0]
    patch = max(1, round(size * _PATCH))
    starts = np.linspace(0, size - patch, _STEPS).round().astype(int)
    covered = np.repeat(crop[None], 1 + _STEPS * _STEPS, axis=0)
    colour = crop.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    places = [(y, x) for y in starts for x in starts]
    for index, (y, x) in enumerate(places, start=1):
        covered[index, y : y + patch, x : x + patch] = colour
    probabilities = model.probabilities(covered)
    # Sum the other classes instead of computing 1 - p, which loses float32 precision near 1.
    others = np.delete(probabilities, column, axis=1).sum(axis=1)
    odds = np.log(np.maximum(probabilities[:, column], _MIN_PROBABILITY)) - np.log(np.maximum(others, _MIN_PROBABILITY))
    heat = np.zeros((size, size), dtype=np.float32)
    counts = np.zeros((size, size), dtype=np.float32)
    for (y, x), covered_odds in zip(places, odds[1:], strict=True):
        heat[y : y + patch, x : x + patch] += odds[0] - covered_odds
        counts[y : y + patch, x : x + patch] += 1
    heat /= np.maximum(counts, 1)
    # Smooth the edges of the patches.
    return np.asarray(cv2.GaussianBlur(heat, (0, 0), patch / 4), dtype=np.float32)
