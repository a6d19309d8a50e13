"""Figures, training curves, contact sheets and the palette."""

import cv2
import numpy as np
import pytest
from made_predictions import with_dimensions

from emodet.errors import EmodetError
from emodet.evaluation.pages import contact_sheet
from emodet.evaluation.plots import (
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_per_class,
    plot_reliability,
    plot_valence_arousal,
)
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import evaluate_predictions


def decoded(png):
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


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
    for image in map(decoded, pngs):
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
        check_edges(image)


def test_figures_of_a_split_without_some_classes_and_without_intervals():
    values = {"emotion": np.zeros(4, int), "probabilities": np.array([[0.7, 0.2, 0.1]] * 4)}
    few = Predictions(keys=list("abcd"), class_names=("x", "y", "z"), split="v", data="d", **values)
    evaluation = evaluate_predictions(few, resamples=0)
    for png in (plot_confusion(evaluation), plot_reliability(evaluation), plot_per_class(evaluation)):
        assert decoded(png).size
    assert decoded(plot_coverage(few, evaluation)).size
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
    table = [line.split(",") for line in METRICS.splitlines()]
    kept = [place for place, name in enumerate(table[0]) if name not in left_out]
    png = tmp_path / "curves.png"
    plot_curves([{table[0][place]: row[place] for place in kept} for row in table[1:]], png)
    check_edges(decoded(png.read_bytes()))
    assert [each.name for each in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    "row", [{}, {"epoch": "0", "step": "1", "grad_norm": "3.0"}, {"epoch": "0", "val/loss": "1e-"}]
)
def test_a_table_without_curves_is_refused(tmp_path, row):
    with pytest.raises(EmodetError, match=r"metrics\.csv"):
        plot_curves([row], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_contact_sheet_keeps_order_colours_and_shapes():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([np.full((48, 48, 3), colour, np.uint8) for colour in colours], columns=2, tile=48)
    assert (sheet.dtype, sheet.shape) == (np.uint8, (2 * 56 + 8, 2 * 56 + 8, 3))
    places = [(32, 32), (32, 88), (88, 32), (88, 88)]
    assert [tuple(sheet[place]) for place in places] == [*colours, (255, 255, 255)]
    wide = contact_sheet([np.zeros((10, 40, 3), np.uint8)], tile=40)
    assert (wide == 0).all(axis=2).sum() == 400
