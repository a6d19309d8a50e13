"""`python -m emodet.export`: from a run to model files that answer as its checkpoint does, or to a clear refusal."""

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from emodet.errors import EmodetError
from emodet.evaluation.outputs import predict_split, predict_split_with_model_file
from emodet.modelfile import read_model_file
from emodet.training.assembly import build_data
from emodet.training.checkpoints import load_classifier

FILES = {"emodet-fp32.onnx", "emodet-int8.onnx", "emodet.pt2", "emodet-gate.json"}


def run_command(module: str, *arguments: str) -> int:
    """As the fixture `command`, for fixtures that live longer than a test."""
    import runpy
    import sys

    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with patch.object(sys, "argv", [module, *arguments]):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
    return 0


@pytest.fixture(scope="module")
def run(small, tmp_path_factory) -> Path:
    """A run of one epoch on drawn faces."""
    folder = tmp_path_factory.mktemp("run") / "first"
    arguments = ["experiment=affectnet_yolo", *small, "trainer.max_epochs=1", "logger=csv", f"hydra.run.dir={folder}"]
    with (
        patch("emodet.evaluation.reporting.write_report", lambda *_, **__: None),
        patch("emodet.evaluation.curves.plot_curves", lambda *_, **__: None),
    ):
        assert run_command("emodet.train", *arguments, "trainer.precision=32-true") == 0
    return folder


@pytest.fixture(scope="module")
def data(small, release, own_folders):
    settings = {"root": release, "packs": own_folders / "packs", "reader": "auto", "num_workers": 0}
    opened = build_data({"data": settings, "preprocessing": {"size": 48}})
    opened.prepare_data()
    opened.setup()
    return opened


@pytest.fixture(scope="module")
def graphs(run):
    """What both exporters make of the run's checkpoint, which takes seconds."""
    from emodet.export.graph import to_onnx, to_program

    program = to_program(load_classifier(run / "checkpoints" / "best.ckpt"))
    return program, to_onnx(program)


@pytest.fixture
def graphs_at_hand(graphs, monkeypatch):
    """Exports of the same checkpoint that spare themselves those seconds."""
    monkeypatch.setattr("emodet.export.model_set.to_program", lambda _: graphs[0])
    monkeypatch.setattr("emodet.export.model_set.to_onnx", lambda _: graphs[1])


@pytest.fixture(scope="module")
def exported(run, graphs) -> Path:
    with (
        patch("emodet.export.model_set.to_program", lambda _: graphs[0]),
        patch("emodet.export.model_set.to_onnx", lambda _: graphs[1]),
    ):
        assert run_command("emodet.export", f"checkpoint={run}", "threads=1", "calibration_faces=32") == 0
    return run / "export"


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.is_dir() else set()


def test_a_run_becomes_model_files_beside_their_gate(exported):
    assert names_in(exported) == FILES
    gate = json.loads((exported / "emodet-gate.json").read_text())
    assert gate["written"] == {"fp32": True, "int8": True, "pt2": True}
    assert {check["verdict"] for check in gate["checks"]} <= {"passed", "recorded", "warning"}
    assert {(each["file"], each["batch"]) for each in gate["speeds"]} == {
        (kind, batch) for kind in ("fp32", "int8") for batch in (1, 32)
    }
    assert (gate["threads"], gate["made_from"]["checkpoint"]) == (1, "best.ckpt")
    limited = {(check["file"], check["limit"]) for check in gate["checks"] if check["limit"] is not None}
    assert {("fp32", 1e-5), ("pt2", 1e-5), ("int8", 0.005)} <= limited


