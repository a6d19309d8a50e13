"""One table of scores, whose figures `tests/golden` pins to nine digits; temperature scaling and calibration error."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import make_predictions, with_dimensions

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.calibration import (
    TEMPERATURE_RANGE,
    confidence_for,
    fit_temperature,
    fit_temperature_by_strength,
    reliability_bins,
    softmax,
)
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import COVERAGES, evaluate_predictions
from emodet.evaluation.table import format_table


def of(emotion, probabilities, names=("x", "y"), **changes):
    keys = [str(index) for index in range(len(emotion))]
    values = {"emotion": np.array(emotion), "probabilities": np.array(probabilities, dtype=float), "class_names": names}
    return Predictions(keys=keys, split="val", data="d", **values, **changes)


def certain(emotion, predicted, names=EMOTIONS, **changes):
    rows = np.full((len(predicted), len(names)), 0.1 / (len(names) - 1))
    rows[np.arange(len(predicted)), predicted] = 0.9
    return of(emotion, rows, names, **changes)


def test_class_and_probability_scores_agree_with_scikit_learn_and_by_hand():
    metrics = pytest.importorskip("sklearn.metrics")
    predictions = make_predictions()
    found = evaluate_predictions(predictions, resamples=0)
    true, predicted = predictions.emotion, predictions.predicted
    expected = {
        "accuracy": metrics.accuracy_score(true, predicted),
        "macro_f1": metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "balanced_accuracy": metrics.balanced_accuracy_score(true, predicted),
        "nll": metrics.log_loss(true, predictions.probabilities, labels=range(8)),
    }
    each = metrics.precision_recall_fscore_support(true, predicted, labels=range(8), zero_division=0)
    for k, name in enumerate(EMOTIONS):
        expected |= {f"{metric}/{name}": each[n][k] for n, metric in enumerate(("precision", "recall", "f1"))}
        assert found[f"recall/{name}"].n == each[3][k]
    assert {name: found[name].value or 0.0 for name in expected} == pytest.approx(expected)
    assert found.confusion.tolist() == metrics.confusion_matrix(true, predicted, labels=range(8)).tolist()
    by_hand = evaluate_predictions(of([0, 1], [[0.8, 0.2], [0.6, 0.4]]), resamples=0)
    assert by_hand["brier"].value == pytest.approx(((0.2**2 + 0.2**2) + (0.6**2 + 0.6**2)) / 2)
    impossible = evaluate_predictions(of([1], [[1.0, 0.0]]), resamples=0)
    assert impossible["nll"].value == pytest.approx(-np.log(1e-12))


def test_intervals_of_0_and_1_are_wilson_s_and_classes_without_faces_are_in_no_mean():
    found = evaluate_predictions(certain([0] * 76 + [7] * 24, [0] * 100))
    recall = found["recall/contempt"]
    assert (recall.value, recall.low, recall.high) == (0.0, 0.0, pytest.approx(0.1380, abs=1e-4))
    assert (found["precision/contempt"].value, found["f1/contempt"].value) == (None, 0.0)
    assert any("never predicted contempt" in note for note in found.notes)
    alright = evaluate_predictions(certain([0, 1, 2] * 10, [0, 1, 2] * 10, ("x", "y", "z")))
    assert alright["accuracy"].low == pytest.approx(0.8865, abs=1e-3)
    assert (alright["macro_f1"].value, alright["macro_f1"].low) == (1.0, None)
    assert evaluate_predictions(certain([3], [3]))["accuracy"].low == pytest.approx(0.2065, abs=1e-3)
    found = evaluate_predictions(certain([0, 0, 1, 1], [0, 1, 1, 2], ("x", "y", "z")))
    assert (found["recall/z"].value, found["f1/z"].value, found["precision/z"].value) == (None, None, 0.0)
    assert found["balanced_accuracy"].value == pytest.approx((0.5 + 0.5) / 2)
    assert found["macro_f1"].value == pytest.approx((2 / 3 + 0.5) / 2)
    assert any("no faces of z" in note for note in found.notes)
    json.dumps(found.as_dict(), allow_nan=False)
    assert "–" in format_table(found)


def test_groups_are_resampled_as_wholes():
    # 10 people with 30 faces each, all right or all wrong: there are 10 observations, not 300.
    people = [str(person) for person in range(10) for _ in range(30)]
    predicted = [0 if person < 6 else 1 for person in range(10) for _ in range(30)]
    widths = []
    for groups in (None, people):
        score = evaluate_predictions(certain([0] * 300, predicted, ("x", "y"), groups=groups))["accuracy"]
        widths.append(score.high - score.low)
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(30), rel=0.2)
    # A face of unknown group is a group of its own.
    alone, unknown = (evaluate_predictions(make_predictions(200, groups=groups)) for groups in (None, [None] * 200))
    assert alone["accuracy"] == unknown["accuracy"]
    assert "groups" in evaluate_predictions(make_predictions(200, groups=[None] * 100 + ["0"] * 100)).unit


def test_coverage_takes_the_most_confident_faces():
    confidence = np.linspace(0.99, 0.5, 10)
    rows = np.stack([confidence, 1 - confidence], axis=1)
    found = evaluate_predictions(of([0] * 7 + [1] * 3, rows))  # the three least confident are wrong
    values = [(found[f"coverage@{share:g}"].value, found[f"accuracy@{share:g}"].value) for share in COVERAGES]
    assert values == [pytest.approx(pair) for pair in ((1, 0.7), (0.9, 7 / 9), (0.8, 7 / 8), (0.7, 1), (0.5, 1))]
    assert found["threshold@0.7"].value == confidence[6]
    ties = evaluate_predictions(certain([0, 0, 1, 1], [0, 0, 1, 0], ("x", "y")))
    assert {ties[f"coverage@{share:g}"].value for share in COVERAGES} == {1.0}
    assert format_table(ties).count("\n100.0 % ") == 1  # five equal rows are one


def test_the_text_table_names_split_faces_and_intervals():
    table = format_table(evaluate_predictions(with_dimensions(), resamples=100))
    for word in (*EMOTIONS, "Made faces", "split val", "300 faces", "macro F1", "100 resamples", "valence", "arousal"):
        assert word in table
    assert max(map(len, table.splitlines()[:-4])) <= 80
    unknown = with_dimensions(annotated=np.full((300, 2), np.nan))
    for note in ("No intervals", "no face of this split has them annotated"):
        assert note in format_table(evaluate_predictions(unknown, resamples=0))


# Temperature scaling and calibration error.


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


@settings(max_examples=25)
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
    ("call", "words"),
    [
        (lambda: make_predictions(2, probabilities=np.zeros((2, 8))), "softmax"),
        (lambda: make_predictions(2, probabilities=np.full((2, 8), np.nan)), "softmax"),
        (lambda: make_predictions(2, keys=[]), "no faces"),
        (lambda: fit_temperature(np.array([[1.0, np.nan]]), np.array([0])), "logits: 1 of 1"),
        (lambda: softmax(np.zeros((1, 2)), 0), "temperature=0"),
    ],
)
def test_invalid_predictions_and_logits(call, words):
    with pytest.raises(EmodetError, match=words):
        call()


def test_the_threshold_for_an_accuracy_and_reliability_bins():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3], [0.4, 0.6]])
    emotion = np.array([0, 0, 0, 1, 1])
    assert confidence_for(probabilities, emotion, 0.95) == 0.8  # of the two at 0.7 one is wrong
    assert confidence_for(probabilities, emotion, 0.75) == 0.6
    assert confidence_for(probabilities, 1 - emotion, 0.95) is None
    logits, emotion = drawn(300, seed=2)
    bins = reliability_bins(softmax(logits), emotion)
    assert sum(each.faces for each in bins) == 300
    assert (bins[0].faces, bins[0].accuracy) == (0, None)
    assert all(each.low <= each.confidence <= each.high for each in bins if each.faces)
