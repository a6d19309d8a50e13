"""int8 inside the convolutional trunk only, per channel, with probabilities that sum to 1."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from emodet.errors import EmodetError
from emodet.export.quantisation import quantise, trunk_nodes


@pytest.fixture(scope="module")
def int8(exported, faces):
    return quantise(exported, faces)


def run(model, crops, output="probabilities"):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([output], {"crops": crops})[0]


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def convolution_weights(model):
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scaled = [producers(model)[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert {node.op_type for node in scaled} == {"DequantizeLinear"}
    return [(tensors[node.input[0]], tensors[node.input[1]]) for node in scaled]


def test_every_convolution_has_int8_weights_with_a_scale_per_channel(exported, faces, int8):
    pairs = convolution_weights(int8)
    assert len(pairs) == 12
    for weight, scale in pairs:
        assert (weight.dtype, scale.shape) == (np.int8, (weight.shape[0],))
        assert len(np.unique(scale)) > 1
    # Seven bits, or eight.
    full = convolution_weights(quantise(exported, faces, reduce_range=False))
    assert max(np.abs(weight.astype(int)).max() for weight, _ in pairs) <= 64
    assert max(np.abs(weight.astype(int)).max() for weight, _ in full) > 64


def test_normalisation_head_temperature_and_softmax_stay_float(exported, int8):
    made_by = producers(int8)
    quantised = [node for node in int8.graph.node if node.op_type in ("Conv", "MaxPool")]
    assert {made_by[node.input[0]].op_type for node in quantised} == {"DequantizeLinear"}
    # What is outside the trunk of the exported graph is there unchanged.
    trunk = set(trunk_nodes(exported))
    outside = [node.op_type for node in exported.graph.node if node.name not in trunk]
    assert {"Gemm", "Softmax", "Cast", "Relu"} <= set(outside)
    kinds = ("QuantizeLinear", "DequantizeLinear", "Conv", "MaxPool", "Add", "Relu")
    kept = [node.op_type for node in int8.graph.node if node.op_type not in kinds]
    assert sorted(kept) == sorted(kind for kind in outside if kind not in kinds)
    heads = [node for node in int8.graph.node if node.op_type in ("Gemm", "Softmax")]
    fed_by = {made_by[name].op_type for node in heads for name in node.input if name in made_by}
    assert not fed_by & {"DequantizeLinear", "QuantizeLinear"}


def test_outputs_are_close_to_fp32(exported, int8, both, faces):
    found = run(int8, faces)
    assert np.abs(found.astype(np.float64).sum(axis=1) - 1).max() <= 1e-5
    assert np.isclose(found * 255, np.round(found * 255), atol=1e-3).mean() < 0.3  # on no grid of 1/255
    for count in (1, 3, 32):
        assert 0 < np.abs(run(exported, faces[:count]) - run(int8, faces[:count])).max() < 0.15
    fp32, quantised = (run(model, faces, "valence_arousal") for model in (both[1], quantise(both[1], faces)))
    assert 0 < np.abs(quantised - fp32).max() < 0.25
    assert np.abs(quantised).max() <= 1


def test_a_net_without_convolutions_is_refused(faces):
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", 48, 48, 3]) for name in ("crops", "same")]
    node = helper.make_node("Identity", ["crops"], ["same"], name="same")
    with pytest.raises(EmodetError, match="no convolution"):
        quantise(onnx.helper.make_model(helper.make_graph([node], "none", ends[:1], ends[1:])), faces)
