import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_answers import make_predictions

from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import most_uncertain, worst_errors, write_report
from emodet.evaluation.statistics import Evaluation, evaluate_predictions

FILES = [
    "confusion_matrix.png",
    "coverage.png",
    "errors.png",
    "per_class.png",
    "predictions.csv",
    "reliability.png",
    "report.html",
    "report.json",
    "uncertain.png",
]
DETAILS = {"checkpoint": "best.ckpt", "temperature": 1.5, "seed": 0}


def face(index: int) -> np.ndarray:
    return np.full((48, 48, 3), index % 256, np.uint8)


@pytest.fixture(scope="module")
def answers() -> Predictions:
    return make_predictions(300)


@pytest.fixture(scope="module")
def evaluation(answers: Predictions) -> Evaluation:
    return evaluate_predictions(answers, resamples=100)


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures take seconds and have their own tests; here is what becomes of them."""
    png = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    for name in ("plot_confusion", "plot_reliability", "plot_per_class", "plot_coverage"):
        monkeypatch.setattr(f"emodet.evaluation.report.{name}", lambda *_, **__: png)


class Page(HTMLParser):
    """Elements, in order, and whether they nest."""

    VOID = ("meta", "img", "source", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_folder_holds_everything(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    page = write_report(evaluation, answers, face, tmp_path / "new" / "report", details=DETAILS)
    assert page == tmp_path / "new" / "report" / "report.html"
    assert sorted(each.name for each in page.parent.iterdir()) == FILES
    assert [each.name for each in page.parent.parent.iterdir()] == ["report"]
    for picture in page.parent.glob("*.png"):
        assert cv2.imread(str(picture)) is not None


@pytest.mark.usefixtures("plain_pictures")
def test_the_json_says_what_was_evaluated(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    details = {**DETAILS, "best loss": float("nan")}
    write_report(evaluation, answers, face, tmp_path / "r", details=details, errors=10)
    found = json.loads((tmp_path / "r" / "report.json").read_text(), parse_constant=pytest.fail)
    assert found["details"] == {**DETAILS, "best loss": "nan"}
    assert (found["split"], found["faces"]) == ("val", 300)
    assert found["metrics"]["accuracy"]["value"] == evaluation.accuracy.value
    assert found["metrics"]["ece"]["low"] == evaluation.calibrated.ece.low
    assert [row["name"] for row in found["per_class"]] == list(answers.class_names)
    assert np.array(found["confusion"]["counts"]).sum() == 300
    assert len(found["errors"]) == 10
    assert len(found["uncertain"]) == 5
    sure = [each["confidence"] for each in found["errors"]]
    assert sure == sorted(sure, reverse=True)
    assert all(each["emotion"] != each["answer"] for each in found["errors"])


@pytest.mark.usefixtures("plain_pictures")
def test_every_answer_is_in_the_table(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, answers, None, tmp_path / "r", details={})
    with (tmp_path / "r" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["key"] for row in rows] == list(answers.keys)
    assert np.mean([row["emotion"] == row["answer"] for row in rows]) == pytest.approx(evaluation.accuracy.value)
    assert float(rows[7]["p_fear"]) == pytest.approx(answers.probabilities[7, 4], abs=1e-6)


@pytest.mark.usefixtures("plain_pictures")
def test_the_page_asks_for_nothing(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    text = write_report(evaluation, answers, face, tmp_path / "r", details=DETAILS).read_text()
    page = Page(text)
    assert "default-src 'none'" in text
    assert not page.of("script")
    assert not page.of("link")
    sources = [each["src"] for each in page.of("img")] + [each["srcset"] for each in page.of("source")]
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)
    assert all((each["href"] or "").startswith("#") for each in page.of("a"))


@pytest.mark.usefixtures("plain_pictures")
def test_the_page_can_be_read_without_seeing_it(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    page = Page(write_report(evaluation, answers, face, tmp_path / "r", details=DETAILS, errors=6).read_text())
    assert len(page.of("img")) == 4 + 6 + 3
    assert all(each.get("alt") for each in page.of("img"))
    assert all(each.get("scope") in ("row", "col") for each in page.of("th"))
    assert page.of("html")[0]["lang"] == "en"
    places = {each["id"] for _, each in page.elements if "id" in each}
    assert all((each["href"] or "")[1:] in places for each in page.of("a"))
    assert "Made faces, split val" in page.text
    assert "300 faces" in page.text


@pytest.mark.usefixtures("plain_pictures")
def test_values_from_outside_are_escaped(tmp_path: Path) -> None:
    nasty = '<script>alert("1")</script>&'
    answers = make_predictions(50, keys=[f"{nasty}{i}" for i in range(50)], data=nasty, split="<b>")
    evaluation = evaluate_predictions(answers, resamples=10).with_notes("<i>note")
    for faces in (face, None):
        page = write_report(evaluation, answers, faces, tmp_path / "r", details={nasty: nasty, "checkpoint": nasty})
        parsed = Page(page.read_text())
        assert not parsed.of("script")
        assert "<i>note" in parsed.text
        assert nasty in parsed.text
        assert "<script" not in page.read_text()


@pytest.mark.usefixtures("plain_pictures")
def test_faces_that_may_not_leave_stay_out(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    page = Page(write_report(evaluation, answers, None, tmp_path / "r", details={}, errors=6).read_text())
    assert len(page.of("img")) == 4
    assert "Pictures are not shown" in page.text
    for index in worst_errors(answers, 6):
        assert answers.keys[index] in page.text
    assert not (tmp_path / "r" / "errors.png").exists()
    assert not (tmp_path / "r" / "uncertain.png").exists()


@pytest.mark.usefixtures("plain_pictures")
def test_the_gallery_shows_the_faces_asked_for(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    asked: list[int] = []

    def watched(index: int) -> np.ndarray:
        asked.append(index)
        return np.full((200, 100, 3), (250, 10, 10), np.uint8)

    write_report(evaluation, answers, watched, tmp_path / "r", details={}, errors=4)
    assert set(asked) == {*worst_errors(answers, 4).tolist(), *most_uncertain(answers, 2).tolist()}
    sheet = cv2.imread(str(tmp_path / "r" / "errors.png"))
    assert sheet is not None
    assert sheet[72, 72].tolist() == [10, 10, 250]  # red stays red: OpenCV reads BGR


def test_worst_and_most_uncertain(answers: Predictions) -> None:
    worst = worst_errors(answers, 1000)
    assert len(worst) == (answers.predicted != answers.emotion).sum()
    wrong = np.flatnonzero(answers.predicted != answers.emotion)
    assert answers.confidence[worst[0]] == answers.confidence[wrong].max()
    assert answers.confidence[most_uncertain(answers, 3)].tolist() == sorted(answers.confidence)[:3]


@pytest.mark.usefixtures("plain_pictures")
def test_a_report_without_errors(tmp_path: Path) -> None:
    rows = np.array([[0.9, 0.1], [0.2, 0.8]])
    answers = Predictions(
        keys=["a", "b"], emotion=np.array([0, 1]), probabilities=rows, class_names=("x", "y"), split="test", data="d"
    )
    page = Page(write_report(evaluate_predictions(answers), answers, face, tmp_path / "r", details={}).read_text())
    assert "0 of 2 answers are wrong" in page.text
    assert "every answer is right" in page.text
    assert not (tmp_path / "r" / "errors.png").exists()


@pytest.mark.usefixtures("plain_pictures")
def test_a_report_is_replaced_as_a_whole(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, answers, face, tmp_path / "r", details={"run": "first"})
    write_report(evaluation, answers, None, tmp_path / "r", details={"run": "second"})
    assert "errors.png" not in [each.name for each in (tmp_path / "r").iterdir()]
    assert json.loads((tmp_path / "r" / "report.json").read_text())["details"] == {"run": "second"}
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


@pytest.mark.usefixtures("plain_pictures")
def test_a_report_that_fails_leaves_the_old_one(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation, answers, None, tmp_path / "r", details={"run": "first"})

    def broken(index: int) -> np.ndarray:
        raise OSError("No space left on device")

    with pytest.raises(EmodetError, match="No space left"):
        write_report(evaluation, answers, broken, tmp_path / "r", details={"run": "second"})
    assert json.loads((tmp_path / "r" / "report.json").read_text())["details"] == {"run": "first"}
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


@pytest.mark.usefixtures("plain_pictures")
def test_a_folder_of_something_else_is_left_alone(answers: Predictions, evaluation: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EmodetError, match=r"thesis\.tex"):
        write_report(evaluation, answers, None, tmp_path, details={})
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(EmodetError, match="is a file"):
        write_report(evaluation, answers, None, tmp_path / "thesis.tex", details={})
    with pytest.raises(EmodetError, match="errors=-1"):
        write_report(evaluation, answers, None, tmp_path / "r", details={}, errors=-1)


def test_a_mix_has_a_table_of_its_data_sets(tmp_path: Path, plain_pictures: None) -> None:
    mixed = make_predictions(90, sources=["<b>one</b>"] * 30 + ["two"] * 60)
    page = write_report(evaluate_predictions(mixed, resamples=20), mixed, None, tmp_path / "r", details=DETAILS)
    text = page.read_text(encoding="utf-8")
    assert "The data sets of the mix" in text
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "<b>one</b>" not in text
    rows = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))["per_source"]
    assert [(row["name"], row["faces"]) for row in rows] == [("<b>one</b>", 30), ("two", 60)]
