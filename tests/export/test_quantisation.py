"""int8 inside the convolutional trunk only, per channel, with probabilities that sum to 1."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from emodet.errors import EmodetError
from emodet.export.quantisation import calibration_rows, quantise, trunk_nodes


@pytest.fixture(scope="module")
def int8(exported, faces):
    return quantise(exported, faces)


def run(model, crops):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"crops": crops})[0]


def weights(model, bits_of="Conv"):
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == bits_of:
            scaled = made_by[node.input[1]]
            assert scaled.op_type == "DequantizeLinear"
            yield tensors[scaled.input[0]], tensors[scaled.input[1]]


def test_every_convolution_has_int8_weights_with_a_scale_per_channel(int8):
    pairs = list(weights(int8))
    assert len(pairs) == 12
    for weight, scale in pairs:
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)
        assert len(np.unique(scale)) > 1


def test_reduced_range_means_seven_bits(exported, faces, int8):
    assert max(np.abs(weight.astype(int)).max() for weight, _ in weights(int8)) <= 64
    full = quantise(exported, faces, reduce_range=False)
    assert max(np.abs(weight.astype(int)).max() for weight, _ in weights(full)) > 64


def test_normalisation_head_temperature_and_softmax_stay_float(exported, int8):
    made_by = {name: node for node in int8.graph.node for name in node.output}
    quantised = [node for node in int8.graph.node if node.op_type in ("Conv", "MaxPool")]
    assert {made_by[node.input[0]].op_type for node in quantised} == {"DequantizeLinear"}
    # What is float in the exported graph outside of the trunk is there unchanged, fed by no dequantised weight.
    trunk = set(trunk_nodes(exported))
    outside = [node.op_type for node in exported.graph.node if node.name not in trunk]
    assert {"Gemm", "Softmax", "Cast", "Relu"} <= set(outside)
    kinds = ("QuantizeLinear", "DequantizeLinear", "Conv", "MaxPool", "Add", "Relu")
    kept = [node.op_type for node in int8.graph.node if node.op_type not in kinds]
    assert sorted(kept) == sorted(kind for kind in outside if kind not in kinds)
    for node in int8.graph.node:
        if node.op_type in ("Gemm", "Softmax"):
            assert {made_by[name].op_type for name in node.input if name in made_by} <= {
                *("Relu", "Reshape", "BatchNormalization", "Gemm", "Div", "Flatten")
            }


def test_rows_sum_to_one_and_are_on_no_grid(int8, faces):
    found = run(int8, faces)
    assert np.abs(found.astype(np.float64).sum(axis=1) - 1).max() <= 1e-5
    on_grid = np.isclose(found * 255, np.round(found * 255), atol=1e-3)
    assert on_grid.mean() < 0.3


def test_it_answers_nearly_as_fp32_for_any_number_of_faces(exported, int8, faces):
    for count in (1, 3, 32):
        difference = np.abs(run(exported, faces[:count]) - run(int8, faces[:count]))
        assert 0 < difference.max() < 0.15


def test_valence_and_arousal_stay_close_to_fp32(both, faces):
    int8 = quantise(both[2], faces)
    fp32, quantised = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["valence_arousal"], {"crops": faces}
        )[0]
        for model in (both[2], int8)
    )
    assert 0 < np.abs(quantised - fp32).max() < 0.25
    assert np.abs(quantised).max() <= 1


def test_the_same_faces_give_the_same_file_and_the_model_stays_as_it_was(exported, faces, int8):
    before = exported.SerializeToString(deterministic=True)
    assert quantise(exported, faces).SerializeToString(deterministic=True) == int8.SerializeToString(deterministic=True)
    assert exported.SerializeToString(deterministic=True) == before


def test_a_net_without_convolutions_is_refused(faces):
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["crops"], ["same"], name="same")],
        "none",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["N", 48, 48, 3])],
        [helper.make_tensor_value_info("same", TensorProto.UINT8, ["N", 48, 48, 3])],
    )
    with pytest.raises(EmodetError, match="no convolution"):
        quantise(onnx.helper.make_model(graph), faces)


def test_the_calibration_faces_are_the_same_every_time_and_each_once():
    candidates = np.arange(1000) * 3
    rows = calibration_rows(candidates, 100)
    np.testing.assert_array_equal(rows, calibration_rows(candidates, 100))
    assert len(np.unique(rows)) == 100
    assert np.isin(rows, candidates).all()
    assert rows.max() > 2000  # from everywhere, not the first ones
    assert len(calibration_rows(candidates[:7], 100)) == 7
    with pytest.raises(EmodetError, match="calibration_faces=0"):
        calibration_rows(candidates, 0)
