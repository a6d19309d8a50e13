"""`python -m emodet.export`: model files that compute what the checkpoint computes, or an error with a way out."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from made_reader import ready

from emodet.errors import EmodetError
from emodet.evaluation.calibration import softmax
from emodet.evaluation.outputs import predict_split
from emodet.export import parity
from emodet.export.graph import ProbabilityGraph
from emodet.modelfile import read_model_file
from emodet.training.assembly import build_data
from emodet.training.checkpoints import load_classifier

FILES = {"emodet-fp32.onnx", "emodet-int8.onnx", "emodet-parity.json"}


@pytest.fixture(scope="module")
def data(release, own_folders):
    settings = {"root": release, "packs": own_folders / "packs", "reader": "auto", "num_workers": 0}
    return ready(build_data({"data": settings, "preprocessing": {"size": 48}}))


@pytest.fixture(scope="module")
def exported(command, trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "files"
    arguments = (f"checkpoint={trained_run}", "threads=1", "calibration_faces=32", f"output={folder}")
    assert command("emodet.export", *arguments) == 0
    return folder


def names_in(folder):
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def test_a_run_becomes_model_files_with_a_parity_report(exported):
    assert names_in(exported) == FILES
    report = json.loads((exported / "emodet-parity.json").read_text())
    assert report["written"] == {"fp32": True, "int8": True}
    assert {check["verdict"] for check in report["checks"]} <= {"passed", "recorded", "warning"}
    speeds = [check for check in report["checks"] if check["what"].startswith("milliseconds")]
    assert {(check["file"], check["faces"]) for check in speeds} == {(k, n) for k in ("fp32", "int8") for n in (1, 32)}
    assert (report["threads"], report["made_from"]["checkpoint"]) == (1, "best.ckpt")
    assert set(report["files"]) == FILES - {"emodet-parity.json"}
    limited = {(check["file"], check["limit"]) for check in report["checks"] if check["limit"] is not None}
    assert {("fp32", 1e-5), ("int8", 0.005)} <= limited


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_file_describes_itself(trained_run, exported, data, precision):
    info = read_model_file(exported / f"emodet-{precision}.onnx").info
    facts = json.loads((trained_run / "run.json").read_text())
    assert info.class_names == data.class_names
    assert info.preprocessing == load_classifier(trained_run / "checkpoints" / "best.ckpt").preprocessing
    assert info.temperature == pytest.approx(facts["temperature"])
    assert info.precision == precision
    assert info.fingerprint == data.pack.fingerprint == facts["pack"]["fingerprint"]
    assert info.training_data[0].name == data.pack.manifest["title"]
    assert "research only" in info.training_data[0].terms
    assert set(info.metrics) == {"val", "test"}
    assert info.metrics["test"]["faces"] == 24
    if precision == "fp32":
        for name, each in facts["results"]["test"].items():
            assert info.metrics["test"][name] == pytest.approx(each["value"], abs=1e-4), name


def test_columns_of_a_model_file_are_matched_by_name(trained_run, exported, data):
    model = read_model_file(exported / "emodet-fp32.onnx")

    def reordered(names):
        run = {"run": lambda crops: (model.probabilities(crops)[:, ::-1], None)}
        return SimpleNamespace(name="reordered", info=SimpleNamespace(class_names=names), **run)

    classifier = load_classifier(trained_run / "checkpoints" / "best.ckpt")
    expected = predict_split(classifier, data, "test", "cpu")
    probabilities = softmax(expected.logits, classifier.temperature.item())
    np.testing.assert_allclose(expected.probabilities, probabilities, atol=1e-9)
    for each in (model, reordered(model.info.class_names[::-1])):
        found = predict_split(each, data, "test")
        np.testing.assert_array_equal(found.index, expected.index)
        np.testing.assert_array_equal(found.emotion, expected.emotion)
        np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)
    int8 = predict_split(read_model_file(exported / "emodet-int8.onnx"), data, "test")
    np.testing.assert_allclose(int8.probabilities, probabilities, atol=0.05)
    with pytest.raises(EmodetError, match=r"data\.classes"):
        predict_split(reordered(model.info.class_names[1:]), data, "val")


def test_existing_files_are_kept(refused, trained_run, exported):
    before = {file.name: file.read_bytes() for file in exported.iterdir()}
    message = refused("emodet.export", f"checkpoint={trained_run}", "threads=1", f"output={exported}")
    assert "overwrite=true" in message
    assert "emodet-int8.onnx" in message
    assert {file.name: file.read_bytes() for file in exported.iterdir()} == before


@pytest.mark.slow
def test_without_data_there_is_no_int8(command, refused, trained_run, tmp_path, capfd):
    alone = tmp_path / "alone.ckpt"
    shutil.copy(trained_run / "checkpoints" / "best.ckpt", alone)
    options = ("name=mine", "trained_on=my faces", "terms=all mine", "preprocessing.margin=0.1")
    assert command("emodet.export", f"checkpoint={alone}", "threads=1", *options) == 0
    printed = capfd.readouterr()
    assert "int8 is left out" in printed.out + printed.err
    files = {"mine-fp32.onnx", "mine-parity.json"}
    assert names_in(tmp_path / "export") == files
    info = read_model_file(tmp_path / "export" / "mine-fp32.onnx").info
    assert [(each.name, each.terms) for each in info.training_data] == [("my faces", "all mine")]
    assert info.preprocessing.margin == pytest.approx(0.1)
    assert info.metrics == {}
    # Asked for by name, it is refused.
    assert "data.root" in refused("emodet.export", f"checkpoint={alone}", "formats=[int8]", "name=other")
    assert names_in(tmp_path / "export") == files


@pytest.mark.slow
def test_a_file_that_fails_is_not_written_unless_forced(command, trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parity, "MAX_ACCURACY_LOSS", -2.0)  # more faces than there are would have to be gained
    arguments = ("emodet.export", f"checkpoint={trained_run}", "threads=1", "calibration_faces=8", f"output={tmp_path}")
    assert command(*arguments) == 2
    printed = capsys.readouterr()
    assert "int8" in printed.err
    assert "force=true" in printed.err
    assert "FAILED" in printed.out
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-parity.json"}
    assert json.loads((tmp_path / "emodet-parity.json").read_text())["default"] == "fp32"
    assert command(*arguments, "force=true", "overwrite=true") == 0
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-int8.onnx", "emodet-parity.json"}
    # Files of an earlier export do not stay beside new ones.
    assert command(*arguments, "overwrite=true") == 2
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-parity.json"}


@pytest.mark.slow
def test_files_that_differ_from_the_checkpoint_are_not_written(refused, trained_run, tmp_path, monkeypatch):
    original = ProbabilityGraph.forward
    monkeypatch.setattr(ProbabilityGraph, "forward", lambda self, crops: original(self, crops) ** 1.001)
    output = tmp_path / "out"
    assert "fp32, int8" in refused("emodet.export", f"checkpoint={trained_run}", "threads=1", f"output={output}")
    assert names_in(output) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint="),
        (["checkpoint={tmp}/text.ckpt"], "text.ckpt"),
        (["checkpoint={tmp}"], "checkpoints/best.ckpt"),
        (["checkpoint={tmp}/model.onnx"], "model.onnx"),
        (["checkpoint={tmp}/weights.pt"], "weights.json"),
        (["checkpoint={run}", "formats=[fp16]"], "formats=.*fp16.*fp32, int8"),
        (["checkpoint={run}", "name=a/b"], "name='a/b'"),
        (["checkpoint={run}", "calibration_faces=0"], "calibration_faces=0"),
        (["checkpoint={run}", "preprocessing.size=96"], "preprocessing.size=96.*48"),
        (["checkpoint={run}", "preprocessing.colour=grey"], "preprocessing.colour=grey"),
        (["checkpoint={run}", "output={tmp}/text.ckpt/below"], "output="),
        (["checkpoint={run}", "data.root={tmp}/nowhere"], "nowhere"),
        (["checkpoint={run}", "preprocessing.margn=0.1"], "preprocessing.margin"),
    ],
)
def test_invalid_arguments_are_refused(refused, trained_run, tmp_path, arguments, message):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "weights.pt").write_text("")
    filled = [argument.format(tmp=tmp_path, run=trained_run) for argument in arguments]
    assert re.search(message, refused("emodet.export", *filled))
    assert names_in(trained_run / "export") == set()
    assert names_in(tmp_path) == {"text.ckpt", "model.onnx", "weights.pt"}
