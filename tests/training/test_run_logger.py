"""What a run logs, read back from an offline run of Weights & Biases and from TensorBoard's event files."""

import math
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_commands import run_command
from wandb_log import WandbLog

from emodet.errors import EmodetError
from emodet.files import sha256_of
from emodet.training.folder import RunFolder
from emodet.training.run_logger import may_show_pictures

wandb = pytest.importorskip("wandb")
accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

FIGURES = ("confusion_matrix", "reliability", "recall_by_class", "worst_errors")
PREFIXES = {"val": "final/val", "test": "test"}


@pytest.fixture(scope="module")
def run(train_once, small, tmp_path_factory):
    """A run of one epoch on drawn faces, continued for another, with both loggers and everything that is logged."""
    folder = tmp_path_factory.mktemp("logged")
    arguments = ["experiment=affectnet_yolo", *small, "logger=[wandb,tensorboard]", "logger.wandb.group=some"]
    arguments += ["optimizer.lr=0.002", "scheduler=constant", "trainer.max_epochs=1", f"hydra.run.dir={folder}"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_SILENT", "true")
        train_once(*arguments)
        assert run_command("emodet.train", f"resume={folder}", "trainer.max_epochs=2") == 0
    return RunFolder(folder)


@pytest.fixture(scope="module")
def log(run):
    return WandbLog(run.path)


@pytest.fixture(scope="module")
def events(run):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return accumulator.EventAccumulator(str(run.path / "tensorboard"), size_guidance=everything).Reload()


def test_configuration_and_checkpoint_are_logged(run, log):
    facts = run.facts()
    assert log.name.startswith("affectnet_yolo-ResidualCNN-seed")
    assert log.group == "some"
    assert log.config["optimizer"]["lr"] == 0.002
    assert log.config["net"]["channels"] == [4, 4, 8, 8]
    assert log.config["choices"]["experiment"] == facts["choices"]["experiment"] == "affectnet_yolo"
    for key in ("commit", "fingerprint", "seed", "trainable_parameters", "multiply_adds", "faces", "splits", "pack"):
        assert log.config[key] == facts[key], key
    checkpoint = log.artifact("checkpoint-")
    assert (checkpoint["type"], set(checkpoint["aliases"])) == ("model", {"best", "latest"})
    results = run.facts()["results"]
    assert checkpoint["metadata"]["metrics"]["test"]["accuracy"] == results["test"]["accuracy"]["value"]
    staged = Path(checkpoint["files"]["best.ckpt"])
    assert staged.is_relative_to(run.path / "wandb")
    assert sha256_of(staged) == sha256_of(run.best)


def test_metrics_of_every_epoch_are_one_curve(log, events):
    metrics = ("loss", "accuracy", "macro_f1", "balanced_accuracy", "calibration_error", "nll", "recall/fear")
    names = [f"val/{name}" for name in metrics]
    names += [f"train/{name}" for name in ("loss", "accuracy", "macro_f1", "faces_per_second")]
    for name in names:
        rows = [row for row in log.history if name in row]
        assert [row["epoch"] for row in rows] == [0, 1], name
        assert all(math.isfinite(row[name]) for row in rows)
        steps = [event.step for event in events.Scalars(name)]
        assert len(steps) == 2, name
        assert steps[0] < steps[1]
    assert [key for row in log.history for key in row if key.startswith("lr-")]


@pytest.mark.parametrize("split", ["val", "test"])
def test_final_scores_have_intervals(split, run, log, events):
    results, prefix = run.facts()["results"][split], PREFIXES[split]
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "nll", "calibration_error", "brier"):
        known = results["ece" if name == "calibration_error" else name]
        for end, key in (("", "value"), ("/low", "low"), ("/high", "high")):
            if known[key] is not None:
                assert log.summary[f"{prefix}/{name}{end}"] == pytest.approx(known[key])
                assert events.Scalars(f"{prefix}/{name}{end}")[-1].value == pytest.approx(known[key], rel=1e-5)
    assert f"{prefix}/recall/fear" in log.summary
    for name in ("temperature", "faces_per_second"):
        assert log.summary[name] == pytest.approx(run.facts()[name])


