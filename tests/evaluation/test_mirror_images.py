"""The mean over a crop and its mirror image."""

import numpy as np
import pytest

from emodet.evaluation.calibration import softmax
from emodet.evaluation.measuring import Answers, Change, with_mirror_images

CROPS = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
FACES = np.arange(5)


def logits_of(crops: np.ndarray) -> np.ndarray:
    """What is left, what is right, what is in the middle: 3 classes."""
    columns = crops.mean(axis=(1, 3), dtype=np.float32) / 40
    return np.stack([columns[:, 0], columns[:, -1], columns[:, 2]], axis=1)


def net(change: Change | None) -> Answers:
    crops = CROPS if change is None else change(CROPS, FACES)
    assert crops.flags.c_contiguous
    return Answers(logits_of(crops), FACES % 3, FACES, "test", crops[:, 0, :2, 0] / np.float32(255))


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
def test_it_is_the_mean_of_both_calibrated_probabilities(temperature: float) -> None:
    both = with_mirror_images(net, temperature)(None)
    views = [softmax(logits_of(view), temperature) for view in (CROPS, CROPS[:, :, ::-1])]
    np.testing.assert_allclose(softmax(both.logits, temperature), (views[0] + views[1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(both.emotion, FACES % 3)
    assert both.valence_arousal is not None
    expected = (CROPS[:, 0, :2, 0] / 255 + CROPS[:, 0, :-3:-1, 0] / 255) / 2
    np.testing.assert_allclose(both.valence_arousal, expected, rtol=1e-5)


def test_a_change_is_made_before_the_mirror_image_is_taken() -> None:
    def left_goes_dark(crops: np.ndarray, index: np.ndarray) -> np.ndarray:
        changed = crops.copy()
        changed[:, :, :3] = index[:, None, None, None]
        return changed

    both = with_mirror_images(net, 1.0)(left_goes_dark)
    dark = left_goes_dark(CROPS, FACES)
    expected = (softmax(logits_of(dark), 1.0) + softmax(logits_of(dark[:, :, ::-1]), 1.0)) / 2
    np.testing.assert_allclose(softmax(both.logits, 1.0), expected, rtol=1e-5)
