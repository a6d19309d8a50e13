"""The exported graph computes what the checkpoint computes, from raw crops, int8 inside the trunk; parity checks."""

import copy
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from made_classifiers import made as untrained
from made_classifiers import made_classifier
from onnx import TensorProto, helper, numpy_helper

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.export.graph import OPSET, ProbabilityGraph, quantise, to_onnx, trunk_nodes
from emodet.export.model_files import drawn_crops
from emodet.export.parity import difference_checks, score_checks, speed_checks


@pytest.fixture(scope="module")
def classifier():
    """Its temperature follows the features."""
    made = made_classifier()
    made.temperature_curve.copy_(torch.tensor([2.0, -0.8]))
    return made


@pytest.fixture(scope="module")
def exported(classifier):
    return to_onnx(classifier)


@pytest.fixture(scope="module")
def faces(classifier):
    """uint8 (40, 48, 48, 3): drawn faces."""
    return drawn_crops(classifier, 40)


def torch_outputs(classifier, crops):
    with torch.inference_mode():
        return classifier.probabilities(torch.from_numpy(crops)).numpy()


def onnx_outputs(model, crops, output="probabilities"):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([output], {"crops": crops})[0]


def test_the_temperature_that_follows_the_features_is_in_the_graph(classifier, exported, faces):
    contrasted = made_classifier(contrast="crop")
    contrasted.temperature_curve.copy_(classifier.temperature_curve)
    for each, graph in ((classifier, exported), (contrasted, to_onnx(contrasted))):
        expected, plain = torch_outputs(each, faces), copy.deepcopy(each)
        plain.temperature_curve[1] = 0
        assert np.abs(torch_outputs(plain, faces) - expected).max() > 0.05
        assert np.abs(onnx_outputs(graph, faces) - expected).max() <= 1e-5
        sure = copy.deepcopy(each)
        sure.temperature_curve[0] = 1e-3  # no face gets a lower temperature than one of typical strength
        np.testing.assert_allclose(torch_outputs(sure, faces), torch_outputs(plain, faces), atol=1e-6)


def test_a_graph_for_grey_crops_converts_colours_as_opencv_does():
    graph = ProbabilityGraph(made_classifier(colour="grey"))
    values = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(1, -1, 3)
    luma = torch.floor(torch.from_numpy(cube).float() @ graph.luma + 0.5).numpy()[..., 0]
    np.testing.assert_array_equal(luma, cv2.cvtColor(cube, cv2.COLOR_RGB2GRAY))


def test_a_graph_for_grey_crops_computes_one_channel_where_the_net_allows_it(faces):
    grey, reading = (made_classifier(colour="grey", contrast="crop") for _ in range(2))
    reading.net.register_forward_hook(lambda _, inputs, logits: logits + inputs[0][:, 2].mean(dim=(1, 2))[:, None] ** 2)
    cut = np.stack([grey.preprocessing.crop(crop) for crop in faces])
    for classifier, channels in ((grey, 1), (reading, 3), (made_classifier(colour="grey"), 3)):
        model = to_onnx(classifier)
        assert ProbabilityGraph(classifier).channels == channels
        assert np.abs(onnx_outputs(model, faces) - torch_outputs(classifier, cut)).max() <= 1e-5
        assert np.isfinite(onnx_outputs(model, np.zeros_like(faces[:1]))).all()


def test_the_graph_is_standard_onnx_without_paths_of_this_machine(exported):
    assert [(each.domain, each.version) for each in exported.opset_import] == [("", OPSET)]
    assert exported.ir_version <= 10
    data = exported.SerializeToString()
    assert str(Path.cwd()).encode() not in data
    assert b"site-packages" not in data
    assert exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    trunk = {node.op_type for node in exported.graph.node if any("stages" in name for name in node.input)}
    assert "BatchNormalization" not in trunk  # folded into the convolutions


# Quantisation.


