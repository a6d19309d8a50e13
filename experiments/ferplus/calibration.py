"""Calibration error on each corruption of val: with one temperature, and with one that follows the sharpness.

python experiments/ferplus/calibration.py WEIGHTS.pt /path/to/ferplus

Each half of val is measured with the temperatures of the other half. Also printed: how many labels a mirror image
changes, the accuracy of the mean of both, and what several exponents of the prior cost and gain.
"""

import argparse
from pathlib import Path

import numpy as np

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.evaluation.calibration import (
    calibration_gaps,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_by_sharpness,
    softmax,
)
from emodet.evaluation.corruptions import CORRUPTIONS
from emodet.evaluation.outputs import predict_split
from emodet.training.run import CLEAN, CORRUPTED, outputs_with_sharpness
from emodet.training.trained import load_trained


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("weights", type=Path)
    options.add_argument("root", type=Path)
    chosen = options.parse_args()
    classifier = load_trained(chosen.weights).classifier
    classifier.temperature_slope.zero_()
    source = Source(chosen.root, reader="ferplus", labels="soft", val_from="val")
    data = EmotionDataModule(source, classifier.preprocessing, eval_batch_size=128, num_workers=0)
    data.prepare_data()
    data.setup()
    levels = [(name, level) for name, each in CORRUPTIONS.items() for level in each.levels]
    found = {(CLEAN, 0.0): outputs_with_sharpness(classifier, data)}
    found |= {each: outputs_with_sharpness(classifier, data, *each) for each in levels}
    worst = [(name, CORRUPTIONS[name].levels[-1]) for name in CORRUPTED]
    clean, _ = found[CLEAN, 0.0]
    halves = np.random.default_rng(0).permutation(len(clean.emotion)) % 2
    print("| | level | accuracy | one temperature | by sharpness |\n|---|---|---:|---:|---:|")
    for (name, level), (outputs, q) in found.items():
        plain, sharp = np.empty(outputs.logits.shape), np.empty(outputs.logits.shape)
        for half in (0, 1):
            fitted, rows = halves != half, halves == half
            plain[rows] = softmax(outputs.logits[rows], fit_temperature(clean.logits[fitted], clean.emotion[fitted]))
            parts = [(found[each], len(worst) if each[0] == CLEAN else 1.0) for each in ((CLEAN, 0.0), *worst)]
            temperature, b, c = fit_temperature_by_sharpness(
                np.concatenate([part.logits[fitted] for (part, _), _ in parts]),
                np.concatenate([part.emotion[fitted] for (part, _), _ in parts]),
                np.concatenate([of_part[fitted] for (_, of_part), _ in parts]),
                np.concatenate([np.full(fitted.sum(), weight) for _, weight in parts]),
            )
            relative = np.exp(b * q[rows] + c * q[rows] ** 2)[:, None]
            sharp[rows] = softmax(outputs.logits[rows] / relative, temperature)
        gaps = (calibration_gaps(each, outputs.emotion).sum(axis=0) for each in (plain, sharp))
        errors = [expected_calibration_error(each, len(plain)) for each in gaps]
        accuracy = (outputs.logits.argmax(axis=1) == outputs.emotion).mean()
        label = CORRUPTIONS[name].label(level) if name in CORRUPTIONS else ""
        print(f"| {name} | {label} | {accuracy:.1%} | {errors[0]:.3f} | {errors[1]:.3f} |")

    mirrored = predict_split(classifier, data, "val", transform=lambda crops, _: crops[:, :, ::-1].copy())
    probabilities = softmax(clean.logits, fit_temperature(clean.logits, clean.emotion))
    both = probabilities + softmax(mirrored.logits, fit_temperature(clean.logits, clean.emotion))
    changed = (clean.logits.argmax(axis=1) != mirrored.logits.argmax(axis=1)).mean()
    print(f"\nmirror images: {changed:.1%} of the labels change; mean of both {_rates(both, clean.emotion)}")
    shares = np.array(data.class_shares())
    for exponent in (0.0, 0.1, 0.2, 0.4, 0.6):
        print(f"prior, exponent {exponent}: {_rates(probabilities / shares**exponent, clean.emotion)}")


def _rates(scores: np.ndarray, emotion: np.ndarray) -> str:
    right = scores.argmax(axis=1) == emotion
    recalls = [right[emotion == each].mean() for each in np.unique(emotion)]
    return f"accuracy {right.mean():.2%}, balanced accuracy {np.mean(recalls):.1%}"


if __name__ == "__main__":
    main()
