"""Temperature scaling and calibration error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emodet.errors import EmodetError
from emodet.evaluation.calibration import (
    TEMPERATURE_RANGE,
    bin_of,
    confidence_for,
    fit_temperature,
    fit_temperature_by_strength,
    reliability_bins,
    softmax,
)


def drawn(faces, seed):
    """Logits whose softmax is true: classes are drawn from it."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (faces, 8))
    emotion = (generator.random((faces, 1)) > np.cumsum(softmax(logits), axis=1)).sum(axis=1).clip(0, 7)
    return logits, emotion


def nll(logits, emotion, temperature):
    return float(-np.log(softmax(logits, temperature)[np.arange(len(emotion)), emotion]).mean())


def test_a_temperature_that_follows_the_strength_is_recovered():
    logits, emotion = drawn(20_000, seed=1)
    strength = np.random.default_rng(2).uniform(0.2, 0.6, len(logits))
    found = fit_temperature_by_strength(logits * (0.5 * strength**-1.2)[:, None], emotion, strength)
    assert found == pytest.approx((0.5, -1.2), abs=0.04)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.2, 5))
def test_no_other_temperature_has_a_lower_loss(seed, scale):
    logits, emotion = drawn(200, seed)
    best = nll(logits * scale, emotion, fit_temperature(logits * scale, emotion))
    others = np.geomspace(*TEMPERATURE_RANGE, 60)
    assert best <= min(nll(logits * scale, emotion, float(other)) for other in others) + 1e-12


def test_ends_of_the_range_and_large_logits():
    logits = np.eye(4) * 5
    assert fit_temperature(logits, np.array([0, 1, 2, 3])) == TEMPERATURE_RANGE[0]  # always correct
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == TEMPERATURE_RANGE[1]  # always wrong
    assert fit_temperature(np.full((3, 4), 2.5), np.array([0, 1, 2])) == 1.0  # makes no difference
    large = np.array([[1000.0, -1000.0], [-900.0, 900.0], [500.0, 400.0]], dtype=np.float32)
    assert np.isfinite(fit_temperature(large, np.array([0, 1, 1])))
    assert np.isfinite(softmax(large)).all()


@pytest.mark.parametrize(
    ("logits", "emotion", "words"),
    [
        (np.array([[1.0, np.nan]]), np.array([0]), "logits: 1 of 1"),
        (np.zeros((2, 3)), np.array([0]), "shape"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "shape"),
        (np.zeros((1, 3)), np.array([3]), "emotion: "),
    ],
)
def test_logits_that_cannot_be_fitted_are_refused(logits, emotion, words):
    with pytest.raises(EmodetError, match=words):
        fit_temperature(logits, emotion)
    with pytest.raises(EmodetError, match="temperature=0"):
        softmax(np.zeros((1, 2)), 0)


def test_the_least_confidence_that_is_right_often_enough_and_one_bin_for_each_face():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3], [0.4, 0.6]])
    emotion = np.array([0, 0, 0, 1, 1])
    assert confidence_for(probabilities, emotion, 0.95) == 0.8  # of the two at 0.7 one is wrong
    assert confidence_for(probabilities, emotion, 0.75) == 0.6
    assert confidence_for(probabilities, 1 - emotion, 0.95) is None
    assert bin_of(np.array([0.0, 1 / 15, 0.999, 1.0])).tolist() == [0, 1, 14, 14]
    logits, emotion = drawn(300, seed=2)
    bins = reliability_bins(softmax(logits), emotion)
    assert sum(each.faces for each in bins) == 300
    assert (bins[0].faces, bins[0].accuracy) == (0, None)
    assert all(each.low <= each.confidence <= each.high for each in bins if each.faces)
