"""A model file with classes of one's own: in the recognizer, the overlay and the rows."""

import numpy as np
from model_stub import SIZE, graph, info

from emodet import Recognizer
from emodet.inference.overlay import annotate, colour_of
from emodet.inference.rows import row_columns
from emodet.modelfile import write_model_file
from emodet.palette import EMOTION_COLOURS, class_colours

OWN = ("bored", "engaged", "happy")


def test_they_have_names_colours_and_columns(tmp_path):
    path = write_model_file(graph(len(OWN)), info(class_names=OWN), tmp_path / "own.onnx")
    recognizer = Recognizer(path, detector="none", threads=1)
    picture = np.full((SIZE * 8, SIZE * 8, 3), (200, 40, 90), dtype=np.uint8)
    (face,) = recognizer(picture)
    assert tuple(face.probabilities) == OWN
    assert face.emotion in OWN
    shown = {tuple(colour) for colour in annotate(picture, [face]).reshape(-1, 3).tolist()}
    assert colour_of(face.emotion, OWN) in shown
    assert row_columns(OWN)[15:18] == ["p_bored", "p_engaged", "p_happy"]


def test_own_classes_have_colours_of_their_own_and_an_emotion_keeps_its():
    colours = class_colours(OWN)
    assert len(set(colours)) == 3
    assert colours[2] == EMOTION_COLOURS["happiness"]
    assert not {colours[0], colours[1]} & set(EMOTION_COLOURS.values())
    assert colour_of("uncertain", OWN) not in {colour_of(name, OWN) for name in OWN}
