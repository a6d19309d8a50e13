import contextlib
import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_stub import SIZE, graph, info
from onnx import TensorProto, helper

from emodet import onnx_bytes
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.modelfile import (
    FORMAT_VERSION,
    ModelFile,
    ModelInfo,
    TrainingData,
    read_model_file,
    shipped_model,
    write_model_file,
)
from emodet.preprocessing import Preprocessing


@pytest.fixture
def path(tmp_path):
    return write_model_file(graph(), info(), tmp_path / "stub.onnx")


def rewritten(path, change):
    """The file with its ONNX model changed behind the writer's back."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def set_metadata(**values):
    def change(model):
        pairs = {pair.key: pair.value for pair in model.metadata_props}
        pairs |= {f"emodet.{key}": json.dumps(value) for key, value in values.items()}
        del model.metadata_props[:]
        helper.set_model_props(model, pairs)

    return change


def test_what_is_written_is_read_back(path):
    assert read_model_file(path).info == info()


def test_onnxruntime_alone_finds_class_names_and_preprocessing(path):
    found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(found["emodet.class_names"]) == list(EMOTIONS)
    assert Preprocessing.from_dict(json.loads(found["emodet.preprocessing"])) == info().preprocessing


def test_probabilities_are_those_of_the_graph_in_any_number_of_batches(path):
    crops = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    model = read_model_file(path, threads=1)
    expected = onnxruntime.InferenceSession(path).run(["probabilities"], {"crops": crops})[0]
    for batch_size in (1, 3, 64):
        found = model.probabilities(crops, batch_size=batch_size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.probabilities(crops[:0]).shape == (0, 8)


def test_valence_and_arousal_come_second(tmp_path):
    outputs = ("probabilities", "valence_arousal")
    path = write_model_file(graph(valence_arousal=True), info(outputs=outputs), tmp_path / "both.onnx")
    model = read_model_file(path)
    probabilities, valence_arousal = model.run(np.zeros((3, SIZE, SIZE, 3), dtype=np.uint8))
    assert probabilities.shape == (3, 8)
    assert valence_arousal.shape == (3, 2)
    assert model.run(np.zeros((0, SIZE, SIZE, 3), dtype=np.uint8))[1].shape == (0, 2)


def test_seven_classes_in_another_order(tmp_path):
    names = tuple(reversed(EMOTIONS[:7]))
    path = write_model_file(graph(7), info(class_names=names), tmp_path / "seven.onnx")
    assert read_model_file(path).info.class_names == names


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((2, SIZE, SIZE, 3), dtype=np.float32),
        np.zeros((2, 3, SIZE, SIZE), dtype=np.uint8),
        np.zeros((2, SIZE + 1, SIZE + 1, 3), dtype=np.uint8),
        np.zeros((SIZE, SIZE, 3), dtype=np.uint8),
    ],
)
def test_other_crops_are_refused(path, crops):
    with pytest.raises(EmodetError, match="crops have shape"):
        read_model_file(path).probabilities(crops)


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(EmodetError, match="No such file"):
        read_model_file(tmp_path / "none.onnx")
    with pytest.raises(EmodetError, match=r"[Dd]irectory"):
        read_model_file(tmp_path)
    file = tmp_path / "file.onnx"
    for data, words in ((b"", "empty"), (b"just some text", "not an ONNX model"), (b"\x00" * 100, "not an ONNX model")):
        file.write_bytes(data)
        with pytest.raises(EmodetError, match=words):
            read_model_file(file)


def test_a_file_cut_off_anywhere_is_refused(path):
    data = path.read_bytes()
    for end in range(1, len(data), 97):
        with pytest.raises(EmodetError):
            ModelFile(data[:end])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data):
    with pytest.raises(EmodetError):
        ModelFile(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_changed_byte_breaks_the_walk_over_the_file(data):
    whole = bytearray(graph().SerializeToString())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    for walk in (onnx_bytes.metadata, onnx_bytes.external_files, onnx_bytes.with_free_shapes):
        with contextlib.suppress(ValueError):
            walk(bytes(whole))


def test_without_metadata(path):
    def forget(model):
        del model.metadata_props[:]

    with pytest.raises(EmodetError, match="no emodet metadata"):
        read_model_file(rewritten(path, forget))


def test_a_newer_format_says_so_even_with_unknown_keys(path):
    change = set_metadata(format_version=FORMAT_VERSION + 1, something_new=1)
    with pytest.raises(EmodetError, match="upgrade emodet"):
        read_model_file(rewritten(path, change))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"class_names": ["happy", *EMOTIONS[1:]]}, "happy"),
        ({"class_names": [*EMOTIONS[:7], "neutral"]}, "each once"),
        ({"class_names": list(EMOTIONS[:7])}, "names 7 classes"),
        ({"class_names": "neutral"}, "not a list"),
        ({"preprocessing": Preprocessing(size=SIZE + 16).to_dict()}, "preprocessing makes crops"),
        ({"preprocessing": {"size": 32, "blur": 1}}, "blur"),
        ({"preprocessing": 3}, "damaged"),
        ({"temperature": 0}, "temperature"),
        ({"precision": "fp16"}, "precision"),
        ({"outputs": ["probabilities", "valence_arousal"]}, "outputs"),
        ({"metrics": {"test": {"accuracy": "good"}}}, "accuracy"),
        ({"training_data": [{"name": "x"}]}, "damaged"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_metadata_that_contradicts_the_graph_or_itself(path, values, words):
    with pytest.raises(EmodetError, match=words):
        read_model_file(rewritten(path, set_metadata(**values)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph(batch=1), "exactly 1 crops"),
        (graph(size=SIZE // 2), "preprocessing makes crops"),
        (graph(6), "6"),
        (graph(valence_arousal=True), "outputs"),
    ],
)
def test_graphs_that_are_not_what_is_said_are_not_written(tmp_path, model, words):
    with pytest.raises(EmodetError, match=words):
        write_model_file(model, info(), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_float_pixels_or_logits_are_refused(tmp_path):
    model = graph()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(EmodetError, match="uint8"):
        write_model_file(model, info(), tmp_path / "x.onnx")
    model = graph()
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    with pytest.raises(EmodetError, match="holds none"):
        write_model_file(model, info(), tmp_path / "x.onnx")


@pytest.mark.parametrize("location", ["weights.bin", "../../../etc/passwd"])
def test_weights_in_another_file_are_refused_before_anything_is_loaded(path, location):
    def outside(model):
        tensor = model.graph.initializer[-1]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location

    with pytest.raises(EmodetError, match="one file"):
        read_model_file(rewritten(path, outside))


def test_external_weights_are_found_in_nodes_and_subgraphs():
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "far.bin"
    constant = helper.make_node("Constant", [], ["far"])
    constant.attribute.add(name="value", t=tensor, type=onnx.AttributeProto.TENSOR)
    output = helper.make_tensor_value_info("far", TensorProto.FLOAT, [1])
    inner = helper.make_graph([constant], "inner", [], [output])
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([branch], "outer", [], []))
    assert onnx_bytes.external_files(model.SerializeToString()) == ("far.bin",)


def test_freed_shapes_give_the_same_numbers():
    fixed = graph(batch=1)
    # As old exporters do, every weight is an input too.
    for tensor in fixed.graph.initializer:
        fixed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    session = onnxruntime.InferenceSession(onnx_bytes.with_free_shapes(fixed.SerializeToString()))
    assert [each.name for each in session.get_inputs()] == ["crops"]
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    one_by_one = onnxruntime.InferenceSession(fixed.SerializeToString())
    expected = [one_by_one.run(None, {"crops": crop[None]})[0][0] for crop in crops]
    np.testing.assert_allclose(session.run(None, {"crops": crops})[0], expected, atol=1e-5)


def test_a_file_that_was_there_survives_a_failed_write(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EmodetError, match="No space left"):
        write_model_file(graph(), info(temperature=2.0), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_providers_and_threads(path):
    assert read_model_file(path, providers=("cpu",)).providers == ("CPUExecutionProvider",)
    for providers in (("gpu",), (), "cpu"):
        with pytest.raises(EmodetError, match="at hand"):
            read_model_file(path, providers=providers)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EmodetError, match="CUDA"):
            read_model_file(path, providers=("cuda", "cpu"))
    with pytest.raises(EmodetError, match="threads=0"):
        read_model_file(path, threads=0)


def test_a_precision_that_is_not_shipped():
    with pytest.raises(EmodetError, match="no fp64 model file"):
        shipped_model("fp64")


@given(
    temperature=st.floats(0.01, 100),
    classes=st.permutations(EMOTIONS),
    text=st.text(max_size=20),
    value=st.floats(allow_nan=False, allow_infinity=False),
)
def test_info_survives_the_way_through_metadata(temperature, classes, text, value):
    original = info(
        temperature=temperature,
        class_names=tuple(classes),
        training_data=(TrainingData(text, text), TrainingData("b", "")),
        metrics={text: {text: value}},
    )
    assert ModelInfo.from_metadata(original.to_metadata()) == original


def test_info_is_checked_when_it_is_made():
    with pytest.raises(EmodetError, match="accuracy"):
        info(metrics={"test": {"accuracy": float("nan")}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        info().temperature = 2