def test_figures_and_tables_of_both_splits(run, log, events):
    figures = {f"{prefix}/{name}" for prefix in PREFIXES.values() for name in FIGURES}
    assert set(events.Tags()["images"]) == {*figures, "augmentation"}
    assert all(events.Images(name)[-1].width > 300 for name in figures)
    for name in (*figures, "augmentation"):
        assert list(run.path.glob(f"wandb/offline-run-*/files/media/images/{name}*.png")), name
    for prefix in PREFIXES.values():
        for row in log.table(f"{prefix}/classes")["data"]:
            assert row[1] == pytest.approx(log.summary[f"{prefix}/recall/{row[0]}"])
        errors = log.table(f"{prefix}/worst_errors")["data"]
        assert [row[3] for row in errors] == sorted((max(row[4:]) for row in errors), reverse=True)
        assert all(row[1] != row[2] for row in errors)


def test_the_dashboard_names_only_logged_metrics_and_needs_a_team(log, capsys, monkeypatch):
    script = Path(__file__).parents[2] / "experiments/dashboards/workspace.py"
    named = set(re.findall(r'"((?:train|val|test|final)/[a-z0-9_/]+)"', script.read_text(encoding="utf-8")))
    assert len(named) > 20
    logged = {key for row in log.history for key in row} | set(log.summary)
    assert {name for name in named if not any(key == name or key.startswith(f"{name}.") for key in logged)} == set()
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setattr(sys, "argv", ["workspace.py", "--print"])
    runpy.run_path(str(script), run_name="__main__")
    assert "val/accuracy" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["workspace.py"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
def test_no_picture_of_affectnet_gets_into_the_log(release, command, small, tmp_path):
    """The drawn faces without the mark that they are drawn: to the reader this is AffectNet."""
    affectnet, run = tmp_path / "yolo", tmp_path / "run"
    shutil.copytree(release, affectnet, ignore=shutil.ignore_patterns("*.json", ".*"))
    arguments = ["experiment=affectnet_yolo", *small, f"data.root={affectnet}", "logger=wandb", "trainer.max_epochs=1"]
    assert command("emodet.train", *arguments, "callbacks.run_logger.artifacts=false", f"hydra.run.dir={run}") == 0
    assert (run / "augmentation.png").is_file()  # it stays on this machine
    log = WandbLog(run)
    assert not [name for name in log.artifacts if name.startswith("checkpoint")]
    files = [file for file in (run / "wandb").rglob("*") if file.is_file()]
    assert len(files) > 10
    names = {file.name.split("_")[0] for file in files if file.read_bytes().startswith((b"\x89PNG", b"\xff\xd8\xff"))}
    assert names == {"confusion", "reliability", "recall"}


def made_pack(title, reader="yolo", **terms):
    return SimpleNamespace(manifest={"title": title, "reader": reader, **terms})


OPEN = made_pack("drawn faces", redistributable=True)
AFFECTNET, OLD = made_pack("AffectNet", redistributable=False), made_pack("AffectNet", "affectnet_csv")
OWN = made_pack("own pictures", "own_csv", redistributable=False)


@pytest.mark.parametrize(
    ("choice", "pack", "shown"),
    [
        *(("auto", OPEN, True), ("auto", AFFECTNET, False), ("auto", OLD, False), ("auto", OWN, False)),
        *((False, OPEN, False), (True, OPEN, True), (True, OWN, True)),
        *((True, AFFECTNET, None), (True, OLD, None), ("yes", OPEN, None)),  # refused
    ],
)
def test_which_pictures_are_shown(choice, pack, shown, caplog):
    if shown is None:
        with pytest.raises(EmodetError, match=r"callbacks\.run_logger\.pictures="):
            may_show_pictures(choice, pack)
    else:
        assert may_show_pictures(choice, pack) is shown
    assert ("WILL BE SENT" in caplog.text) == (choice is True and pack is OWN)
