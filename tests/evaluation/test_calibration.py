import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emodet.errors import EmodetError
from emodet.evaluation.calibration import (
    TEMPERATURE_RANGE,
    bin_of,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    softmax,
)


def drawn(faces: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth: classes are drawn from it."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (faces, 8))
    shares = softmax(logits)
    emotion = (generator.random((faces, 1)) > np.cumsum(shares, axis=1)).sum(axis=1).clip(0, 7)
    return logits, emotion


def nll(logits: np.ndarray, emotion: np.ndarray, temperature: float) -> float:
    return float(-np.log(softmax(logits, temperature)[np.arange(len(emotion)), emotion]).mean())


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, emotion = drawn(20_000, seed=1)
    assert fit_temperature(logits * temperature, emotion) == pytest.approx(temperature, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.2, 5))
def test_no_other_temperature_has_a_lower_loss(seed: int, scale: float) -> None:
    logits, emotion = drawn(200, seed)
    fitted = fit_temperature(logits * scale, emotion)
    best = nll(logits * scale, emotion, fitted)
    others = np.geomspace(*TEMPERATURE_RANGE, 60)
    assert best <= min(nll(logits * scale, emotion, float(other)) for other in others) + 1e-12


def test_the_fit_agrees_with_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    logits, emotion = drawn(500, seed=3)
    theirs = optimize.minimize_scalar(lambda t: nll(logits * 3, emotion, t), bounds=(0.05, 20), method="bounded")
    assert fit_temperature(logits * 3, emotion) == pytest.approx(float(theirs.x), rel=1e-4)


def test_ends_of_the_range() -> None:
    logits = np.eye(4)[[0, 1, 2, 3]] * 5
    assert fit_temperature(logits, np.array([0, 1, 2, 3])) == TEMPERATURE_RANGE[0]  # always right
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == TEMPERATURE_RANGE[1]  # always wrong
    assert fit_temperature(np.full((3, 4), 2.5), np.array([0, 1, 2])) == 1.0  # nothing to choose by


def test_bfloat_like_large_logits_stay_finite() -> None:
    logits = np.array([[1000.0, -1000.0], [-900.0, 900.0], [500.0, 400.0]], dtype=np.float32)
    assert np.isfinite(fit_temperature(logits, np.array([0, 1, 1])))
    assert np.isfinite(softmax(logits)).all()


@pytest.mark.parametrize(
    ("logits", "emotion", "words"),
    [
        (np.array([[1.0, np.nan]]), np.array([0]), "not finite"),
        (np.zeros((2, 3)), np.array([0]), "shape"),
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "shape"),
        (np.zeros((1, 3)), np.array([3]), "classes"),
    ],
)
def test_logits_that_cannot_be_fitted_are_refused(logits: np.ndarray, emotion: np.ndarray, words: str) -> None:
    with pytest.raises(EmodetError, match=words):
        fit_temperature(logits, emotion)


def test_temperature_zero_is_refused() -> None:
    with pytest.raises(EmodetError, match="temperature=0"):
        softmax(np.zeros((1, 2)), 0)


def test_calibration_error_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.functional.classification")
    logits, emotion = drawn(700, seed=5)
    probabilities = softmax(logits * 2)
    theirs = classification.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(emotion), num_classes=8, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(probabilities, emotion) == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_by_hand() -> None:
    # Two bins: at 0.9, 1 of 2 right (gap 0.4); at 0.6, 2 of 2 right (gap 0.4).
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    assert expected_calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.4)


def test_bins_hold_their_lower_edge_and_the_last_one_holds_1() -> None:
    assert bin_of(np.array([0.0, 1 / 15, 0.999, 1.0])).tolist() == [0, 1, 14, 14]


def test_bins_hold_every_face_once() -> None:
    logits, emotion = drawn(300, seed=2)
    bins = reliability_bins(softmax(logits), emotion)
    assert sum(each.faces for each in bins) == 300
    assert bins[0].faces == 0
    assert bins[0].accuracy is None
    for each in bins:
        assert each.confidence is None or each.low <= each.confidence <= each.high
