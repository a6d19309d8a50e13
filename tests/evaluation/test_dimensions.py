"""Valence and arousal in an evaluation: figures, intervals, notes, rows, picture, page; none where there are none."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from made_answers import make_predictions

from emodet.errors import EmodetError
from emodet.evaluation.plots import plot_valence_arousal
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import write_report
from emodet.evaluation.statistics import Evaluation, evaluate_predictions, format_table
from emodet.training.tracker import final_figures

Floats = npt.NDArray[np.float64]


def both(faces: int, seed: int = 1, unknown: float = 0.3) -> tuple[Floats, Floats]:
    """What is said, and what was annotated, for so many faces; a share of them without annotation."""
    random = np.random.default_rng(seed)
    annotated = random.uniform(-1, 1, (faces, 2))
    said = np.tanh(0.8 * annotated + random.normal(0, [0.2, 0.5], (faces, 2)))
    annotated[random.random(faces) < unknown] = np.nan
    return said, annotated


def made(faces: int = 300, **changes: Any) -> Predictions:
    said, annotated = both(faces)
    return make_predictions(faces, **{"valence_arousal": said, "annotated": annotated, **changes})


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    return made()


@pytest.fixture(scope="module")
def evaluation(predictions: Predictions) -> Evaluation:
    return evaluate_predictions(predictions, resamples=300)


def of(predictions: Predictions, number: int) -> tuple[Floats, Floats]:
    assert predictions.valence_arousal is not None
    assert predictions.annotated is not None
    known = np.isfinite(predictions.annotated[:, number])
    return np.asarray(predictions.valence_arousal[known, number]), np.asarray(predictions.annotated[known, number])


def test_the_figures_are_those_of_the_annotated_faces(predictions: Predictions, evaluation: Evaluation) -> None:
    assert [row.name for row in evaluation.per_dimension] == ["valence", "arousal"]
    for number, row in enumerate(evaluation.per_dimension):
        x, y = of(predictions, number)
        ccc = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert row.faces == len(x) < 300
        assert row.ccc.value == pytest.approx(ccc, abs=1e-9)
        assert row.rmse.value == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-9)
        assert row.sagr.value == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    assert any("valence (" in note and "annotated" in note for note in evaluation.notes)
    # The classes are measured as without.
    assert evaluation.accuracy == evaluate_predictions(make_predictions(300), resamples=300).accuracy


def test_the_intervals_are_the_bootstrap_s(predictions: Predictions, evaluation: Evaluation) -> None:
    x, y = of(predictions, 1)
    random = np.random.default_rng(7)
    drawn = []
    for _ in range(1000):
        rows = random.integers(0, len(x), len(x))
        a, b = x[rows], y[rows]
        drawn.append(2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))
    low, high = np.percentile(drawn, (2.5, 97.5))
    found = evaluation.per_dimension[1].ccc
    assert found.method == "bootstrap"
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_every_list_of_figures_has_them(evaluation: Evaluation) -> None:
    figures, plain = final_figures("report", evaluation), evaluation.as_dict()
    for name, estimate in evaluation.agreements().items():
        assert plain["metrics"][name]["value"] == estimate.value
        assert figures[f"report/{name}"] == estimate.value
        assert figures[f"report/{name}/low"] == estimate.low
    assert [row["name"] for row in plain["per_dimension"]] == ["valence", "arousal"]
    table = format_table(evaluation)
    assert re.search(rf"\nvalence +{evaluation.per_dimension[0].faces} ", table)
    assert max(map(len, table.splitlines()[:32])) <= 80


def test_without_the_head_or_without_annotations_there_are_none(tmp_path: Path) -> None:
    plain = evaluate_predictions(make_predictions(60), resamples=0)
    unknown = evaluate_predictions(made(60, annotated=np.full((60, 2), np.nan)), resamples=0)
    for evaluation in (plain, unknown):
        assert evaluation.per_dimension == ()
        assert "ccc_valence" not in evaluation.as_dict()["metrics"]
        assert "valence " not in format_table(evaluation).replace("valence and", "")
    assert not any("valence" in note for note in plain.notes)
    assert any("no face of this split has them annotated" in note for note in unknown.notes)
    with pytest.raises(EmodetError, match="no face"):
        plot_valence_arousal(make_predictions(60), plain)


def test_one_of_both_alone_can_be_annotated() -> None:
    said, annotated = both(60)
    annotated[:, 1] = np.nan
    found = evaluate_predictions(made(60, valence_arousal=said, annotated=annotated), resamples=20)
    assert [row.name for row in found.per_dimension] == ["valence"]
    assert plot_valence_arousal(made(60, valence_arousal=said, annotated=annotated), found).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotated": None}, "both are needed"),
        ({"valence_arousal": np.zeros((60, 3))}, r"valence_arousal: shape \(60, 3\)"),
        ({"valence_arousal": np.full((60, 2), np.nan)}, "not finite"),
        ({"annotated": np.full((60, 2), -2.0)}, r"annotated: \[-2.0, -2.0\] at face 0; -1 to 1"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EmodetError, match=message):
        made(60, **changes)


def test_the_data_sets_of_a_mix_keep_their_own() -> None:
    faces = made(60, sources=["a", "b"] * 30)
    own = faces.of_source("b")
    assert own.valence_arousal is not None
    np.testing.assert_array_equal(own.valence_arousal, faces.valence_arousal[1::2])  # type: ignore[index]


def test_the_report_shows_them(
    predictions: Predictions, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    for name in ("plot_confusion", "plot_reliability", "plot_per_class", "plot_coverage"):
        monkeypatch.setattr(f"emodet.evaluation.report.{name}", lambda *_, **__: png)
    page = write_report(evaluation, predictions, None, tmp_path / "report", details={}, errors=0).read_text()
    assert page.count('href="#dimensions"') == page.count('id="dimensions"') == 1
    assert f"{evaluation.per_dimension[0].ccc.value:.3f}" in page
    picture = cv2.imread(str(tmp_path / "report" / "valence_arousal.png"))
    assert picture is not None
    assert json.loads((tmp_path / "report" / "report.json").read_text())["metrics"]["rmse_arousal"]["value"] > 0
    with (tmp_path / "report" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert predictions.valence_arousal is not None
    assert predictions.annotated is not None
    for row, said, annotated in zip(rows, predictions.valence_arousal, predictions.annotated, strict=True):
        assert float(row["arousal"]) == pytest.approx(said[1], abs=1e-6)
        assert row["annotated_valence"] == ("" if np.isnan(annotated[0]) else f"{annotated[0]:.6f}")
    # A plain report in its place leaves nothing of it.
    plain = make_predictions(60)
    write_report(evaluate_predictions(plain, resamples=0), plain, None, tmp_path / "report", details={}, errors=0)
    assert not (tmp_path / "report" / "valence_arousal.png").exists()
    assert "dimensions" not in (tmp_path / "report" / "report.html").read_text()


def test_many_faces_are_counted_in_fields_and_few_are_points() -> None:
    few, many = made(100), made(900, annotated=both(900, unknown=0)[1])
    pictures = [plot_valence_arousal(each, evaluate_predictions(each, resamples=0)) for each in (few, many)]
    assert pictures[0] != pictures[1]
