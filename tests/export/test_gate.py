"""The gate's limits, at their edges."""

import json

import numpy as np
import pytest

from emodet.evaluation.outputs import SplitOutputs
from emodet.export.gate import (
    Gate,
    Speed,
    accuracy_check,
    difference_check,
    machine,
    measure_speed,
    row_sum_check,
    speed_check,
)


def answers(right: int, faces: int = 1000) -> SplitOutputs:
    """Of so many faces so many right, over two classes."""
    logits = np.zeros((faces, 2), dtype=np.float32)
    logits[:, 0] = 1
    emotion = np.where(np.arange(faces) < right, 0, 1)
    return SplitOutputs(logits, emotion, np.arange(faces), "val")


@pytest.mark.parametrize(("lost", "verdict"), [(-3, "passed"), (0, "passed"), (5, "passed"), (6, "failed")])
def test_half_a_point_of_accuracy_may_be_lost_and_no_face_more(lost, verdict):
    check = accuracy_check("int8", answers(900), answers(900 - lost))
    assert check.verdict == verdict
    assert check.value == pytest.approx(lost / 1000)
    assert check.faces == 1000


@pytest.mark.parametrize(("difference", "verdict"), [(0.0, "passed"), (9e-6, "passed"), (2e-5, "failed")])
def test_an_unquantised_file_may_differ_by_a_hundred_thousandth(difference, verdict):
    expected = np.full((3, 2), 0.5)
    found = expected.copy()
    found[1, 0] -= difference
    check = difference_check("fp32", expected, found, limited=True)
    assert check.verdict == verdict
    assert check.value == pytest.approx(difference)


def test_a_quantised_file_s_difference_is_written_down_not_judged():
    check = difference_check("int8", np.full((3, 2), 0.5), np.full((3, 2), 0.3), limited=False)
    assert (check.verdict, check.value, check.limit) == ("recorded", pytest.approx(0.2), None)


def test_not_a_number_passes_nothing():
    broken = np.full((3, 2), np.nan)
    assert difference_check("fp32", np.full((3, 2), 0.5), broken, limited=True).verdict == "failed"
    assert difference_check("int8", np.full((3, 2), 0.5), broken, limited=False).verdict == "failed"
    assert row_sum_check("int8", broken).verdict == "failed"


def test_rows_that_do_not_sum_to_one_fail():
    assert row_sum_check("int8", np.array([[0.25, 0.75], [0.5, 0.5]])).verdict == "passed"
    assert row_sum_check("int8", np.array([[0.25, 0.75], [0.5, 0.504]])).verdict == "failed"


def test_slower_than_fp32_is_a_warning_at_the_batch_where_it_is():
    speeds = [
        Speed("fp32", 1, 2.0, 500, 9),
        Speed("int8", 1, 2.5, 400, 9),
        Speed("fp32", 32, 40.0, 800, 9),
        Speed("int8", 32, 10.0, 3200, 9),
    ]
    one, many = speed_check("int8", speeds)
    assert (one.verdict, one.value) == ("warning", pytest.approx(1.25))
    assert (many.verdict, many.value) == ("recorded", pytest.approx(0.25))


class Sleeper:
    """Stands for a model file: takes a time per call, and notes the batches."""

    def __init__(self, seconds):
        self.seconds, self.batches = seconds, []

    def run(self, crops, *, batch_size):
        import time

        assert len(crops) == batch_size
        self.batches.append(batch_size)
        time.sleep(self.seconds)


def test_speed_is_the_median_of_calls_that_take_turns_after_two_that_do_not_count():
    quick, slow = Sleeper(0.001), Sleeper(0.004)
    crops = np.zeros((5, 8, 8, 3), dtype=np.uint8)
    speeds = {(each.file, each.batch): each for each in measure_speed({"a": quick, "b": slow}, crops)}
    assert set(speeds) == {("a", 1), ("a", 32), ("b", 1), ("b", 32)}
    assert speeds["b", 1].median_ms > 2 * speeds["a", 1].median_ms
    assert speeds["b", 32].faces_per_s == pytest.approx(32_000 / speeds["b", 32].median_ms)
    assert quick.batches.count(1) == speeds["a", 1].rounds + 2 == slow.batches.count(1)


def test_table_and_json_say_the_same():
    check = accuracy_check("int8", answers(900), answers(800))
    gate = Gate(
        checks=(check,),
        speeds=(Speed("fp32", 1, 2.0, 500.0, 9),),
        threads=2,
        machine=machine(),
        compared_on="512 faces",
        judged_on="",
        written={"int8": False},
        default=None,
    )
    table = gate.table()
    assert "FAILED" in table
    assert "0.1000" in table
    assert "2 threads" in table
    stored = json.loads(json.dumps(gate.as_dict()))
    assert stored["checks"][0]["value"] == pytest.approx(0.1)
    assert stored["machine"]["onnxruntime"]