@pytest.fixture(scope="module")
def int8(exported, faces):
    return quantise(exported, faces)


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def convolution_weights(model):
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scaled = [producers(model)[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert {node.op_type for node in scaled} == {"DequantizeLinear"}
    return [(tensors[node.input[0]], tensors[node.input[1]]) for node in scaled]


def test_int8_convolutions_have_a_scale_per_channel_and_everything_else_stays_float(exported, faces, int8):
    pairs = convolution_weights(int8)
    assert len(pairs) == 12
    for weight, scale in pairs:
        assert (weight.dtype, scale.shape) == (np.int8, (weight.shape[0],))
        assert len(np.unique(scale)) > 1
    # Seven bits, or eight.
    full = convolution_weights(quantise(exported, faces, reduce_range=False))
    assert max(np.abs(weight.astype(int)).max() for weight, _ in pairs) <= 64
    assert max(np.abs(weight.astype(int)).max() for weight, _ in full) > 64
    made_by = producers(int8)
    quantised = [node for node in int8.graph.node if node.op_type in ("Conv", "MaxPool")]
    assert {made_by[node.input[0]].op_type for node in quantised} == {"DequantizeLinear"}
    # What is outside the trunk of the exported graph is there unchanged.
    trunk = {node.name for node in trunk_nodes(exported)}
    outside = [node.op_type for node in exported.graph.node if node.name not in trunk]
    assert {"Gemm", "Softmax", "Cast", "Relu"} <= set(outside)
    kinds = ("QuantizeLinear", "DequantizeLinear", "Conv", "MaxPool", "Add", "Relu")
    kept = [node.op_type for node in int8.graph.node if node.op_type not in kinds]
    assert sorted(kept) == sorted(kind for kind in outside if kind not in kinds)


@pytest.mark.slow
def test_depthwise_weights_have_eight_bits_and_relu6_is_inside_the_trunk(faces):
    net = {"_target_": "emodet.models.face_mobilenet.FaceMobileNet", "input_size": 32}
    exported = to_onnx(untrained(net=net, class_names=list(EMOTIONS), preprocessing={"size": 48}).eval())
    assert [node.op_type for node in trunk_nodes(exported)].count("Clip") == 27
    most = [np.abs(weight.astype(int)).max() for weight, _ in convolution_weights(quantise(exported, faces[:4]))]
    assert [value > 64 for value in most] == [False, *[True, False] * 13]


def test_outputs_are_close_to_fp32(exported, int8, faces):
    found = onnx_outputs(int8, faces)
    assert np.abs(found.astype(np.float64).sum(axis=1) - 1).max() <= 1e-5
    assert np.isclose(found * 255, np.round(found * 255), atol=1e-3).mean() < 0.3  # on no grid of 1/255
    for count in (1, 3, 32):
        assert 0 < np.abs(onnx_outputs(exported, faces[:count]) - onnx_outputs(int8, faces[:count])).max() < 0.15
    both = to_onnx(made_classifier(valence_arousal=1.0))
    fp32, quantised = (onnx_outputs(model, faces, "valence_arousal") for model in (both, quantise(both, faces)))
    assert 0 < np.abs(quantised - fp32).max() < 0.25
    assert np.abs(quantised).max() <= 1


def test_a_net_without_convolutions_is_refused(faces):
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", 48, 48, 3]) for name in ("crops", "same")]
    node = helper.make_node("Identity", ["crops"], ["same"], name="same")
    with pytest.raises(EmodetError, match="no convolution"):
        quantise(onnx.helper.make_model(helper.make_graph([node], "none", ends[:1], ends[1:])), faces)


# Parity checks at their limits, speed, and the report.


HALF = np.full((3, 2), 0.5)


def scores(right, faces=1000):
    """Over two classes, so many faces right."""
    values = {"keys": range(faces), "class_names": ("a", "b"), "split": "val", "data": "made"}
    emotion, probabilities = np.where(np.arange(faces) < right, 0, 1), np.tile([0.7, 0.3], (faces, 1))
    return evaluate_predictions(Predictions(emotion=emotion, probabilities=probabilities, **values), resamples=0)


@pytest.mark.parametrize(("lost", "verdict"), [(-3, "passed"), (0, "passed"), (5, "passed"), (6, "failed")])
def test_int8_may_lose_half_a_point_of_accuracy(lost, verdict):
    accuracy, check = score_checks("int8", scores(900 - lost), scores(900))
    assert (accuracy.verdict, accuracy.value) == ("recorded", (900 - lost) / 1000)
    assert (check.verdict, check.value, check.faces) == (verdict, pytest.approx(lost / 1000), 1000)


@pytest.mark.parametrize(
    ("part", "difference", "verdict"),
    [(0, 0.0, "passed"), (0, 9e-6, "passed"), (0, 2e-5, "failed"), (1, 9e-5, "passed"), (1, 2e-4, "failed")],
)
def test_unquantised_outputs_may_differ_little(part, difference, verdict):
    found = [HALF.copy(), HALF.copy()]
    found[part][1, 0] -= difference
    check = difference_checks("fp32", (HALF, HALF), tuple(found), limited=True)[part]
    assert (check.verdict, check.value) == (verdict, pytest.approx(difference))


def test_nan_fails_every_check_and_int8_slower_than_fp32_is_a_warning():
    broken = np.full((3, 2), np.nan)
    for limited in (True, False):
        checks = difference_checks("fp32", (HALF, HALF), (broken, broken), limited=limited)
        assert [check.verdict for check in checks] == ["failed"] * 3
    medians = {("fp32", 1): 2.0, ("int8", 1): 2.5, ("fp32", 32): 40.0, ("int8", 32): 10.0}
    *recorded, one, many = speed_checks(medians)
    assert [check.value for check in recorded] == list(medians.values())
    assert (one.verdict, one.value) == ("warning", pytest.approx(1.25))
    assert (many.verdict, many.value) == ("recorded", pytest.approx(0.25))
