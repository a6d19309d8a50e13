import json

import numpy as np
import pytest
from made_answers import make_predictions

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.statistics import evaluate_predictions, format_table


@pytest.fixture
def predictions() -> Predictions:
    return make_predictions()


def certain(emotion: list[int], answer: list[int], names: tuple[str, ...] = EMOTIONS, **changes: object) -> Predictions:
    """Answers at 90 %."""
    rows = np.full((len(answer), len(names)), 0.1 / (len(names) - 1))
    rows[np.arange(len(answer)), answer] = 0.9
    keys = [str(index) for index in range(len(answer))]
    return Predictions(  # type: ignore[arg-type]
        keys=keys, emotion=np.array(emotion), probabilities=rows, class_names=names, split="val", data="d", **changes
    )


def test_figures_agree_with_scikit_learn(predictions: Predictions) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    found = evaluate_predictions(predictions, resamples=0)
    true, answer = predictions.emotion, predictions.predicted
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(true, answer))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(true, answer, average="macro", zero_division=0))
    assert found.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(true, answer))
    assert found.calibrated.nll.value == pytest.approx(
        metrics.log_loss(true, predictions.probabilities, labels=range(8))
    )
    assert found.confusion.tolist() == metrics.confusion_matrix(true, answer, labels=range(8)).tolist()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, answer, labels=range(8), zero_division=0
    )
    for k, row in enumerate(found.per_class):
        assert (row.faces, row.recall.value, row.f1) == (support[k], pytest.approx(recall[k]), pytest.approx(f1[k]))
        assert (row.precision or 0) == pytest.approx(precision[k])


def test_figures_agree_with_torchmetrics(predictions: Predictions) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    found = evaluate_predictions(predictions, resamples=0)
    assert predictions.uncalibrated is not None
    for rows, scores in (
        (predictions.probabilities, found.calibrated),
        (predictions.uncalibrated, found.uncalibrated),
    ):
        assert scores is not None
        error = theirs.multiclass_calibration_error(torch.from_numpy(rows), torch.from_numpy(predictions.emotion), 8)
        assert scores.ece.value == pytest.approx(float(error), abs=1e-6)
    shares, true = torch.from_numpy(predictions.probabilities), torch.from_numpy(predictions.emotion)
    assert found.macro_f1.value == pytest.approx(
        float(theirs.multiclass_f1_score(shares, true, 8, average="macro")), abs=1e-6
    )


def test_brier_score_by_hand() -> None:
    rows = np.array([[0.8, 0.2], [0.6, 0.4]])
    answers = Predictions(
        keys=["a", "b"], emotion=np.array([0, 1]), probabilities=rows, class_names=("x", "y"), split="val", data="d"
    )
    expected = ((0.2**2 + 0.2**2) + (0.6**2 + 0.6**2)) / 2
    assert evaluate_predictions(answers).calibrated.brier.value == pytest.approx(expected)


def test_a_second_run_gives_the_same_and_another_seed_does_not(predictions: Predictions) -> None:
    first, again, other = (evaluate_predictions(predictions, resamples=300, seed=seed) for seed in (7, 7, 8))
    assert first.as_dict() == again.as_dict()
    assert first.accuracy != other.accuracy
    assert first.accuracy.value == other.accuracy.value


def test_intervals_hold_their_figure(predictions: Predictions) -> None:
    found = evaluate_predictions(predictions)
    scores = [found.accuracy, found.macro_f1, found.balanced_accuracy]
    scores += [found.calibrated.nll, found.calibrated.ece, found.calibrated.brier]
    scores += [row.recall for row in found.per_class] + [point.accuracy for point in found.coverage]
    for each in scores:
        assert each.low is not None
        assert each.value is not None
        assert each.high is not None
        assert each.low <= each.value <= each.high


def test_the_accuracys_interval_is_the_binomial_one() -> None:
    found = evaluate_predictions(make_predictions(2000), resamples=4000).accuracy
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 2000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        right = generator.random(150) < 0.7
        emotion = generator.integers(0, 2, 150)
        answers = certain(emotion.tolist(), np.where(right, emotion, 1 - emotion).tolist(), ("x", "y"))
        found = evaluate_predictions(answers, resamples=400, seed=trial).accuracy
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.7 <= found.high
    assert 180 <= held <= 199