@pytest.mark.parametrize("count", [1, 3, 32])
def test_they_answer_as_the_checkpoint_does(run, exported, data, count):
    crops = data.pack.images(np.arange(count))
    classifier = load_classifier(run / "checkpoints" / "best.ckpt")
    with torch.inference_mode():
        expected = classifier.probabilities(torch.from_numpy(crops)).numpy()
        loaded = torch.export.load(exported / "emodet.pt2").module()(torch.from_numpy(crops)).numpy()
    assert np.abs(read_model_file(exported / "emodet-fp32.onnx").probabilities(crops) - expected).max() <= 1e-5
    assert np.abs(loaded - expected).max() <= 1e-5
    int8 = read_model_file(exported / "emodet-int8.onnx").probabilities(crops)
    assert np.abs(int8 - expected).max() < 0.05
    assert np.abs(int8.astype(np.float64).sum(axis=1) - 1).max() <= 1e-5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_file_says_everything_about_itself(run, exported, data, precision):
    info = read_model_file(exported / f"emodet-{precision}.onnx").info
    facts = json.loads((run / "run.json").read_text())
    classifier = load_classifier(run / "checkpoints" / "best.ckpt")
    assert info.class_names == data.class_names
    assert info.preprocessing == classifier.preprocessing
    assert info.temperature == pytest.approx(facts["temperature"])
    assert info.precision == precision
    assert info.fingerprint == data.pack.fingerprint == facts["pack"]["fingerprint"]
    assert info.training_data[0].name == data.pack.manifest["title"]
    assert "research only" in info.training_data[0].terms
    assert set(info.metrics) == {"val", "test"}
    assert info.metrics["test"]["faces"] == 24
    if precision == "fp32":
        for name, value in info.metrics["test"].items():
            if name != "faces":
                assert value == pytest.approx(facts["results"]["test"][name]["value"], abs=1e-4), name


def test_a_torch_program_says_it_too(exported):
    content = {"emodet.json": ""}
    torch.export.load(exported / "emodet.pt2", extra_files=content)
    described = json.loads(content["emodet.json"])
    assert described["class_names"][0] == "neutral"
    assert described["metrics"]["test"]["faces"] == 24


def test_a_model_file_answers_on_a_role_s_faces_as_its_checkpoint(run, exported, data):
    classifier = load_classifier(run / "checkpoints" / "best.ckpt")
    expected = predict_split(classifier, data, "test", "cpu")
    found = predict_split_with_model_file(read_model_file(exported / "emodet-fp32.onnx"), data, "test")
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(found.emotion, expected.emotion)
    probabilities = torch.softmax(torch.from_numpy(expected.logits) / classifier.temperature, 1).numpy()
    np.testing.assert_allclose(np.exp(found.logits), probabilities, atol=1e-5)


def test_a_model_file_s_columns_are_matched_by_name(exported, data):
    class Permuted:
        """A model file whose columns stand in another order."""

        def __init__(self, model):
            self.model, self.name = model, "permuted"
            self.order = list(range(8))[::-1]
            self.info = type("Info", (), {"class_names": tuple(model.info.class_names[i] for i in self.order)})

        def run(self, crops):
            return self.model.probabilities(crops)[:, self.order], None

    model = read_model_file(exported / "emodet-fp32.onnx")
    straight, permuted = (predict_split_with_model_file(each, data, "val") for each in (model, Permuted(model)))
    np.testing.assert_array_equal(straight.logits, permuted.logits)
    permuted = Permuted(model)
    permuted.info.class_names = permuted.info.class_names[1:]
    with pytest.raises(EmodetError, match=r"data\.classes"):
        predict_split_with_model_file(permuted, data, "val")


def test_files_that_are_there_are_kept(command, run, exported, capsys):
    before = {file.name: file.read_bytes() for file in exported.iterdir()}
    assert command("emodet.export", f"checkpoint={run}", "threads=1") == 2
    said = capsys.readouterr().err
    assert "overwrite=true" in said
    assert "emodet-int8.onnx" in said
    assert {file.name: file.read_bytes() for file in exported.iterdir()} == before


def test_without_data_there_is_no_int8_and_a_sentence_about_it(command, run, graphs_at_hand, tmp_path, capsys):
    lonely = tmp_path / "lonely.ckpt"
    shutil.copy(run / "checkpoints" / "best.ckpt", lonely)
    asked = ("name=mine", "trained_on=my faces", "terms=all mine", "preprocessing.margin=0.1")
    assert command("emodet.export", f"checkpoint={lonely}", "threads=1", *asked) == 0
    said = capsys.readouterr()
    assert "int8 is left out" in said.out + said.err
    assert names_in(tmp_path / "export") == {"mine-fp32.onnx", "mine.pt2", "mine-gate.json"}
    info = read_model_file(tmp_path / "export" / "mine-fp32.onnx").info
    assert [(each.name, each.terms) for each in info.training_data] == [("my faces", "all mine")]
    assert info.preprocessing.margin == pytest.approx(0.1)
    assert info.metrics == {}
    # Asked for by name, it is not left out but refused.
    assert command("emodet.export", f"checkpoint={lonely}", "formats=[int8]", "name=other") == 2
    assert "data.root" in capsys.readouterr().err
    assert names_in(tmp_path / "export") == {"mine-fp32.onnx", "mine.pt2", "mine-gate.json"}


