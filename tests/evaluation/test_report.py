"""The report's folder: JSON, CSV, figures and a page that needs nothing else."""

import html
import json
import re
from unittest import mock

import cv2
import numpy as np
import pytest
from made_classifiers import made
from made_files import csv_rows
from made_predictions import make_predictions, with_dimensions

from emodet.errors import EmodetError
from emodet.evaluation.outputs import predict_split
from emodet.evaluation.report import worst_errors, write_report
from emodet.evaluation.scores import evaluate_predictions

NASTY = '<script>alert("1")</script>&'
DETAILS = {"checkpoint": NASTY, "temperature": 1.5, "best loss": float("nan")}
FIGURES = {"confusion_matrix.png", "reliability.png", "per_class.png", "coverage.png", "valence_arousal.png"}


def images(rows):
    return np.stack([np.full((48, 48, 3), row % 256, np.uint8) for row in rows])


@pytest.fixture(scope="module")
def predictions():
    """Valence and arousal of some faces, and text from outside everywhere."""
    keys = [f"{NASTY}{index % 2}" for index in range(300)]
    made = with_dimensions(unknown=0, keys=keys, data=NASTY, sources=[NASTY, "b"] * 150)
    made.annotated[:50] = np.nan
    return made


@pytest.fixture(scope="module")
def folder(predictions, tmp_path_factory):
    evaluation = evaluate_predictions(predictions, resamples=100).with_notes("<i>note")
    page = write_report(
        evaluation, predictions, images, tmp_path_factory.mktemp("base") / "new" / "r", details=DETAILS, errors=10
    )
    assert page.name == "report.html"
    return page.parent


class Page:
    """Its elements of a kind by their attributes, and its text."""

    def __init__(self, file):
        self.source = file.read_text(encoding="utf-8")
        self.text = html.unescape(re.sub(r"<[^>]+>", "", self.source))

    def all(self, tag):
        return [
            dict(re.findall(r'([\w-]+)="([^"]*)"', found)) for found in re.findall(rf"<{tag}\b([^>]*)>", self.source)
        ]


def test_the_folder_is_complete_its_json_holds_every_score_and_its_csv_every_prediction(folder, predictions):
    names = {file.name for file in folder.iterdir()}
    assert names == FIGURES | {"report.html", "report.json", "predictions.csv", "errors.png"}
    assert [file.name for file in folder.parent.iterdir()] == ["r"]
    for name in FIGURES | {"errors.png"}:
        assert cv2.imread(str(folder / name)) is not None
    found = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    expected = evaluate_predictions(predictions, resamples=100)
    assert found["details"] == {**DETAILS, "best loss": "nan"}
    assert (found["data"], found["split"], found["faces"]) == (NASTY, "val", 300)
    for name, score in expected.scores.items():
        row = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
        assert found["metrics"][name] == row
    assert found["confusion"]["counts"] == expected.confusion.tolist()
    assert sum(each["faces"] for each in found["reliability"]) == 300
    assert len(found["errors"]) == 10
    assert all(each["emotion"] != each["answer"] for each in found["errors"])
    rows = csv_rows(folder / "predictions.csv")
    assert [row["key"] for row in rows] == list(predictions.keys)
    right = np.mean(predictions.predicted == predictions.emotion)
    assert np.mean([row["emotion"] == row["answer"] for row in rows]) == pytest.approx(right)
    assert float(rows[70]["p_fear"]) == pytest.approx(predictions.probabilities[70, 4], abs=1e-6)
    assert float(rows[70]["arousal"]) == pytest.approx(predictions.valence_arousal[70, 1], abs=1e-6)
    assert [rows[at]["annotated_valence"] for at in (0, 70)] == ["", f"{predictions.annotated[70, 0]:.6f}"]


def test_the_page_makes_no_request_escapes_what_comes_from_outside_and_is_accessible(folder):
    page = Page(folder / "report.html")
    assert "default-src 'none'" in page.source
    assert not re.search(r"url\(|@import|https?://|<script|<i>note", page.source)
    assert not page.all("script") + page.all("link")
    sources = [each["src"] for each in page.all("img")]
    assert all(source.startswith("data:image/") for source in sources)
    assert len(set(sources)) > 5 + 2  # the faces have their own pictures, though there are but two keys
    assert NASTY in page.text
    assert "<i>note" in page.text
    assert len(page.all("img")) == 5 + 10
    assert all(each.get("alt") for each in page.all("img"))
    figures = [each for each in page.all("img") if each.get("class") == "figure"]
    assert len(figures) == 5
    assert ".figure { display: block; width: 100%;" in page.source
    assert all(each.get("scope") in ("row", "col") for each in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert all(f'id="{each["href"][1:]}"' in page.source for each in page.all("a"))
    for words in ("300 faces", "Most confident mistakes", "Valence and arousal", "never predicted contempt"):
        assert words in page.text


def test_images_that_must_not_leave_stay_out_and_a_new_report_replaces_the_old_one(folder, tmp_path):
    plain = make_predictions(60)
    target = tmp_path / "r"
    target.mkdir()
    for name in ("report.json", "errors.png", "valence_arousal.png"):
        (target / name).write_bytes((folder / name).read_bytes())
    page = Page(write_report(evaluate_predictions(plain, resamples=0), plain, None, target, details={}, errors=6))
    assert len(page.all("img")) == 4
    worst = worst_errors(plain, 6)
    assert (np.diff(plain.confidence[worst]) <= 0).all()
    for index in worst:
        assert plain.predicted[index] != plain.emotion[index]
        assert plain.keys[index] in page.text
    names = {file.name for file in target.iterdir()}
    assert names == (FIGURES - {"valence_arousal.png"}) | {"report.html", "report.json", "predictions.csv"}
    assert "Valence" not in page.text


def test_other_files_in_the_folder_stay_and_bad_arguments_are_refused(tmp_path):
    predictions = make_predictions(60)
    evaluation = evaluate_predictions(predictions, resamples=0)
    (tmp_path / "mine.png").write_text("mine")
    (tmp_path / "file").write_text("")
    write_report(evaluation, predictions, None, tmp_path, details={})
    assert (tmp_path / "mine.png").read_text() == "mine"
    with pytest.raises(EmodetError, match="errors=-1"):
        write_report(evaluation, predictions, None, tmp_path / "r", details={}, errors=-1)
    with pytest.raises(EmodetError, match="cannot be written"):
        write_report(evaluation, predictions, None, tmp_path / "file" / "below", details={})


def test_a_split_without_an_emotion_and_a_device_that_is_not_there_are_refused():
    data = mock.Mock(evaluation_dataloader=lambda _: [])
    for accelerator, words in (("cpu", "split=train"), ("xpu", "accelerator='xpu'")):
        with pytest.raises(EmodetError, match=words):
            predict_split(made(), data, "train", accelerator)
