"""Outputs averaged over a crop and its mirror image."""

import numpy as np
import pytest

from emodet.evaluation.calibration import softmax
from emodet.evaluation.outputs import SplitOutputs, average_flips

CROPS = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
FACES = np.arange(5)


def logits_of(crops):
    """Left, right and middle column: 3 classes."""
    columns = crops.mean(axis=(1, 3), dtype=np.float32) / 40
    return np.stack([columns[:, 0], columns[:, -1], columns[:, 2]], axis=1)


def predict(transform):
    crops = CROPS if transform is None else transform(CROPS, FACES)
    assert crops.flags.c_contiguous
    return SplitOutputs(logits_of(crops), FACES % 3, FACES, "test", crops[:, 0, :2, 0] / np.float32(255))


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
def test_the_mean_of_both_calibrated_probabilities(temperature):
    both = average_flips(predict, temperature)(None)
    views = [softmax(logits_of(view), temperature) for view in (CROPS, CROPS[:, :, ::-1])]
    np.testing.assert_allclose(softmax(both.logits, temperature), (views[0] + views[1]) / 2, rtol=1e-5)
    dimensions = [view[:, 0, :2, 0] / np.float32(255) for view in (CROPS, CROPS[:, :, ::-1])]
    np.testing.assert_allclose(both.valence_arousal, (dimensions[0] + dimensions[1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(both.index, FACES)


def test_a_change_to_the_crops_comes_before_the_flip():
    both = average_flips(predict, 1.0)(lambda crops, index: crops // 2)
    dark = CROPS // 2
    expected = (softmax(logits_of(dark), 1.0) + softmax(logits_of(dark[:, :, ::-1]), 1.0)) / 2
    np.testing.assert_allclose(softmax(both.logits, 1.0), expected, rtol=1e-5)
