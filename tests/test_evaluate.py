"""`python -m emodet.evaluate`: the figures of a run can be had again, from the checkpoint alone."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def run(small, own_folders, tmp_path_factory) -> Path:
    """A run of one epoch, with its reports."""
    import runpy
    import sys
    from unittest.mock import patch

    from hydra.core.global_hydra import GlobalHydra

    folder = tmp_path_factory.mktemp("run") / "first"
    GlobalHydra.instance().clear()
    arguments = ["experiment=affectnet_yolo", *small, "trainer.max_epochs=1", "logger=csv", f"hydra.run.dir={folder}"]
    with patch.object(sys, "argv", ["emodet.train", *arguments, "trainer.precision=32-true"]):
        runpy.run_module("emodet.train", run_name="__main__", alter_sys=False)
    return folder


def metrics(report: Path) -> dict:
    return json.loads((report / "report.json").read_text())["metrics"]


def test_a_checkpoint_measures_as_its_run_did(command, run, tmp_path, capsys):
    output = tmp_path / "again"
    assert command("emodet.evaluate", f"checkpoint={run}/checkpoints/best.ckpt", f"output={output}") == 0
    assert metrics(output) == metrics(run / "evaluation-test")
    said = capsys.readouterr().out
    assert "split test: 24 faces" in said
    assert str(output / "report.html") in said
    assert (output / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_selection_faces_are_another_role_and_say_so(command, run, tmp_path):
    output = tmp_path / "selection"
    checkpoint = f"checkpoint={run}/checkpoints/best.ckpt"
    assert command("emodet.evaluate", checkpoint, "split=val", f"output={output}") == 0
    assert metrics(output) == metrics(run / "evaluation-val")
    report = json.loads((output / "report.json").read_text())
    assert report["split"] == "val"
    assert any("optimistic" in note for note in report["notes"])


def test_mirror_images_are_answered_too_and_the_page_says_so(command, run, tmp_path):
    checkpoint, output = f"checkpoint={run}/checkpoints/best.ckpt", tmp_path / "both"
    assert command("emodet.evaluate", checkpoint, f"output={output}", "flip=true") == 0
    assert "mean of each crop and its mirror image" in (output / "report.html").read_text(encoding="utf-8")
    assert metrics(output) != metrics(run / "evaluation-test")


def test_other_data_can_be_named(command, run, release, tmp_path):
    output = tmp_path / "other"
    lonely = tmp_path / "lonely.ckpt"
    lonely.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    arguments = (f"checkpoint={lonely}", "data=affectnet_yolo", f"data.root={release}", "data.num_workers=0")
    assert command("emodet.evaluate", *arguments, f"output={output}") == 0
    assert metrics(output) == metrics(run / "evaluation-test")


def test_a_checkpoint_outside_a_run_needs_data(command, run, tmp_path, capsys):
    lonely = tmp_path / "lonely.ckpt"
    lonely.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    assert command("emodet.evaluate", f"checkpoint={lonely}") == 2
    assert "data.root" in capsys.readouterr().err


@pytest.mark.slow
def test_worse_pictures_are_measured_too(command, run, tmp_path, capsys):
    out = tmp_path / "worse"
    checkpoint = f"checkpoint={run}/checkpoints/best.ckpt"
    assert command("emodet.evaluate", checkpoint, f"output={out}", "corruptions=true", "resamples=100") == 0
    said = capsys.readouterr().out
    page = (out / "report.html").read_text()
    rows = (out / "robustness.csv").read_text().splitlines()
    assert len(rows) == 2 + 3 * 7
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")
    for text in ("low light", "10 % of the light", "quality 25"):
        assert text in said
        assert text in page
    # Without corruptions a second report in its place leaves none of this behind.
    assert command("emodet.evaluate", checkpoint, f"output={out}", "resamples=100") == 0
    assert not (out / "robustness.csv").exists()


@pytest.mark.parametrize("arguments", [[], ["checkpoint=a.ckpt", "model=b.onnx"]])
def test_one_thing_is_measured(command, capsys, arguments):
    assert command("emodet.evaluate", *arguments) == 2
    assert "either checkpoint=" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_what_is_no_checkpoint(command, tmp_path, capsys, content):
    file = tmp_path / "some.ckpt"
    if content is not None:
        file.write_bytes(content)
    assert command("emodet.evaluate", f"checkpoint={file}") == 2
    assert str(file) in capsys.readouterr().err


def test_there_is_no_such_role(command, run, capsys):
    assert command("emodet.evaluate", f"checkpoint={run}/checkpoints/best.ckpt", "split=exam") == 2
    assert "exam" in capsys.readouterr().err