def test_nothing_found_still_has_an_upper_end() -> None:
    # 0 of 24: resampling would say [0, 0]; Wilson's score interval says up to 13.8 %.
    found = evaluate_predictions(certain([0] * 76 + [7] * 24, [0] * 100))
    contempt = found.per_class[7]
    assert contempt.recall.method == "wilson"
    assert (contempt.recall.value, contempt.recall.low) == (0.0, 0.0)
    assert contempt.recall.high == pytest.approx(0.1380, abs=1e-4)
    assert contempt.precision is None
    assert contempt.f1 == 0.0
    assert any("contempt" in note and "Never" in note for note in found.notes)


def test_all_right_has_no_interval_of_width_0() -> None:
    found = evaluate_predictions(certain([0, 1, 2] * 10, [0, 1, 2] * 10, ("x", "y", "z")))
    assert found.accuracy.method == "wilson"
    assert found.accuracy.low == pytest.approx(0.8865, abs=1e-3)
    assert found.macro_f1.value == 1.0
    assert found.macro_f1.low is None


def test_a_class_without_faces_is_left_out_of_the_means_and_said() -> None:
    found = evaluate_predictions(certain([0, 0, 1, 1], [0, 1, 1, 2], ("x", "y", "z")))
    assert found.per_class[2].recall.value is None
    assert found.per_class[2].f1 is None
    assert found.balanced_accuracy.value == pytest.approx((0.5 + 0.5) / 2)
    assert found.macro_f1.value == pytest.approx((2 / 3 + 0.5) / 2)
    assert any("No faces of z" in note for note in found.notes)
    json.dumps(found.as_dict(), allow_nan=False)
    assert "–" in format_table(found)


def test_groups_are_resampled_as_wholes() -> None:
    # 10 people with 30 faces each, all right or all wrong: there are 10 observations, not 300.
    groups = [str(person) for person in range(10) for _ in range(30)]
    answer = [0 if person < 6 else 1 for person in range(10) for _ in range(30)]
    alone = evaluate_predictions(certain([0] * 300, answer, ("x", "y"))).accuracy
    together = evaluate_predictions(certain([0] * 300, answer, ("x", "y"), groups=groups)).accuracy
    assert together.value == alone.value
    widths = [each.high - each.low for each in (alone, together) if each.high is not None and each.low is not None]
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(30), rel=0.2)


def test_a_face_of_unknown_group_stands_alone() -> None:
    answers, none = make_predictions(200), make_predictions(200, groups=[None] * 200)
    assert evaluate_predictions(answers).accuracy == evaluate_predictions(none).accuracy
    mixed = make_predictions(200, groups=[None] * 100 + ["0"] * 100)
    assert evaluate_predictions(mixed).resampled == "whole groups (subjects)"


def test_coverage_answers_the_surest() -> None:
    confidence = np.linspace(0.99, 0.5, 10)
    rows = np.stack([confidence, 1 - confidence], axis=1)
    emotion = np.array([0] * 7 + [1] * 3)  # the three least sure are wrong
    answers = Predictions(
        keys=[str(i) for i in range(10)],
        emotion=emotion,
        probabilities=rows,
        class_names=("x", "y"),
        split="v",
        data="d",
    )
    found = {point.asked: point for point in evaluate_predictions(answers).coverage}
    assert found[1.0].accuracy.value == pytest.approx(0.7)
    assert found[0.7].accuracy.value == 1.0
    assert found[0.7].threshold == confidence[6]
    assert found[0.8].accuracy.value == pytest.approx(7 / 8)


def test_coverage_with_ties_reports_what_it_really_answers() -> None:
    found = evaluate_predictions(certain([0, 0, 1, 1], [0, 0, 1, 0], ("x", "y")))
    assert [point.coverage for point in found.coverage] == [1.0] * 5


def test_a_calibrated_net_is_told_from_one_that_is_too_sure(predictions: Predictions) -> None:
    found = evaluate_predictions(predictions)
    assert found.uncalibrated is not None
    assert found.uncalibrated.nll.value != found.calibrated.nll.value
    assert evaluate_predictions(make_predictions(uncalibrated=None)).uncalibrated is None


def test_a_probability_of_0_keeps_the_loss_finite() -> None:
    answers = Predictions(
        keys=["a"],
        emotion=np.array([1]),
        probabilities=np.array([[1.0, 0.0]]),
        class_names=("x", "y"),
        split="v",
        data="d",
    )
    assert evaluate_predictions(answers).calibrated.nll.value == pytest.approx(-np.log(1e-12))


