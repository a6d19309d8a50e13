"""Parity checks at their limits, speed, and the report."""

import time

import numpy as np
import pytest

from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.export.parity import difference_checks, measure_speed, row_sum_check, score_checks, speed_checks

HALF = np.full((3, 2), 0.5)


def scores(right, faces=1000):
    """Over two classes, so many faces right."""
    values = {"keys": range(faces), "class_names": ("a", "b"), "split": "val", "data": "made"}
    emotion, probabilities = np.where(np.arange(faces) < right, 0, 1), np.tile([0.7, 0.3], (faces, 1))
    return evaluate_predictions(Predictions(emotion=emotion, probabilities=probabilities, **values), resamples=0)


@pytest.mark.parametrize(("lost", "verdict"), [(-3, "passed"), (0, "passed"), (5, "passed"), (6, "failed")])
def test_half_a_point_of_accuracy_may_be_lost_and_no_face_more(lost, verdict):
    accuracy, check = score_checks("int8", scores(900 - lost), scores(900))
    assert (accuracy.verdict, accuracy.value) == ("recorded", (900 - lost) / 1000)
    assert (check.verdict, check.value, check.faces) == (verdict, pytest.approx(lost / 1000), 1000)


@pytest.mark.parametrize(
    ("part", "difference", "verdict"),
    [(0, 0.0, "passed"), (0, 9e-6, "passed"), (0, 2e-5, "failed"), (1, 9e-5, "passed"), (1, 2e-4, "failed")],
)
def test_unquantised_outputs_may_differ_little(part, difference, verdict):
    found = [HALF.copy(), HALF.copy()]
    found[part][1, 0] -= difference
    check = difference_checks("fp32", (HALF, HALF), tuple(found), limited=True)[part]
    assert (check.verdict, check.value) == (verdict, pytest.approx(difference))


def test_values_that_are_not_finite_fail_everything():
    broken = np.full((3, 2), np.nan)
    for limited in (True, False):
        checks = difference_checks("fp32", (HALF, HALF), (broken, broken), limited=limited)
        assert [check.verdict for check in checks] == ["failed", "failed"]
    assert row_sum_check("int8", broken).verdict == "failed"


def test_slower_than_fp32_is_a_warning():
    medians = {("fp32", 1): 2.0, ("int8", 1): 2.5, ("fp32", 32): 40.0, ("int8", 32): 10.0}
    *recorded, one, many = speed_checks(medians)
    assert [check.value for check in recorded] == list(medians.values())
    assert (one.verdict, one.value) == ("warning", pytest.approx(1.25))
    assert (many.verdict, many.value) == ("recorded", pytest.approx(0.25))


class SleepingModel:
    def __init__(self, seconds):
        self.seconds, self.batches = seconds, []

    def run(self, crops, *, batch_size):
        assert len(crops) == batch_size
        self.batches.append(batch_size)
        time.sleep(self.seconds)


def test_speed_is_the_median_after_two_warm_up_calls():
    quick, slow = SleepingModel(0.001), SleepingModel(0.004)
    crops = np.zeros((5, 8, 8, 3), dtype=np.uint8)
    speeds = measure_speed({"a": quick, "b": slow}, crops)
    assert set(speeds) == {("a", 1), ("a", 32), ("b", 1), ("b", 32)}
    assert speeds["b", 1] > 2 * speeds["a", 1]
    assert quick.batches.count(1) == slow.batches.count(1) > 2
