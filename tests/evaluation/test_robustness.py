"""Corrupted crops, and the scores on them."""

import csv
import io

import numpy as np
import pytest
from made_predictions import make_predictions
from skimage import data

from emodet.evaluation.corruptions import CORRUPTIONS, corrupt, mean_accuracy, plot_robustness, robustness_csv
from emodet.evaluation.scores import evaluate_predictions


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [48, 96])
def test_each_level_is_harsher_than_the_one_before(name, side):
    corruption, portrait = CORRUPTIONS[name], data.astronaut()
    crops = np.stack([portrait[40 + 6 * n : 40 + 6 * n + side, 180 : 180 + side] for n in range(6)])
    kept, harm = crops.copy(), []
    for level in corruption.levels:
        worse = corrupt(crops, np.arange(6), corruption, level)
        assert (worse.dtype, worse.shape) == (crops.dtype, crops.shape)
        harm.append(np.abs(worse.astype(float) - crops).mean())
    assert 0 < harm[0] < harm[1] < harm[2]
    np.testing.assert_array_equal(crops, kept)


def test_units_of_the_levels():
    grey, index = np.full((4, 60, 60, 3), 128, np.uint8), np.arange(4)
    assert corrupt(grey, index, CORRUPTIONS["noise"], 16).astype(float).std() == pytest.approx(16, rel=0.1)
    assert corrupt(grey, index, CORRUPTIONS["low light"], 25).mean() == pytest.approx(32, rel=0.05)
    covered = corrupt(grey, index, CORRUPTIONS["occlusion"], 20)
    assert (covered != 128).any(axis=3).mean(axis=(1, 2)) == pytest.approx(0.2, rel=0.1)
    lines = np.zeros((1, 64, 64, 3), np.uint8)
    lines[:, :, ::2] = 255
    assert corrupt(lines, index[:1], CORRUPTIONS["down-scaling"], 32).std() < 5
    # An image that is smaller than that already stays as it is.
    np.testing.assert_array_equal(corrupt(lines, index[:1], CORRUPTIONS["down-scaling"], 64), lines)
    bar = np.pad(np.full((1, 40, 8, 3), 255, np.uint8), ((0, 0), (12, 12), (28, 28), (0, 0)))
    rotated = corrupt(bar, index[:1], CORRUPTIONS["rotation"], 30)[0, ..., 0] > 127
    assert rotated.any(axis=0).sum() == pytest.approx(40 * np.sin(np.pi / 6) + 8 * np.cos(np.pi / 6), abs=1.5)


def test_every_level_is_measured_and_tabulated():
    places = [(each.name, level) for each in CORRUPTIONS.values() for level in each.levels]
    clean, *worse = (evaluate_predictions(make_predictions(200, n), resamples=100) for n in range(len(places) + 1))
    found = dict(zip(places, worse, strict=True))
    rows = list(csv.DictReader(io.StringIO(robustness_csv(clean, found))))
    assert [row["corruption"] for row in rows] == ["none", *(name for name, _ in found)]
    scores = [each["accuracy"].value for each in found.values()]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([clean["accuracy"].value, *scores], abs=1e-6)
    assert float(rows[0]["macro_f1"]) == pytest.approx(clean["macro_f1"].value, abs=1e-6)
    assert mean_accuracy(found).value == pytest.approx(np.mean(scores))
    assert plot_robustness(clean, found).startswith(b"\x89PNG")
