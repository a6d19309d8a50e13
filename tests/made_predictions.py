"""Predictions to evaluate."""

import numpy as np

from emodet.emotions import EMOTIONS
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions

SHARES = np.array([0.37, 0.27, 0.11, 0.13, 0.03, 0.02, 0.06, 0.01])


def make_predictions(faces=600, seed=0, **changes):
    """They resemble a net on FER+: rare classes are hard; overconfident before calibration."""
    generator = np.random.default_rng(seed)
    emotion = generator.choice(8, faces, p=SHARES)
    logits = generator.normal(0, 1.1, (faces, 8)) + 0.7 * np.log(SHARES)
    logits[np.arange(faces), emotion] += np.array([4, 5, 2.4, 4, 2, 1, 3.4, 0.3])[emotion]
    values = {
        "keys": [f"val/{index:04d}.png" for index in range(faces)],
        "emotion": emotion,
        "probabilities": softmax(logits),
        "uncalibrated": softmax(logits, 0.5),
        "class_names": EMOTIONS,
        "split": "val",
        "data": "Made faces",
    }
    return Predictions(**{**values, **changes})


def with_dimensions(faces=300, unknown=0.3, **changes):
    """Predicted and annotated valence and arousal; a share of the faces without annotation."""
    random = np.random.default_rng(1)
    annotated = random.uniform(-1, 1, (faces, 2))
    predicted = np.tanh(0.8 * annotated + random.normal(0, [0.2, 0.5], (faces, 2)))
    annotated[random.random(faces) < unknown] = np.nan
    return make_predictions(faces, **{"valence_arousal": predicted, "annotated": annotated, **changes})
