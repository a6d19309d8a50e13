"""The report's folder: JSON, CSV, figures and a page that needs nothing else; training curves and contact sheets."""

import csv
import html
import json
import re
from unittest import mock

import numpy as np
import pytest
from made_classifiers import made
from made_files import csv_rows
from made_predictions import make_predictions, with_dimensions

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.outputs import predict_split
from emodet.evaluation.pages import contact_sheet
from emodet.evaluation.plots import (
    percent_axis,
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_per_class,
    plot_reliability,
    plot_valence_arousal,
    styled_figure,
)
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import worst_errors, write_report
from emodet.evaluation.scores import evaluate_predictions
from emodet.images import decode_rgb, load_rgb

NASTY = '<script>alert("1")</script>&'
DETAILS = {"checkpoint": NASTY, "temperature": 1.5}
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
    new = tmp_path_factory.mktemp("base") / "new" / "r"
    page = write_report(evaluation, predictions, images, new, details=DETAILS, errors=10)
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


def test_json_holds_every_score_and_csv_every_prediction(folder, predictions):
    names = {file.name for file in folder.iterdir()}
    assert names == FIGURES | {"report.html", "report.json", "predictions.csv", "errors.png"}
    assert [file.name for file in folder.parent.iterdir()] == ["r"]
    for name in FIGURES | {"errors.png"}:
        assert load_rgb(folder / name).size
    found = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    expected = evaluate_predictions(predictions, resamples=100)
    assert found["details"] == DETAILS
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
    assert [row["answer"] for row in rows] == [EMOTIONS[each] for each in predictions.predicted]
    assert float(rows[70]["p_fear"]) == pytest.approx(predictions.probabilities[70, 4], abs=1e-6)
    assert float(rows[70]["arousal"]) == pytest.approx(predictions.valence_arousal[70, 1], abs=1e-6)
    assert [rows[at]["annotated_valence"] for at in (0, 70)] == ["", f"{predictions.annotated[70, 0]:.6f}"]


def test_the_page_makes_no_request_escapes_text_and_is_accessible(folder):
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


@pytest.mark.usefixtures("plain_figures")
def test_a_new_report_replaces_the_old_one_alone(folder, tmp_path):
    plain = make_predictions(60)
    target = tmp_path / "r"
    target.mkdir()
    for name in ("report.json", "errors.png", "valence_arousal.png"):
        (target / name).write_bytes((folder / name).read_bytes())
    (target / "mine.png").write_text("mine")
    page = Page(write_report(evaluate_predictions(plain, resamples=0), plain, images, target, details={}, errors=6))
    assert (target / "mine.png").read_text() == "mine"
    assert len(page.all("img")) == 4 + 6
    worst, _ = worst_errors(plain, 6)
    assert (np.diff(plain.confidence[worst]) <= 0).all()
    for index in worst:
        assert plain.predicted[index] != plain.emotion[index]
        assert plain.keys[index] in page.text
    names = {file.name for file in target.iterdir()} - {"errors.png"}
    assert names == (FIGURES - {"valence_arousal.png"}) | {"report.html", "report.json", "predictions.csv", "mine.png"}
    assert "Valence" not in page.text


def test_a_split_without_an_emotion_is_refused():
    data = mock.Mock(evaluation_dataloader=lambda _: [])
    with pytest.raises(EmodetError, match="split=train"):
        predict_split(made(), data, "train", "cpu")


# Figures, training curves and contact sheets.


def check_edges(image):
    """No text is cut off: nothing but the background at the edges, but for axes that end there."""
    for edge in (image[0], image[-1], image[:, 0]):
        assert (edge == image[0, 0]).all()


def test_no_text_of_a_figure_is_cut_off():
    title = "A data set whose title is longer than a figure is wide, as those of mixes are"
    predictions = with_dimensions(600, data=title)
    evaluation = evaluate_predictions(predictions, resamples=50)
    pngs = [plot(evaluation) for plot in (plot_confusion, plot_reliability, plot_per_class)]
    pngs += [plot(predictions, evaluation) for plot in (plot_coverage, plot_valence_arousal)]
    for image in map(decode_rgb, pngs):
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
        check_edges(image)


def test_ticks_of_an_axis_of_percents_differ():
    with styled_figure(4, 3) as figure:
        axis = figure.subplots().yaxis
        percent_axis(axis)
        assert axis.get_major_formatter().format_ticks([0.98, 0.985, 1.0, 1.005]) == ["98 %", "98.5 %", "100 %", ""]


def test_figures_of_a_split_without_some_classes_and_without_intervals():
    values = {"emotion": np.zeros(4, int), "probabilities": np.array([[0.7, 0.2, 0.1]] * 4)}
    few = Predictions(keys=list("abcd"), class_names=("x", "y", "z"), split="v", data="d", **values)
    evaluation = evaluate_predictions(few, resamples=0)
    for png in (plot_confusion(evaluation), plot_reliability(evaluation), plot_per_class(evaluation)):
        assert decode_rgb(png).size
    assert decode_rgb(plot_coverage(few, evaluation)).size
    with pytest.raises(EmodetError, match="annotated"):
        plot_valence_arousal(few, evaluation)


METRICS = """epoch,step,lr-AdamW,train/loss,val/accuracy,val/loss,val/macro_f1
,9,0.001,,,,
0,19,,,0.5,1.5,0.4
0,19,,1.7,,,
,29,0.003,,,,
1,39,,,0.6,1.2,0.5
1,39,,1.4,,,
2,59,,nan,0.7,nan,0.55
"""


@pytest.mark.parametrize("left_out", [(), ("lr-AdamW",), ("val/accuracy", "val/macro_f1"), ("train/loss",)])
def test_curves_are_drawn_from_the_columns_there_are(tmp_path, left_out):
    rows, png = csv.DictReader(METRICS.splitlines()), tmp_path / "curves.png"
    plot_curves([{name: cell for name, cell in row.items() if name not in left_out} for row in rows], png)
    check_edges(decode_rgb(png.read_bytes()))
    assert [each.name for each in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    "row", [{}, {"epoch": "0", "step": "1", "grad_norm": "3.0"}, {"epoch": "0", "val/loss": "1e-"}]
)
def test_a_table_without_curves_is_refused(tmp_path, row):
    with pytest.raises(EmodetError, match=r"metrics\.csv"):
        plot_curves([row], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_contact_sheet_keeps_order_and_colours():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([np.full((48, 48, 3), colour, np.uint8) for colour in colours], columns=2, tile=48)
    assert (sheet.dtype, sheet.shape) == (np.uint8, (2 * 56 + 8, 2 * 56 + 8, 3))
    places = [(32, 32), (32, 88), (88, 32), (88, 88)]
    assert [tuple(sheet[place]) for place in places] == [*colours, (255, 255, 255)]
