"""Tracked runs that are stopped, lose the network or the disk, or have no tracker installed: nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_log import read_wandb_log
from wandb_service import WandbService

from emodet.models.classifier import EmotionClassifier
from emodet.training.folder import RunFolder

pytest.importorskip("wandb")
pytestmark = pytest.mark.slow

TRACKED = ["experiment=affectnet_yolo", "logger=wandb", "logger.artifacts=false", "scheduler=constant"]


# Of this process's wandb, and what decides whether it is online.
OWN = ("WANDB_MODE", "WANDB_SILENT", "WANDB_SERVICE", "WANDB_DATA_DIR")


def train_apart(run: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own: wandb remembers the environment of its first use."""
    known = {name: value for name, value in os.environ.items() if name not in OWN}
    return subprocess.run(
        [sys.executable, "-m", "emodet.train", *arguments, f"hydra.run.dir={run}"],
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_run_that_is_stopped_and_continued_is_one_run(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    original = EmotionClassifier.training_step

    def stopped(self: EmotionClassifier, batch: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(EmotionClassifier, "training_step", stopped)
        assert command("emodet.train", *TRACKED, *small, f"hydra.run.dir={tmp_path}") == 130
    known = RunFolder(tmp_path).facts()["wandb"]["id"]
    assert command("emodet.train", f"resume={tmp_path}") == 0
    log = read_wandb_log(tmp_path)
    assert log.run_ids == [known, known]
    assert log.ended == [130, 0]
    assert [row["epoch"] for row in log.history if "val/accuracy" in row] == [0, 1]
    assert "final/test/accuracy" in log.summary


def test_each_run_of_a_multirun_is_a_run_of_its_own(
    command: Any, small: list[str], tmp_path: Path, without_pictures: None
) -> None:
    sweep = ["seed=1,2", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}"]
    assert command("emodet.train", "--multirun", *TRACKED, *small, *sweep) == 0
    logs = [read_wandb_log(folder.parent) for folder in sorted(tmp_path.glob("*/wandb"))]
    assert [log.config["seed"] for log in logs] == [1, 2]
    assert [log.ended for log in logs] == [[0], [0]]
    assert len({run_id for log in logs for run_id in log.run_ids}) == 2
    assert all("final/test/accuracy" in log.summary for log in logs)


def test_a_network_that_goes_away_loses_nothing(small: list[str], tmp_path: Path) -> None:
    service = WandbService()
    try:
        done = train_apart(
            tmp_path,
            *TRACKED,
            *small,
            WANDB_API_KEY="0" * 40,
            WANDB_BASE_URL=service.address,
            WANDB_FINISH_TIMEOUT="3",
        )
    finally:
        service.close()
    assert done.returncode == 0, done.stderr
    assert "UpsertBucket" in service.asked  # it had begun online
    assert "could not be sent" in done.stdout
    assert "goes on offline" in done.stdout
    online, offline = sorted((tmp_path / "wandb").glob("*run-2*"), key=lambda folder: folder.name, reverse=True)
    assert f"wandb sync --include-online {online} {offline}" in done.stdout
    log = read_wandb_log(tmp_path)
    assert len(set(log.run_ids)) == 1
    assert [row["epoch"] for row in log.history if "val/accuracy" in row] == [0, 1]
    assert log.config["optimizer"]["lr"]
    assert log.artifact("pack-")["used"]
    assert log.charts["final/test/confusion_matrix"] == "wandb/confusion_matrix/v1"
    assert "final/test/accuracy" in log.summary


def test_a_network_that_was_never_there(small: list[str], tmp_path: Path) -> None:
    done = train_apart(
        tmp_path,
        *TRACKED,
        *small,
        "trainer.max_epochs=1",
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_INIT_TIMEOUT="3",
        WANDB_LOGIN_TIMEOUT="3",
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be reached" in done.stdout
    assert "this run is logged offline" in done.stdout
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert f"wandb sync {folder}" in done.stdout


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A run's folder whose ``wandb/`` is a disk of its own with 200 kB."""
    folder = tmp_path / "run" / "wandb"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs to be root")
    yield folder.parent
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_the_tracker_s_log_and_nothing_else(small: list[str], little_disk: Path) -> None:
    done = train_apart(little_disk, *TRACKED, *small, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert "did not take augmentation (OSError: No space left on device); the run goes on" in done.stdout
    assert "is not whole: its log ends before the run did" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    run = RunFolder(little_disk)
    assert run.best.is_file()
    assert run.facts()["results"]["test"]["accuracy"]
    assert (run.path / "evaluation-test" / "report.html").is_file()
    assert (run.path / "metrics.csv").read_text(encoding="utf-8").count("\n") > 2


DYING = """
import logging, os, sys, time
from pathlib import Path
from emodet.training.folder import RunFolder
from emodet.training.loggers import build_loggers, close_loggers
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
settings = {"name": "wandb", "project": "emodet"}
for number in range(2):
    loggers = build_loggers(settings, RunFolder(Path(sys.argv[1]) / str(number)), "name")
    if number == 0:
        children = " ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children"))
        (core,) = [int(pid) for pid in children.split() if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(core, 9)
        time.sleep(1)
    for step in range(5):
        loggers[1].log_metrics({"val/accuracy": 1.0}, step)
    close_loggers(loggers)
print("done")
"""


def test_a_dead_process_of_wandb_stops_neither_this_run_nor_the_next(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / str(number)).mkdir()
    command = [sys.executable, "-c", DYING, str(tmp_path)]
    environment = {**{name: value for name, value in os.environ.items() if name not in OWN}, "WANDB_MODE": "offline"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "did not take metrics" in done.stdout
    assert "wandb's own process died" in done.stdout
    assert done.stdout.rstrip().endswith("done")
    next_one = read_wandb_log(tmp_path / "1")
    assert (len(next_one.history), next_one.ended) == (5, [0])


ABSENT = """
import importlib.abc, runpy, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("wandb", "tensorboard", "tensorboardX", "wandb_workspaces"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv[0] = "emodet.train"
runpy.run_module("emodet.train", run_name="__main__")
"""


def test_without_any_tracker_installed_csv_trains(small: list[str], tmp_path: Path) -> None:
    arguments = ["experiment=affectnet_yolo", "logger=csv", *small, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}"]
    command = [sys.executable, "-c", ABSENT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    facts = RunFolder(tmp_path).facts()
    assert facts["faces_per_second"] > 0
    assert "wandb" not in facts
    assert not (tmp_path / "model").exists()
