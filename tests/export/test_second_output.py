"""Valence and arousal in model files: the second output says what the checkpoint says, and the gate looks at it."""

import numpy as np
import pytest
import torch
from made_classifier import made_classifier

from emodet import Recognizer
from emodet.synthetic.faces import draw_face
from emodet.errors import EmodetError
from emodet.export.gate import beside_checks
from emodet.export.graph import OUTPUTS, to_onnx, to_program
from emodet.export.quantisation import quantise
from emodet.modelfile import ModelInfo, read_model_file, write_model_file


@pytest.fixture(scope="module")
def both():
    return made_classifier(valence_arousal=1.0)


@pytest.fixture(scope="module")
def exported_both(both):
    program = to_program(both)
    return program, to_onnx(program)


def info_of(classifier, **changes) -> ModelInfo:
    values = {
        "class_names": classifier.class_names,
        "preprocessing": classifier.preprocessing,
        "temperature": 1.7,
        "training_data": (),
        "metrics": {},
        "commit": "",
        "fingerprint": "",
        "precision": "fp32",
        "outputs": OUTPUTS,
    }
    return ModelInfo(**(values | changes))


@pytest.fixture(scope="module")
def model(both, exported_both, tmp_path_factory):
    file = tmp_path_factory.mktemp("both") / "both.onnx"
    return read_model_file(write_model_file(exported_both[1], info_of(both), file))


def said(classifier, crops):
    with torch.inference_mode():
        return classifier.predict_heads(torch.from_numpy(crops))[1].numpy()


@pytest.mark.parametrize("count", [1, 3, 32])
def test_the_second_output_is_the_checkpoint_s(both, exported_both, model, faces, count):
    expected = said(both, faces[:count])
    assert np.ptp(said(both, faces), axis=0).min() > 0.2  # the faces are told apart at all
    probabilities, found = model.run(faces[:count])
    assert (found.shape, found.dtype) == ((count, 2), np.float32)
    assert np.abs(found - expected).max() <= 1e-5
    assert np.abs(found).max() <= 1
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-5
    program = exported_both[0].module()(torch.from_numpy(faces[:count]))
    assert np.abs(program[1].detach().numpy() - expected).max() <= 1e-5
    with torch.inference_mode():
        assert np.abs(probabilities - both.probabilities(torch.from_numpy(faces[:count])).numpy()).max() <= 1e-5


def test_int8_has_it_too(both, exported_both, model, faces, tmp_path):
    graph = quantise(exported_both[1], faces)
    file = write_model_file(graph, info_of(both, precision="int8"), tmp_path / "int8.onnx")
    found = read_model_file(file).run(faces)[1]
    difference = np.abs(found - model.run(faces)[1]).max()
    assert 0 < difference < 0.25
    assert np.abs(found).max() <= 1
    (check,) = beside_checks("int8", model.run(faces)[1], found, limited=False)
    assert (check.verdict, check.value) == ("recorded", pytest.approx(difference))


def test_the_file_must_say_that_it_has_it(both, exported_both, tmp_path):
    with pytest.raises(EmodetError, match="outputs"):
        write_model_file(exported_both[1], info_of(both, outputs=OUTPUTS[:1]), tmp_path / "silent.onnx")


def test_a_recognizer_gives_it_with_each_face(both, model):
    recognizer = Recognizer(model, detector="none")
    picture = draw_face("happiness", 3, 120).image
    (face,) = recognizer(picture)
    expected = said(both, both.preprocessing.crop(picture)[None])[0]
    assert (face.valence, face.arousal) == pytest.approx(tuple(expected), abs=1e-4)
    # Not each other's place.
    assert abs(face.valence - face.arousal) > 0.01


@pytest.mark.parametrize(("difference", "verdict"), [(0.0, "passed"), (9e-5, "passed"), (2e-4, "failed")])
def test_an_unquantised_file_may_differ_by_a_ten_thousandth(difference, verdict):
    expected = np.array([[0.5, -0.5], [0.1, 0.2]])
    found = expected.copy()
    found[1, 1] += difference
    (check,) = beside_checks("fp32", expected, found, limited=True)
    assert (check.verdict, check.faces) == (verdict, 2)
    assert check.value == pytest.approx(difference, abs=1e-12)
    assert "valence or arousal" in check.what


def test_both_must_have_it_or_neither():
    values = np.zeros((2, 2))
    assert beside_checks("fp32", None, None, limited=True) == []
    for one, other in ((None, values), (values, None)):
        with pytest.raises(EmodetError, match="the other has not"):
            beside_checks("fp32", one, other, limited=True)
    (check,) = beside_checks("int8", values, np.full((2, 2), np.nan), limited=False)
    assert check.verdict == "failed"
