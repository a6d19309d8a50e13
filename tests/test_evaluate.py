"""`python -m emodet.evaluate`: the scores of a run can be reproduced from the checkpoint alone."""

import json
import shutil

import pytest

pytestmark = pytest.mark.usefixtures("plain_figures")


def metrics(report):
    return json.loads((report / "report.json").read_text())["metrics"]


def test_a_checkpoint_scores_as_in_its_run(output, trained_run, tmp_path):
    again, best = tmp_path / "again", f"checkpoint={trained_run}/checkpoints/best.ckpt"
    printed = output("emodet.evaluate", best, "data.classes=7", f"output={again}")
    assert metrics(again) == metrics(trained_run / "evaluation-test")
    assert "data.classes=7: the net also has contempt" in printed
    assert "split test: 24 faces" in printed
    assert str(again / "report.html") in printed
    assert (again / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    facts = json.loads((trained_run / "run.json").read_text())["results"]["test"]
    assert set(facts["accuracy"]) == {"value", "low", "high"}
    for name, each in facts.items():
        assert metrics(again)[name] | each == metrics(again)[name]


def test_reports_are_written_into_the_run_folder(command, trained_run, tmp_path):
    output = tmp_path / "val"
    assert command("emodet.evaluate", f"checkpoint={trained_run}", "split=val", f"output={output}") == 0
    assert metrics(output) == metrics(trained_run / "evaluation-val")
    report = json.loads((output / "report.json").read_text())
    assert report["split"] == "val"
    assert any("optimistic" in note for note in report["notes"])
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    before = {path.name for path in run.iterdir()}
    options = ("resamples=0", "errors=0")
    assert command("emodet.evaluate", f"checkpoint={run}", *options) == 0
    assert {path.name for path in run.iterdir()} == before
    assert metrics(run / "evaluation-test")["accuracy"]["low"] is None  # replaced
    assert command("emodet.evaluate", f"checkpoint={run}/checkpoints/last.ckpt", *options) == 0
    assert {path.name for path in run.iterdir()} - before == {"evaluation-test-last"}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "val"}


def test_a_checkpoint_outside_a_run_needs_data(command, refused, trained_run, release, tmp_path):
    alone = tmp_path / "alone.ckpt"
    shutil.copy(trained_run / "checkpoints" / "best.ckpt", alone)
    assert "data.root" in refused("emodet.evaluate", f"checkpoint={alone}")
    data = ("data=affectnet_yolo", f"data.root={release}", "data.num_workers=0")
    assert command("emodet.evaluate", f"checkpoint={alone}", *data, "resamples=20") == 0
    reports = (tmp_path / "alone-evaluation-test", trained_run / "evaluation-test")
    found, expected = ({name: each["value"] for name, each in metrics(report).items()} for report in reports)
    assert found == expected


@pytest.mark.slow
def test_robustness(command, trained_run, tmp_path, capsys):
    output = tmp_path / "robustness"
    arguments = (f"checkpoint={trained_run}", f"output={output}", "resamples=100")
    assert command("emodet.evaluate", *arguments, "corruptions=true") == 0
    assert len((output / "robustness.csv").read_text().splitlines()) == 2 + 3 * 7
    assert (output / "robustness.png").read_bytes().startswith(b"\x89PNG")
    printed, page = capsys.readouterr().out, (output / "report.html").read_text()
    for text in ("low light", "10 % of the light", "quality 25"):
        assert text in page
    assert "mean accuracy over all corruptions" in printed
    # A second report without it leaves nothing of the first.
    assert command("emodet.evaluate", *arguments) == 0
    assert not (output / "robustness.csv").exists()


def test_a_model_file_is_evaluated_on_data_without_splits(output, release, tmp_path):
    for number, picture in enumerate(sorted((release / "train" / "images").iterdir())[:40]):
        folder = tmp_path / "photos" / ("happy", "neutral")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
    data = ("data=class_folders", f"data.root={tmp_path / 'photos'}", "data.processes=1")
    measured = ("emodet.evaluate", "model=int8", *data, f"output={tmp_path / 'report'}", "resamples=100")
    printed = output(*measured)
    assert "split 10 % of train" in printed
    assert "split=all" in printed
    assert "These faces chose the epoch of a model that was trained on this data," in printed
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert not [name for name in report["metrics"] if name.startswith("uncalibrated")]
    assert "temperature" not in report["details"]
    printed = output(*measured, "split=all")
    assert "split all faces: 40 faces" in printed
    assert "faces chose" not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "checkpoint="),
        (["checkpoint=a.ckpt", "model=b.onnx"], "either"),
        (["checkpoint={tmp}/none.ckpt"], "none.ckpt"),
        (["checkpoint={tmp}/text.ckpt"], "text.ckpt"),
        (["checkpoint={run}", "split=exam"], "exam"),
        (["model=int4"], "int8, accurate, fp32"),
        (["checkpoint={run}", "output={tmp}/text.ckpt"], "text.ckpt"),
        (["checkpoint={run}", "errors=-1"], "errors=-1"),
        (["checkpoint={run}", "accelerator=abacus"], "abacus"),
        (["checkpoint={run}", "accelerator=xpu"], "accelerator='xpu': choose auto, cpu, gpu or mps"),
    ],
)
def test_invalid_arguments_are_refused(refused, trained_run, tmp_path, arguments, words):
    (tmp_path / "text.ckpt").write_bytes(b"not a checkpoint")
    assert words in refused("emodet.evaluate", *(each.format(tmp=tmp_path, run=trained_run) for each in arguments))
