"""Calibration error on each corruption of val: with one temperature, and with a temperature from the features.

python experiments/ferplus/calibration.py WEIGHTS.pt /path/to/ferplus

Each half of val is evaluated with the temperatures fitted on the other half. Also prints accuracy and balanced accuracy
of the mean of image and mirror image, the share of labels that differ between them, and both figures for several
exponents of the prior.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.evaluation.calibration import (
    calibration_gaps,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_by_strength,
    softmax,
)
from emodet.evaluation.corruptions import CORRUPTIONS
from emodet.evaluation.outputs import predict_split
from emodet.training.run import CLEAN, outputs_with_strength
from emodet.training.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("root", type=Path, help="folder of the FER+ files")
    arguments = parser.parse_args()
    classifier = load_trained(arguments.weights).classifier
    classifier.temperature_curve.copy_(torch.tensor([1.0, 0.0]))
    source = Source(arguments.root, reader="ferplus", labels="soft", val_from="val")
    data = EmotionDataModule(source, classifier.preprocessing, eval_batch_size=128, num_workers=0)
    data.prepare_data()
    data.setup()
    levels = [(name, level) for name, each in CORRUPTIONS.items() for level in each.levels]
    found = {(CLEAN, 0.0): outputs_with_strength(classifier, data)}
    found |= {each: outputs_with_strength(classifier, data, *each) for each in levels}
    fitted_on = [*[(CLEAN, 0.0)] * len(CORRUPTIONS), *((name, each.levels[-1]) for name, each in CORRUPTIONS.items())]
    clean, emotion, of_clean = found[CLEAN, 0.0]
    typical = np.median(of_clean)
    halves = np.random.default_rng(0).permutation(len(emotion)) % 2
    print(
        "| corruption | level | accuracy | calibration error, one temperature "
        "| calibration error, temperature from features |"
    )
    print("|---|---|---:|---:|---:|")
    for (name, level), (logits, _, strength) in found.items():
        constant, by_features = np.empty(logits.shape), np.empty(logits.shape)
        for half in (0, 1):
            fitted, rows = halves != half, halves == half
            constant[rows] = softmax(logits[rows], fit_temperature(clean[fitted], emotion[fitted]))
            parts = [[of_part[fitted] for of_part in found[each]] for each in fitted_on]
            of_logits, of_emotion, strengths = map(np.concatenate, zip(*parts, strict=True))
            shares = np.minimum(strengths / typical, 1)
            temperature, power = fit_temperature_by_strength(of_logits, of_emotion, shares)
            relative = np.minimum(strength[rows, None] / typical, 1) ** power
            by_features[rows] = softmax(logits[rows] / relative, temperature)
        gaps = (calibration_gaps(each, emotion).sum(axis=0) for each in (constant, by_features))
        errors = [expected_calibration_error(each, len(constant)) for each in gaps]
        accuracy = (logits.argmax(axis=1) == emotion).mean()
        label = CORRUPTIONS[name].label(level) if name in CORRUPTIONS else ""
        print(f"| {name} | {label} | {accuracy:.1%} | {errors[0]:.3f} | {errors[1]:.3f} |")

    mirrored = predict_split(classifier, data, "val", transform=lambda crops, _: crops[:, :, ::-1].copy())
    temperature = fit_temperature(clean, emotion)
    probabilities = softmax(clean, temperature)
    both = probabilities + softmax(mirrored.logits, temperature)
    changed = (clean.argmax(axis=1) != mirrored.logits.argmax(axis=1)).mean()
    print("\n| prediction | accuracy | balanced accuracy |\n|---|---:|---:|")
    print(f"| mean of image and mirror image ({changed:.1%} of the labels differ) | {_rates(both, emotion)} |")
    shares = np.array(data.class_shares())
    for exponent in (0.0, 0.1, 0.2, 0.4, 0.6):
        print(f"| prior, exponent {exponent} | {_rates(probabilities / shares**exponent, emotion)} |")


def _rates(scores: np.ndarray, emotion: np.ndarray) -> str:
    """Accuracy and balanced accuracy as table cells."""
    correct = scores.argmax(axis=1) == emotion
    recalls = [correct[emotion == each].mean() for each in np.unique(emotion)]
    return f"{correct.mean():.2%} | {np.mean(recalls):.1%}"


if __name__ == "__main__":
    main()
