import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_answers import make_predictions

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.contact_sheet import contact_sheet
from emodet.evaluation.curves import plot_curves
from emodet.evaluation.plots import plot_confusion, plot_coverage, plot_per_class, plot_reliability
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.statistics import evaluate_predictions
from emodet.palette import EMOTION_COLOURS, class_colours


@pytest.fixture
def predictions() -> Predictions:
    return make_predictions()


def decoded(png: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_every_figure_is_a_picture_in_both_themes(predictions: Predictions) -> None:
    evaluation = evaluate_predictions(predictions, resamples=50)
    for plot in (
        plot_confusion,
        plot_reliability,
        plot_per_class,
        lambda each, dark=False: plot_coverage(predictions, each, dark=dark),
    ):
        light, dark = decoded(plot(evaluation)), decoded(plot(evaluation, dark=True))
        assert light.shape == dark.shape
        assert light[0, 0].mean() > 200 > 60 > dark[0, 0].mean()
        assert len(np.unique(light.reshape(-1, 3), axis=0)) > 50


def test_the_same_figures_give_the_same_bytes(predictions: Predictions) -> None:
    evaluation = evaluate_predictions(predictions, resamples=50)
    assert plot_confusion(evaluation) == plot_confusion(evaluation)


def test_figures_of_a_split_without_some_classes_and_without_intervals() -> None:
    rows = np.array([[0.7, 0.2, 0.1]] * 4)
    answers = Predictions(
        keys=list("abcd"),
        emotion=np.zeros(4, int),
        probabilities=rows,
        class_names=("x", "y", "z"),
        split="v",
        data="d",
    )
    evaluation = evaluate_predictions(answers, resamples=0)
    for png in (plot_confusion(evaluation), plot_reliability(evaluation), plot_per_class(evaluation)):
        assert decoded(png).size
    assert decoded(plot_coverage(answers, evaluation)).size


METRICS = """epoch,step,lr-AdamW,train/loss,val/accuracy,val/loss,val/macro_f1
,9,0.001,,,,
0,19,,,0.5,1.5,0.4
0,19,,1.7,,,
,29,0.003,,,,
1,39,,,0.6,1.2,0.5
1,39,,1.4,,,
2,59,,nan,0.7,nan,0.55
"""


@pytest.mark.parametrize("left_out", [(), ("lr-AdamW",), ("val/accuracy", "val/macro_f1"), ("train/loss", "val/loss")])
def test_curves_are_drawn_from_what_is_there(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    table = [line.split(",") for line in METRICS.splitlines()]
    kept = [place for place, name in enumerate(table[0]) if name not in left_out]
    path, png = tmp_path / "metrics.csv", tmp_path / "curves.png"
    path.write_text("\n".join(",".join(row[place] for place in kept) for row in table))
    plot_curves(path, png)
    assert decoded(png.read_bytes()).size
    assert sorted(each.name for each in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


def test_curves_without_epochs_are_drawn_over_steps(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss\n0,2.0\n10,1.0\n")
    plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert decoded((tmp_path / "curves.png").read_bytes()).size


@pytest.mark.parametrize("text", ["", "epoch,step,grad_norm\n0,1,3.0\n", "epoch,step,val/loss\n0,1,\n"])
def test_a_table_without_curves_is_refused_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(EmodetError, match="no loss and no accuracy"):
        plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=r"nowhere\.csv"):
        plot_curves(tmp_path / "nowhere.csv", tmp_path / "curves.png")


def test_a_contact_sheet_keeps_colours_order_and_place() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = np.stack([np.full((48, 48, 3), colour, np.uint8) for colour in colours])
    sheet = contact_sheet(images, columns=2, tile=48)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 56 + 8, 2 * 56 + 8, 3)
    assert sheet[32, 32].tolist() == [255, 0, 0]
    assert sheet[32, 32 + 56].tolist() == [0, 255, 0]
    assert sheet[32 + 56, 32].tolist() == [0, 0, 255]
    assert sheet[32 + 56, 32 + 56].tolist() == [255, 255, 255]


def test_captions_are_written_below_their_picture_and_cut_to_its_width() -> None:
    images = np.full((2, 64, 64, 3), 255, np.uint8)
    plain = contact_sheet(images, ["", ""], columns=2, tile=64)
    sheet = contact_sheet(images, ["a very long caption that no tile of this size holds", ""], columns=2, tile=64)
    assert sheet.shape == plain.shape
    changed = np.argwhere((sheet != plain).any(axis=2))
    assert len(changed)
    assert changed[:, 0].min() >= 8 + 64
    assert changed[:, 1].max() < 8 + 64


def test_pictures_of_other_shapes_are_fitted_not_stretched() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    sheet = contact_sheet([wide], tile=40)
    assert (sheet == 0).all(axis=2).sum() == 400


@pytest.mark.parametrize(
    ("images", "captions", "columns", "words"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), None, 4, "none given"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["one"], 4, "captions: 1"),
        (np.zeros((2, 8, 8, 3), np.uint8), None, 0, "columns=0"),
        (np.zeros((2, 8, 8, 3), np.float32), None, 4, "float32"),
        (np.zeros((2, 8, 8), np.uint8), None, 4, "uint8"),
    ],
)
def test_a_sheet_that_cannot_be_laid_out_is_refused(
    images: np.ndarray, captions: list[str] | None, columns: int, words: str
) -> None:
    with pytest.raises(EmodetError, match=words):
        contact_sheet(images, captions, columns)


def test_importing_the_pictures_loads_no_matplotlib() -> None:
    code = "import sys, emodet.evaluation.report; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Machado et al. 2009, severity 1, for linear RGB.
DICHROMATS = {
    "ordinary": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", DICHROMATS)
def test_colours_stay_apart_in_every_vision(vision: str) -> None:
    color = pytest.importorskip("skimage.color")
    rgb = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in class_colours(EMOTIONS)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMATS[vision]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = color.rgb2lab(seen[None])[0]
    first, second = np.triu_indices(8, 1)
    assert color.deltaE_ciede2000(lab[first], lab[second]).min() >= 15


def test_every_emotion_has_a_colour_and_other_classes_get_one() -> None:
    assert tuple(EMOTION_COLOURS) == EMOTIONS
    assert len(set(class_colours(EMOTIONS))) == 8
    assert len(set(class_colours(("bored", "neutral", "amused")))) == 3
