"""The graph of a model file answers as the checkpoint does, whatever the number of faces, and takes raw pixels."""

import subprocess

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from made_classifier import made_classifier

from emodet.synthetic.faces import draw_face
from emodet.export.graph import OPSET, ProbabilityGraph, to_onnx, to_program


def torch_answer(classifier, crops):
    with torch.inference_mode():
        return classifier.probabilities(torch.from_numpy(crops)).numpy()


def onnx_answer(model, crops):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"crops": crops})[0]


@pytest.mark.parametrize("count", [1, 3, 32])
def test_the_exported_probabilities_are_the_checkpoint_s(classifier, exported, program, faces, count):
    expected = torch_answer(classifier, faces[:count])
    assert np.ptp(torch_answer(classifier, faces), axis=0).max() > 0.05  # the faces are told apart at all
    for found in (onnx_answer(exported, faces[:count]), program.module()(torch.from_numpy(faces[:count])).detach()):
        assert np.abs(np.asarray(found) - expected).max() <= 1e-5


def test_a_picture_s_crop_means_the_same_to_both(classifier, exported):
    picture = draw_face("fear", 3, 160).image
    crop = classifier.preprocessing.crop(picture, (20, 15, 140, 150))[None]
    assert np.abs(onnx_answer(exported, crop) - torch_answer(classifier, crop)).max() <= 1e-5
    # The order of the channels is part of it.
    assert np.abs(onnx_answer(exported, crop[..., ::-1].copy()) - torch_answer(classifier, crop)).max() > 1e-3


def test_colour_crops_of_a_grey_net_are_made_grey_as_preprocessing_does(faces):
    grey = made_classifier(colour="grey")
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 3), dtype=np.uint8)
    colour = np.concatenate([faces, noise])
    cut = np.stack([grey.preprocessing.crop(crop) for crop in colour])
    assert (cut[..., 0] == cut[..., 1]).all()
    graph = ProbabilityGraph(grey)
    luma = torch.floor(torch.from_numpy(colour).float() @ graph.luma + 0.5)
    np.testing.assert_array_equal(luma.numpy(), cut)
    with torch.inference_mode():
        found = graph(torch.from_numpy(colour)).numpy()
    assert np.abs(found - torch_answer(grey, cut)).max() <= 1e-5


@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_a_crop_s_own_contrast_is_taken_inside_the_model(faces, colour):
    own = made_classifier(contrast="crop", colour=colour)
    crops = np.stack([own.preprocessing.crop(face) for face in faces[:16]]) // 4 * 4
    model = to_onnx(to_program(own))
    found = onnx_answer(model, crops)
    assert np.abs(found - torch_answer(own, crops)).max() <= 1e-5
    # As the numpy of `normalise` has it, and so the same face in a quarter of the light.
    with torch.inference_mode():
        logits = own.net(torch.from_numpy(own.preprocessing.normalise(crops))) / own.temperature
    assert np.abs(found - logits.softmax(dim=1).numpy()).max() <= 1e-5
    assert np.abs(onnx_answer(model, crops // 4) - found).max() <= 1e-3
    assert np.abs(onnx_answer(model, np.zeros_like(crops[:1]))).max() <= 1


def test_grey_is_rounded_as_opencv_rounds_it():
    graph = ProbabilityGraph(made_classifier(colour="grey"))
    values = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(1, -1, 3)
    opencv = cv2.cvtColor(cube, cv2.COLOR_RGB2GRAY)
    ours = torch.floor(torch.from_numpy(cube).float() @ graph.luma + 0.5).numpy()[..., 0]
    np.testing.assert_array_equal(ours, opencv)


def test_the_graph_is_standard_onnx_of_a_known_age_and_says_nothing_of_this_machine(exported):
    assert [(each.domain, each.version) for each in exported.opset_import] == [("", OPSET)]
    assert exported.ir_version <= 10
    data = exported.SerializeToString()
    here = subprocess.run(["pwd"], capture_output=True, text=True, check=True).stdout.strip()
    assert here.encode() not in data
    assert b"site-packages" not in data
    batch = exported.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "N"
    assert "BatchNormalization" not in {
        node.op_type for node in exported.graph.node if any("stages" in name for name in node.input)
    }


def test_the_classifier_is_left_as_it_was(classifier):
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    graph = ProbabilityGraph(classifier)
    with torch.no_grad():
        for tensor in graph.state_dict().values():
            tensor.zero_()
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(tensor, before[name]), name
