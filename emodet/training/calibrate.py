"""What is fitted on the val split after training: the temperature, and how it follows a crop's sharpness."""

from dataclasses import replace

import numpy as np
import torch

from emodet.arrays import Float64, Int64, UInt8
from emodet.data.datamodule import EmotionDataModule
from emodet.evaluation.calibration import fit_temperature, fit_temperature_by_sharpness
from emodet.evaluation.corruptions import CORRUPTIONS, corrupt
from emodet.evaluation.outputs import SplitOutputs, predict_split
from emodet.models.classifier import EmotionClassifier
from emodet.models.sharpness import sharpness

CLEAN = "clean"
CORRUPTED = ("blur", "noise", "JPEG", "down-scaling")
"""What ``sharpness`` is fitted on besides clean faces, at the harshest level: a blurred and a noisy end. Clean faces
weigh as much as all of these."""


def calibrate(classifier: EmotionClassifier, data: EmotionDataModule, method: str) -> SplitOutputs:
    """Fit on val and set the classifier's buffers; `method` is ``temperature``, ``sharpness`` or ``none``.

    Returns the outputs on val, before temperature.
    """
    classifier.temperature_slope.zero_()
    if method != "sharpness":
        clean = predict_split(classifier, data, "val")
        classifier.temperature.fill_(1.0 if method == "none" else fit_temperature(clean.logits, clean.emotion))
        return clean
    found = {CLEAN: outputs_with_sharpness(classifier, data)}
    for name in CORRUPTED:
        found[name] = outputs_with_sharpness(classifier, data, name, CORRUPTIONS[name].levels[-1])
    clean, of_clean = found[CLEAN]
    temperature, b, c = fit_temperature_by_sharpness(
        np.concatenate([outputs.logits for outputs, _ in found.values()]),
        np.concatenate([outputs.emotion for outputs, _ in found.values()]),
        np.concatenate([q for _, q in found.values()]),
        np.concatenate([np.full(len(q), len(CORRUPTED) if name == CLEAN else 1.0) for name, (_, q) in found.items()]),
    )
    classifier.temperature.fill_(temperature)
    classifier.temperature_slope.copy_(torch.tensor([b, c]))
    relative = np.exp(b * of_clean + c * of_clean**2)[:, None]
    return replace(clean, logits=(clean.logits / relative).astype(np.float32))


def outputs_with_sharpness(
    classifier: EmotionClassifier, data: EmotionDataModule, corruption: str = CLEAN, level: float = 0.0
) -> tuple[SplitOutputs, Float64]:
    """Outputs on val, and the sharpness of its crops, float64 (N,); with a corruption, at one of its levels."""
    found: list[Float64] = []

    def transform(crops: UInt8, index: Int64) -> UInt8:
        if corruption != CLEAN:
            crops = corrupt(crops, index, CORRUPTIONS[corruption], level)
        with torch.inference_mode():
            x = classifier.normalise(torch.from_numpy(crops).to(classifier.device))
            found.append(sharpness(x).double().cpu().numpy())
        return crops

    outputs = predict_split(classifier, data, "val", transform=transform)
    return outputs, np.concatenate(found)