def test_one_face_is_enough() -> None:
    found = evaluate_predictions(certain([3], [3]))
    assert found.accuracy.value == 1.0
    assert found.accuracy.low == pytest.approx(0.2065, abs=1e-3)


def test_the_table_names_split_faces_and_intervals(predictions: Predictions) -> None:
    table = format_table(evaluate_predictions(predictions, resamples=100))
    assert table.startswith("Made faces, split val: 600 faces")
    for word in (*EMOTIONS, "macro F1", "100 resamples", "calibration error"):
        assert word in table
    assert max(map(len, table.splitlines())) <= 90
    assert "No intervals" in format_table(evaluate_predictions(predictions, resamples=0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"emotion": np.array([0, 8])}, "no id of 8 classes"),
        ({"emotion": np.array([0.0, 1.0])}, "whole number"),
        ({"emotion": np.array([0])}, "whole number"),
        ({"probabilities": np.zeros((2, 8))}, "softmax first"),
        ({"probabilities": np.full((2, 8), np.nan)}, "softmax first"),
        ({"probabilities": np.full((2, 7), 1 / 7)}, "shape"),
        ({"groups": ["a"]}, "groups"),
        ({"class_names": ("x",) * 8}, "different names"),
        ({"keys": []}, "no faces"),
    ],
)
def test_answers_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    good: dict[str, object] = {
        "keys": ["a", "b"],
        "emotion": np.array([0, 1]),
        "probabilities": softmax(np.zeros((2, 8))),
        "class_names": EMOTIONS,
        "split": "val",
        "data": "d",
    }
    with pytest.raises(EmodetError, match=words):
        Predictions(**{**good, **changes})  # type: ignore[arg-type]


def test_fewer_than_no_resamples_are_refused(predictions: Predictions) -> None:
    with pytest.raises(EmodetError, match="resamples=-1"):
        evaluate_predictions(predictions, resamples=-1)


def test_the_calibration_errors_interval_is_not_pushed_up_by_the_resampling() -> None:
    # A net whose confidence is true: plain percentiles of the resamples all lie above the small error measured.
    generator = np.random.default_rng(3)
    shares = softmax(generator.normal(0, 1.5, (400, 4)))
    emotion = (generator.random((400, 1)) > np.cumsum(shares, axis=1)).sum(axis=1).clip(0, 3)
    answers = Predictions(
        keys=[str(i) for i in range(400)],
        emotion=emotion,
        probabilities=shares,
        class_names=("w", "x", "y", "z"),
        split="v",
        data="d",
    )
    error = evaluate_predictions(answers).calibrated.ece
    assert error.value is not None
    assert error.low is not None
    assert error.high is not None
    assert error.method == "centred bootstrap"
    assert error.value - error.low == pytest.approx(error.high - error.value, rel=0.35)


def test_each_data_set_of_a_mix_has_the_figures_that_its_faces_have_alone() -> None:
    sources = ["rafdb" if index % 3 else "affectnet8" for index in range(600)]
    mixed = make_predictions(sources=sources)
    found = evaluate_predictions(mixed, resamples=50)
    assert [row.name for row in found.per_source] == ["affectnet8", "rafdb"]
    assert sum(row.faces for row in found.per_source) == 600
    for row in found.per_source:
        here = np.array(sources) == row.name
        alone = evaluate_predictions(
            make_predictions(
                keys=[key for key, wanted in zip(mixed.keys, here, strict=True) if wanted],
                emotion=mixed.emotion[here],
                probabilities=mixed.probabilities[here],
                uncalibrated=None,
            ),
            resamples=50,
        )
        assert (row.accuracy, row.macro_f1, row.faces) == (alone.accuracy, alone.macro_f1, alone.faces)
        assert found.as_dict()["metrics"][f"accuracy/{row.name}"]["value"] == alone.accuracy.value
    table = format_table(found)
    assert "\ndata set " in table
    assert "\naffectnet8 " in table


def test_one_data_set_has_no_table_of_data_sets(predictions: Predictions) -> None:
    found = evaluate_predictions(predictions, resamples=0)
    assert found.per_source == ()
    assert "per_source" not in found.as_dict()
    assert "data set" not in format_table(found)


def test_sources_are_one_for_each_face() -> None:
    with pytest.raises(EmodetError, match="sources: 1 of them for 600 faces"):
        make_predictions(sources=["a"])
