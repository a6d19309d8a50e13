"""The exported graph computes what the checkpoint computes, from raw crops, for any batch size."""

import copy
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from made_teachers import made_classifier

from emodet.export.graph import OPSET, ProbabilityGraph, to_onnx
from emodet.synthetic.faces import draw_face


def torch_outputs(classifier, crops):
    with torch.inference_mode():
        probabilities = classifier.probabilities(torch.from_numpy(crops)).numpy()
        both = classifier.predict_heads(torch.from_numpy(crops))[1]
    return probabilities if both is None else (probabilities, both.numpy())


def onnx_outputs(model, crops):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"crops": crops})
    return found[0] if len(found) == 1 else tuple(found)


def test_the_temperature_that_follows_the_sharpness_is_in_the_graph(classifier, exported, faces):
    contrasted = made_classifier(contrast="crop")
    contrasted.temperature_slope.copy_(classifier.temperature_slope)
    for each, graph in ((classifier, exported), (contrasted, to_onnx(contrasted))):
        expected, plain = torch_outputs(each, faces), copy.deepcopy(each)
        plain.temperature_slope.zero_()
        assert np.abs(torch_outputs(plain, faces) - expected).max() > 0.05
        assert np.abs(onnx_outputs(graph, faces) - expected).max() <= 1e-5


def test_crops_are_cut_as_in_training_and_their_channels_are_rgb(classifier, exported):
    image = draw_face("fear", 3, 160).image
    crop = classifier.preprocessing.crop(image, (20, 15, 140, 150))[None]
    expected = torch_outputs(classifier, crop)
    assert np.abs(onnx_outputs(exported, crop) - expected).max() <= 1e-5
    assert np.abs(onnx_outputs(exported, crop[..., ::-1].copy()) - expected).max() > 3e-4


def test_a_grey_net_s_graph_converts_colour_crops_as_opencv_does(faces):
    grey = made_classifier(colour="grey")
    graph = ProbabilityGraph(grey)
    values = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(1, -1, 3)
    luma = torch.floor(torch.from_numpy(cube).float() @ graph.luma + 0.5).numpy()[..., 0]
    np.testing.assert_array_equal(luma, cv2.cvtColor(cube, cv2.COLOR_RGB2GRAY))
    noise = np.random.default_rng(0).integers(0, 256, (16, 48, 48, 3), dtype=np.uint8)
    colour = np.concatenate([faces, noise])
    cut = np.stack([grey.preprocessing.crop(crop) for crop in colour])
    with torch.inference_mode():
        found = graph(torch.from_numpy(colour)).numpy()
    assert np.abs(found - torch_outputs(grey, cut)).max() <= 1e-5


def test_normalisation_by_the_crop_s_own_contrast_is_part_of_the_graph(faces):
    own = made_classifier(contrast="crop", colour="grey")
    crops = np.stack([own.preprocessing.crop(face) for face in faces[:16]]) // 4 * 4
    model = to_onnx(own)
    found = onnx_outputs(model, crops)
    assert np.abs(found - torch_outputs(own, crops)).max() <= 1e-5
    # As `normalise` computes it in numpy, and so equal for the same face in a quarter of the light.
    with torch.inference_mode():
        logits = own.net(torch.from_numpy(own.preprocessing.normalise(crops))) / own.temperature
    assert np.abs(found - logits.softmax(dim=1).numpy()).max() <= 1e-5
    assert np.abs(onnx_outputs(model, crops // 4) - found).max() <= 1e-3
    assert np.isfinite(onnx_outputs(model, np.zeros_like(crops[:1]))).all()


def test_the_graph_is_standard_onnx_without_traces_of_this_machine(exported):
    assert [(each.domain, each.version) for each in exported.opset_import] == [("", OPSET)]
    assert exported.ir_version <= 10
    data = exported.SerializeToString()
    assert str(Path.cwd()).encode() not in data
    assert b"site-packages" not in data
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    trunk = {node.op_type for node in exported.graph.node if any("stages" in name for name in node.input)}
    assert "BatchNormalization" not in trunk  # folded into the convolutions
