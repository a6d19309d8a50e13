"""Trainings whose faces lie on a torch device: the command, going on after a stop, two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resuming import assert_same_end, signal_at

TRAIN = [
    "experiment=ferplus",
    "data.device=cpu",
    "preprocessing.colour=grey",
    "training.progressive_sizes=[[0,32],[1,48]]",
    "trainer.check_val_every_n_epoch=1",
    "trainer.precision=32-true",
]


def facts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def test_the_command_trains_measures_and_says_so(
    command: Any, small: list[str], tmp_path: Path, without_pictures: None, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [*small, *TRAIN, "data.num_workers=1", f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *arguments) == 0
    found = facts(tmp_path)
    assert found["data_device"] == "cpu"
    assert {"val", "test"} <= set(found["results"])
    log = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "72 training faces lie on cpu" in log
    assert "24 val faces lie on cpu" in log
    assert "data.num_workers=1: for reports only" in log
    assert (tmp_path / "augmentation.png").is_file()
    # What was trained where must not matter to what measures it.
    assert command("emodet.evaluate", f"checkpoint={tmp_path}", "resamples=20", "errors=0") == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_stops_before_any_long_work(
    command: Any, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packs = tmp_path / "packs"
    arguments = ["experiment=baseline", *small, "data.device=cuda", f"data.packs={packs}", f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *arguments) != 0
    assert "data.device=cuda: torch" in capfd.readouterr().err
    assert not packs.exists()


@pytest.mark.parametrize("debug", ["one_batch", "overfit"])
@pytest.mark.slow
def test_the_debug_presets_work(
    command: Any, small: list[str], tmp_path: Path, without_pictures: None, debug: str
) -> None:
    own = [argument for argument in small if not argument.startswith(("data.batch_size", "trainer.max_epochs"))]
    arguments = [*own, "experiment=baseline", "data.device=cpu", f"debug={debug}", f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *arguments, "trainer.max_epochs=20" if debug == "overfit" else "seed=1") == 0
    assert facts(tmp_path)["faces"]["train"] == (16 if debug == "overfit" else 72)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert command("emodet.train", *small, *TRAIN, f"hydra.run.dir={whole}") == 0
    with monkeypatch.context() as patched:
        signal_at(patched, "on_train_batch_start", epoch=1, batch=4)
        assert command("emodet.train", *small, *TRAIN, f"hydra.run.dir={stopped}") == 130
    assert command("emodet.train", f"resume={stopped}") == 0
    assert_same_end(whole, stopped)


@pytest.mark.slow
def test_two_processes_each_hold_the_faces(small: list[str], tmp_path: Path) -> None:
    arguments = [*small, *TRAIN, "trainer.strategy=ddp", "trainer.devices=2", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "emodet.train", *arguments],
        **{"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True, "timeout": 600},
    )
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path)
    assert found["batch"] == {"processes": 2, "per_process": 8}
    assert found["data_device"] == "cpu"
    assert "Warning" not in done.stderr