@pytest.mark.slow
def test_int8_that_loses_accuracy_is_not_written_unless_forced(
    command, run, graphs_at_hand, tmp_path, capsys, monkeypatch
):
    # No file gets twice as many faces more right than there are.
    monkeypatch.setattr("emodet.export.gate.LARGEST_ACCURACY_LOSS", -2.0)
    arguments = ("emodet.export", f"checkpoint={run}", "threads=1", "calibration_faces=8", f"output={tmp_path}")
    formats = "formats=[fp32,int8]"
    assert command(*arguments, formats) == 2
    said = capsys.readouterr()
    assert "int8 failed the gate and was not written" in said.err
    assert "FAILED" in said.out
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-gate.json"}
    assert json.loads((tmp_path / "emodet-gate.json").read_text())["default"] == "fp32"
    assert command(*arguments, formats, "force=true", "overwrite=true") == 0
    assert "although it failed" in capsys.readouterr().out
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-int8.onnx", "emodet-gate.json"}
    # A set without int8 leaves none of an earlier set behind.
    assert command(*arguments, formats, "overwrite=true") == 2
    assert names_in(tmp_path) == {"emodet-fp32.onnx", "emodet-gate.json"}


def test_files_that_differ_from_the_checkpoint_are_not_written_at_all(command, run, tmp_path, capsys, monkeypatch):
    from emodet.export import graph

    original = graph.ProbabilityGraph.forward
    monkeypatch.setattr(graph.ProbabilityGraph, "forward", lambda self, crops: original(self, crops) ** 1.001)
    output = tmp_path / "out"
    arguments = (f"checkpoint={run}", "threads=1", "calibration_faces=8", f"output={output}")
    assert command("emodet.export", *arguments) == 2
    assert "fp32, int8, pt2 failed the gate" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to export"),
        (["checkpoint={tmp}/none.ckpt"], "no such file"),
        (["checkpoint={tmp}/text.ckpt"], "not a checkpoint|no checkpoint"),
        (["checkpoint={tmp}"], "has no checkpoints/best.ckpt"),
        (["checkpoint={tmp}/model.onnx"], "a model file already"),
        (["checkpoint={tmp}/weights.pt"], "no weights.json beside it"),
        (["checkpoint={run}", "formats=[fp16]"], "formats=\\['fp16'\\]: one or more of fp32, int8, pt2"),
        (["checkpoint={run}", "name=a/b"], "a file name without a folder"),
        (["checkpoint={run}", "calibration_faces=0"], "calibration_faces=0"),
        (["checkpoint={run}", "preprocessing.size=96"], "preprocessing.size=96: the net was trained with 48"),
        (["checkpoint={run}", "preprocessing.colour=grey"], "preprocessing.colour=grey"),
        (["checkpoint={run}", "output={tmp}/text.ckpt/below"], "cannot be written to"),
        (["checkpoint={run}", "data.root={tmp}/nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(command, run, tmp_path, capsys, arguments, message):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "weights.pt").write_text("")
    before = names_in(run / "export")
    filled = [argument.format(tmp=tmp_path, run=run) for argument in arguments]
    assert command("emodet.export", *filled) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    import re

    assert re.search(message, said), said
    assert names_in(run / "export") == before
    assert names_in(tmp_path) == {"text.ckpt", "model.onnx", "weights.pt"}


def test_a_mistyped_key_is_refused(command, run, capsys):
    assert command("emodet.export", f"checkpoint={run}", "quantize=true") != 0
    assert "quantize" in capsys.readouterr().err


def test_the_weights_of_a_run_export_as_its_checkpoint(command, run, exported, graphs_at_hand, tmp_path):
    from emodet.training.trained import load_trained
    from emodet.training.weights import write_weights

    trained = load_trained(run)
    write_weights(trained.classifier, trained.card(), tmp_path / "weights.pt")
    arguments = (f"checkpoint={tmp_path}/weights.pt", "formats=[fp32]", "threads=1", f"output={tmp_path}/out")
    # The gate holds the file, made from the checkpoint, to what the weights answer.
    assert command("emodet.export", *arguments) == 0
    one, other = (read_model_file(folder / "emodet-fp32.onnx").info for folder in (exported, tmp_path / "out"))
    assert other.training_data == one.training_data
    assert (other.temperature, other.fingerprint) == (one.temperature, one.fingerprint)
    assert other.metrics["test"]["accuracy"] == pytest.approx(one.metrics["test"]["accuracy"])
