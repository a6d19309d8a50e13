"""Sweeps in other processes: what they share out, and what is left when one of them dies. Real processes, so slow."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emodet.training.folder import RunFolder

pytestmark = pytest.mark.slow

BRIEF = [
    *("experiment=affectnet_yolo", "trainer.precision=32-true", "logger=csv", "callbacks=[default]"),
    "trainer.max_epochs=1",
]
ENDLESS = "trainer.max_epochs=100000"


Start = Callable[[list[str]], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts sweeps; what a failed test leaves running is ended, as its runs are endless."""
    processes: list[subprocess.Popen[str]] = []

    def started(arguments: list[str]) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [sys.executable, "-m", "emodet.train", "-m", *BRIEF, *arguments]
        # Its own group: a signal for it is none for pytest.
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.poll() is None:
            process.terminate()  # its runs hear of it, wherever they are
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def states(sweep: Path) -> list[str]:
    with (sweep / "runs.csv").open(newline="", encoding="utf-8") as stream:
        return [run["state"] for run in csv.DictReader(stream)]


def process_of(run: Path, *, seconds: float = 150) -> int:
    """The process that trains in this folder, once it has written its first checkpoint."""
    deadline = time.monotonic() + seconds
    while not (run / "checkpoints" / "last.ckpt").is_file():
        assert time.monotonic() < deadline, f"{run} did not start"
        time.sleep(0.2)
    return int(RunFolder(run).facts()["process"])


def without_workers(small: list[str]) -> list[str]:
    """What the launcher sets is what is tested."""
    return [argument for argument in small if argument != "data.num_workers=0" and "max_epochs" not in argument]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_runs_side_by_side_share_the_machine(launcher: str, start: Start, small: list[str], tmp_path: Path) -> None:
    if launcher == "ray":
        pytest.importorskip("ray")
    if launcher == "submitit_local":
        pytest.importorskip("submitit")
    arguments = [
        *without_workers(small),
        f"launcher={launcher}",
        "data.classes=8,7",
        "loss.class_weights=[1,1,1,1,1,1,1]",
    ]
    process = start([*arguments, f"hydra.sweep.dir={tmp_path}"])
    out, error = process.communicate(timeout=400)
    # The first run fails by its settings, in a process that is not ours; the second is not touched by it.
    assert process.returncode == 1, error
    assert states(tmp_path) == ["failed", "finished"]
    assert "run 0 did not finish: loss.class_weights=[1, 1, 1, 1, 1, 1, 1]: 7 weights for 8 classes" in error
    assert "comparison:  " in out
    facts = RunFolder(tmp_path / "1").facts()
    cores = len(os.sched_getaffinity(0))
    assert 2 * (facts["threads"] + facts["num_workers"]) <= max(cores, 2)
    assert facts["process"] != process.pid


def test_a_worker_that_is_killed_costs_its_own_runs(start: Start, small: list[str], tmp_path: Path) -> None:
    arguments = [*without_workers(small), "launcher=joblib", ENDLESS, "seed=1,2,3"]
    process = start([*arguments, f"hydra.sweep.dir={tmp_path}"])
    first, _second = process_of(tmp_path / "0"), process_of(tmp_path / "1")
    os.kill(first, signal.SIGKILL)
    process_of(tmp_path / "2")
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert "error: the launcher lost its runs" in error
    assert "run 0 did not finish: its process ended, or was ended with another of this pool" in error
    # What had not begun began in a new pool; the signal to the sweep reached it there, and it left a checkpoint.
    assert states(tmp_path) == ["failed", "failed", "interrupted"]
    assert "comparison:  " in out


def test_a_task_of_ray_that_is_killed_is_one_failure(start: Start, small: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    process = start([*without_workers(small), "launcher=ray", ENDLESS, "seed=1,2", f"hydra.sweep.dir={tmp_path}"])
    first, _second = process_of(tmp_path / "0"), process_of(tmp_path / "1")
    os.kill(first, signal.SIGKILL)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert "run 0 did not finish: its worker died" in error
    assert states(tmp_path) == ["failed", "interrupted"]


def test_a_job_of_submitit_that_is_killed_is_one_failure(start: Start, small: list[str], tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    arguments = [*without_workers(small), "launcher=submitit_local", ENDLESS, "seed=1,2"]
    process = start([*arguments, f"hydra.sweep.dir={tmp_path}"])
    first, _second = process_of(tmp_path / "0"), process_of(tmp_path / "1")
    os.kill(first, signal.SIGKILL)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert "run 0 did not finish: its process ended without a result" in error
    assert states(tmp_path) == ["failed", "interrupted"]


def test_a_killed_search_is_compared_and_gone_on_with(start: Start, small: list[str], tmp_path: Path) -> None:
    import optuna

    journal = tmp_path / "study.journal"
    epochs = "trainer.max_epochs=12"
    common = [*without_workers(small), "sweep=optuna", "sweep.trials=1", epochs, f"sweep.study={journal}"]
    process = start([*common, f"hydra.sweep.dir={tmp_path / 'a'}"])
    process_of(tmp_path / "a" / "0")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    compare = [sys.executable, "-m", "emodet.compare", str(tmp_path / "a")]
    done = subprocess.run(compare, capture_output=True, text=True, timeout=120, check=True)
    assert "unfinished: run 0: no end was noted" in done.stdout
    assert states(tmp_path / "a") == ["unfinished"]
    plan = json.loads((tmp_path / "a" / "sweep.json").read_text(encoding="utf-8"))
    assert (plan["kind"], epochs in plan["command"]) == ("search", True)
    process = start([*common, f"hydra.sweep.dir={tmp_path / 'b'}"])
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    trials = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="emodet").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[0].params == trials[1].params
    assert states(tmp_path / "b") == ["unfinished", "finished"]
