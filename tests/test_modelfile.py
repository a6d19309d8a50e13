"""Model files: written, read back, checked; what contradicts itself is refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from made_files import put
from model_stub import SIZE, graph, info
from onnx import TensorProto, helper, numpy_helper

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.modelfile import SHIPPED, ModelFile, TrainingData, read_model_file, write_model_file
from emodet.modelinfo import FORMAT_VERSION
from emodet.preprocessing import Preprocessing


@pytest.fixture
def path(tmp_path):
    return write_model_file(graph(), info(), tmp_path / "stub.onnx")


def described(path, *forgotten, **texts):
    """The file with other metadata: texts by key, and keys that are left out."""
    model = onnx.load(path)
    pairs = {pair.key.removeprefix("emodet."): pair.value for pair in model.metadata_props} | texts
    del model.metadata_props[:]
    helper.set_model_props(model, {f"emodet.{key}": pairs[key] for key in pairs if key not in forgotten})
    path.write_bytes(model.SerializeToString())
    return path


def test_every_value_of_the_metadata_is_read_back(path):
    written = info(
        class_names=EMOTIONS[::-1],
        training_data=(TrainingData('写真, "a"', ""), TrainingData("b", "c\n")),
        metrics={"ä": {"accuracy": 0.1}},
        temperature_curve=(0.5, -0.5),
        class_shares=(0.125,) * 8,
        min_confidence=0.75,
    )
    write_model_file(graph(), written, path)
    assert read_model_file(path).info == written


def test_probabilities_are_those_of_the_graph_in_any_number_of_batches(path):
    crops = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)
    model = read_model_file(path, threads=1)
    expected = onnxruntime.InferenceSession(path).run(["probabilities"], {"crops": crops})[0]
    for batch_size in (1, 3, 64):
        found = model.probabilities(crops, batch_size=batch_size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.probabilities(crops[:0]).shape == (0, 8)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *(((2, SIZE, SIZE, 3), np.float32), ((2, 3, SIZE, SIZE), np.uint8)),
        *(((2, SIZE + 1, SIZE + 1, 3), np.uint8), ((SIZE, SIZE, 3), np.uint8)),
    ],
)
def test_crops_of_another_shape_or_type_are_refused(path, shape, kind):
    with pytest.raises(EmodetError, match="crops have shape"):
        read_model_file(path).probabilities(np.zeros(shape, kind))


def test_files_that_are_not_models_are_refused(tmp_path, path):
    with pytest.raises(EmodetError, match="No such file"):
        read_model_file(tmp_path / "none.onnx")
    with pytest.raises(EmodetError, match=r"[Dd]irectory"):
        read_model_file(tmp_path)
    file = tmp_path / "file.onnx"
    for data, words in ((b"", "empty"), (b"just some text", "not an ONNX model"), (b"\x00" * 100, "not an ONNX model")):
        file.write_bytes(data)
        with pytest.raises(EmodetError, match=words):
            read_model_file(file)
    data = path.read_bytes()
    for end in range(1, len(data), 97):
        with pytest.raises(EmodetError):
            ModelFile(data[:end])
    with pytest.raises(EmodetError, match="no emodet metadata"):
        read_model_file(described(path, *(pair.key.partition(".")[2] for pair in onnx.load(path).metadata_props)))


def test_the_first_format_is_read_and_a_newer_one_refused(path):
    later = ("checksum", "temperature_curve", "class_shares", "min_confidence")
    found = read_model_file(described(path, *later, format_version="1")).info
    assert (found.format_version, found.class_shares, found.min_confidence) == (1, (), None)
    with pytest.raises(EmodetError, match="upgrade emodet"):
        read_model_file(described(path, format_version=str(FORMAT_VERSION + 1), something_new="1"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"class_names": ["uncertain", *EMOTIONS[1:]]}, "uncertain"),
        ({"class_names": [*EMOTIONS[:7], "neutral"]}, "each once"),
        ({"class_names": list(EMOTIONS[:7])}, "7 classes"),
        ({"class_names": "neutral"}, "not a list"),
        ({"preprocessing": Preprocessing(size=SIZE + 16).to_dict()}, "preprocessing makes crops"),
        ({"preprocessing": {"size": 32, "blur": 1}}, "blur"),
        ({"preprocessing": 3}, "damaged"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": 1e308}, "temperature"),
        ({"format_version": -1}, "format_version"),
        ({"temperature_curve": [1, 1e9]}, "temperature_curve"),
        ({"temperature_curve": [0, 1]}, "temperature_curve"),
        ({"class_shares": [0.5, 0.5]}, "class_shares"),
        ({"class_shares": [1.0] * 8}, "class_shares"),
        ({"min_confidence": 2}, "min_confidence"),
        ({"metrics": {"test": {"accuracy": 17.5}}}, "17.5"),
        ({"metrics": {"test": {"accuracy_" * 100_000 + "\n": 2}}}, "from 0 to 1"),
        ({"precision": "fp16"}, "precision"),
        ({"outputs": ["probabilities", "valence_arousal"]}, "outputs"),
        ({"metrics": {"test": {"accuracy": "good"}}}, "accuracy"),
        ({"training_data": [{"name": "x"}]}, "damaged"),
        ({"commit": "\ud800"}, "damaged"),
        ({"class_names": ["\x1b[31m", *EMOTIONS[1:]]}, r"\\x1b\[31m, happiness"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_metadata_that_contradicts_the_graph_or_itself(path, values, words):
    with pytest.raises(EmodetError, match=words):
        read_model_file(described(path, **{key: json.dumps(value) for key, value in values.items()}))


def test_float_pixels_fixed_batches_and_logits_are_refused(tmp_path):
    pixels, logits = graph(), graph()
    pixels.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    softmax = next(node for node in logits.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    for model, words in ((pixels, "uint8"), (graph(batch=1), "fixed at 1"), (logits, "sum to")):
        with pytest.raises(EmodetError, match=words):
            write_model_file(model, info(), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_with_a_nan_scale_is_not_written(tmp_path):
    model, described_as = onnx.load(SHIPPED["int8"]), read_model_file(SHIPPED["int8"]).info
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "relu_scale")
    scale.CopyFrom(numpy_helper.from_array(np.float32(np.nan), "relu_scale"))
    with pytest.raises(EmodetError, match="relu_scale contains NaN or infinity"):
        write_model_file(model, described_as, tmp_path / "x.onnx")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_weights_in_another_file_are_refused(path, location, tmp_path, monkeypatch):
    """Also where the file exists and holds the right number of bytes."""
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    for folder in (tmp_path, tmp_path / "inner"):
        put(folder / "weights.bin", weights.raw_data)
    monkeypatch.chdir(tmp_path / "inner")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location.format(folder=tmp_path))
    with pytest.raises(EmodetError, match="one file"):
        ModelFile(model.SerializeToString())


def test_a_changed_graph_is_refused(path):
    """Also where it still runs: the metadata holds a checksum of the graph."""
    data = bytearray(path.read_bytes())
    weights = numpy_helper.to_array(onnx.load(path).graph.initializer[-1]).tobytes()
    data[data.index(weights)] ^= 1
    with pytest.raises(EmodetError, match="SHA-256"):
        ModelFile(bytes(data))
    with pytest.raises(EmodetError, match=r"lacks emodet\.checksum"):
        read_model_file(described(path, "checksum"))


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, "9" * 10_000, "1" + "0" * 400, f'"{"x" * 2_000_000}"', f'"{"x" * 9000}"', "{}", "1"),
        '{"test": {"accuracy": 0.5, "accuracy": 0.6}}',
    ],
)
@pytest.mark.parametrize("key", ["metrics", "temperature", "checksum", "format_version", "preprocessing"])
def test_metadata_that_is_deep_or_huge_or_has_a_key_twice(path, key, text):
    if (key, text) in (("metrics", "{}"), ("temperature", "1"), ("format_version", "1")):
        return
    with pytest.raises(EmodetError) as refusal:
        read_model_file(described(path, **{key: text}))
    assert len(str(refusal.value)) < 2000


def test_a_failed_write_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(EmodetError, match="6"):
        write_model_file(graph(6), info(), path)
    assert path.read_bytes() == before
    folder = path.parent / "file"
    folder.write_text("not a folder")
    with pytest.raises(EmodetError, match="could not be written"):
        write_model_file(graph(), info(), folder / "model.onnx")


def test_providers_and_threads(path):
    assert read_model_file(path, providers=("cpu",)).providers == ("CPUExecutionProvider",)
    for providers in (("gpu",), (), "cpu"):
        with pytest.raises(EmodetError, match="available"):
            read_model_file(path, providers=providers)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EmodetError, match="CUDA"):
            read_model_file(path, providers=("cuda", "cpu"))
    with pytest.raises(EmodetError, match="threads=0"):
        read_model_file(path, threads=0)
