"""How many processes are wanted and who started them, the command line of each, and a SLURM job that runs again."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_resuming import COMMON, assert_same_end, made_run, signal_at

from emodet.errors import EmodetError
from emodet.training.command_line import training_arguments
from emodet.training.interruption import Interruption
from emodet.training.launching import on_devices
from emodet.training.requeueing import folder_name, job_of, requeue
from emodet.training.starting import started_by

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "none", "RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"},
}
SRUN = {
    **{"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_STEP_NUM_TASKS": "16", "SLURM_NTASKS": "16"},
    **{"SLURM_NTASKS_PER_NODE": "8", "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NNODES": "2"},
}
CPU = {"accelerator": "cpu"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables for the test, in an environment that nobody started anything in."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC", "SUBMITIT"))]:
        monkeypatch.delenv(name)
    return lambda variables: [monkeypatch.setenv(name, value) for name, value in variables.items()]


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


# Who started what.


def test_who_started_the_processes() -> None:
    assert started_by({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "8"}) is None  # a batch script without srun
    torchrun, srun = started_by(TORCHRUN), started_by(SRUN)
    assert torchrun is not None
    assert srun is not None
    assert (torchrun.by, torchrun.rank, torchrun.per_node, torchrun.nodes) == ("torchrun", 9, 8, 2)
    assert (srun.by, srun.rank, srun.per_node, srun.nodes) == ("srun", 3, 8, 2)
    assert started_by({**SRUN, **TORCHRUN}) == torchrun  # srun starts torchrun on each node
    with pytest.raises(EmodetError, match="give the job --ntasks-per-node"):
        started_by({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN])
def test_devices_are_what_was_started(variables: dict[str, str], environment: Any) -> None:
    environment(variables)
    arguments = on_devices({**CPU, "strategy": "ddp", "devices": "auto"})
    assert (arguments["devices"], arguments["num_nodes"]) == (8, 2)
    (cluster,) = arguments["plugins"]
    assert cluster.world_size() == 16
    # Of SLURM's signals one handler is enough.
    assert getattr(cluster, "auto_requeue", False) is False


def test_without_a_gpu_auto_is_one_process(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    arguments = on_devices({"strategy": "ddp", "devices": "auto"})
    assert (arguments["devices"], arguments["num_nodes"]) == (1, 1)
    assert "strategy" not in arguments
    gpus(monkeypatch, 4)
    assert on_devices({"devices": "auto"})["devices"] == 4


@pytest.mark.parametrize(
    ("trainer", "variables", "cards", "message"),
    [
        ({"strategy": "fsdp"}, {}, 0, r"trainer.strategy=fsdp: there are auto, ddp"),
        ({"devices": 0}, {}, 0, r"trainer.devices=0: a number from 1"),
        ({**CPU, "devices": 4096}, {}, 0, r"trainer.devices=4096: without a GPU .* at most trainer.devices=\d+"),
        ({"devices": 8}, {}, 2, r"trainer.devices=8: this process sees 2 GPU\(s\); at most trainer.devices=2"),
        ({"devices": [0, 5]}, {}, 2, r"trainer.devices=\[0, 5\]: this process sees 2"),
        ({"devices": "auto"}, SRUN, 1, r"trainer.devices=8: this process sees 1 .* without --gpus-per-task"),
        ({"devices": 1}, TORCHRUN, 0, r"trainer.devices=1, but torchrun started 8 processes on each node: use tra"),
        ({**CPU, "num_nodes": 3}, SRUN, 0, r"trainer.num_nodes=3, but srun started 2 nodes"),
        ({**CPU, "num_nodes": 2}, {}, 0, r"trainer.num_nodes=2: nobody starts the processes of the other nodes"),
        ({**CPU, "sync_batchnorm": True}, TORCHRUN, 0, r"trainer.sync_batchnorm=true: .* on GPUs only"),
    ],
)
def test_what_cannot_be(
    trainer: dict[str, Any],
    variables: dict[str, str],
    cards: int,
    message: str,
    environment: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment(variables)
    gpus(monkeypatch, cards)
    with pytest.raises(EmodetError, match=message):
        on_devices(trainer)


# The command line.


def test_only_the_first_process_has_a_folder_and_a_log() -> None:
    first = training_arguments(["experiment=x"], {**TORCHRUN, "RANK": "0"})
    assert first == ["experiment=x"]
    other = training_arguments(["experiment=x"], TORCHRUN)
    (folder,) = [Path(each.split("=")[1].strip("'")) for each in other if each.startswith("hydra.run.dir=")]
    assert list(folder.iterdir()) == []
    assert {"hydra.output_subdir=null", "hydra/job_logging=disabled"} <= set(other)
    named = training_arguments(["experiment=x", "hydra.run.dir=here"], TORCHRUN)
    assert [each for each in named if each.startswith("hydra.run.dir=")] == ["hydra.run.dir=here"]


@pytest.mark.parametrize("sweeping", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_a_sweep_in_each_process_is_refused(sweeping: str) -> None:
    with pytest.raises(EmodetError, match="in processes of torchrun: each would run a sweep of its own"):
        training_arguments(["experiment=x", sweeping, "seed=1,2"], TORCHRUN)


def test_a_job_has_a_folder_that_it_finds_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = {**SRUN, "SLURM_PROCID": "0", "EMODET_OUTPUTS": str(tmp_path)}
    typed = ["experiment=x", "seed=1"]
    name = folder_name("77", typed)
    assert training_arguments(typed, job) == [
        *typed,
        f"hydra.run.dir='${{oc.env:EMODET_OUTPUTS,outputs}}/${{name}}/{name}'",
    ]
    assert folder_name("77", ["experiment=x", "seed=2"]) != name
    run = made_run(tmp_path / "x" / name)
    with pytest.raises(EmodetError, match=r"this job ran the same command before; hydra\.run\.dir=FOLDER"):
        training_arguments(typed, job)
    again = {**job, "SLURM_RESTART_COUNT": "1"}
    resumed = ["--config-name", "resumed", f"resume='{run}'", f"hydra.run.dir='{run}'"]
    assert training_arguments(typed, again) == resumed
    assert training_arguments(typed, {**again, "SLURM_PROCID": "3"})[:4] == resumed
    assert training_arguments([*typed, f"hydra.run.dir={run}"], again) == resumed
    (run / "run.json").write_text('{"ended": "2026-11-22T00:00:00Z"}', encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        training_arguments(typed, again)
    assert ended.value.code == 0
    assert "this run had ended before job 77" in capfd.readouterr().out
    # Before there was a checkpoint it begins again.
    (run / "run.json").unlink()
    (run / "checkpoints" / "last.ckpt").unlink()
    assert training_arguments(typed, again)[-1].startswith("hydra.run.dir=")


# A job that is told to end.


def test_which_job_it_is() -> None:
    assert job_of({}) is None
    assert job_of({"SLURM_JOB_ID": "77"}) == "77"
    # The plain id of a task would put back the whole array.
    assert job_of({"SLURM_JOB_ID": "77", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "4"}) == "70_4"
    assert job_of({"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "interactive"}) is None
    assert job_of({"SLURM_JOB_ID": "77", "SUBMITIT_EXECUTOR": "slurm"}) is None


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `scontrol` that writes down how it was called, and knows a running job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls, program = folder / "calls", folder / "scontrol"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n'
        '[ "$1" = show ] && echo "JobId=77 JobState=${STATE:-RUNNING} Reason=None"\n'
        "exit ${FAILS:-0}\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    calls.touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return calls


def test_only_a_job_that_nobody_cancelled_goes_back(
    scontrol: Path, environment: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert not requeue()
    assert scontrol.read_text(encoding="utf-8") == ""
    environment({"SLURM_JOB_ID": "77"})
    assert requeue()
    assert scontrol.read_text(encoding="utf-8").splitlines()[-1] == "requeue 77"
    scontrol.write_text("", encoding="utf-8")
    environment({"STATE": "CANCELLED"})
    assert not requeue()
    assert "requeue" not in scontrol.read_text(encoding="utf-8")
    environment({"STATE": "PREEMPTED", "FAILS": "1"})
    assert not requeue()
    assert "job 77 could not go back into the queue" in caplog.text


def test_a_preempted_job_ends_as_one_that_was_not(
    command: Any,
    small: list[str],
    own_folders: Path,
    scontrol: Path,
    environment: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_pictures: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = tmp_path / "whole"
    settings = [*small, *COMMON, "trainer.max_epochs=2", "name=preempted"]
    assert command("emodet.train", *settings, f"hydra.run.dir={whole}") == 0
    environment({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train.sh"})
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 0, 4, signal.SIGUSR1)
        assert command("emodet.train", *settings) == 128 + signal.SIGUSR1
    assert scontrol.read_text(encoding="utf-8").splitlines()[-1] == "requeue 77"
    (run,) = (own_folders / "outputs" / "preempted").iterdir()
    assert run.name.startswith("slurm-77-")
    assert f"stopped by SIGUSR1; its job is back in the queue and goes on in {run}" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL  # SLURM sends it to the end
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    environment({"SLURM_RESTART_COUNT": "1"})
    assert command("emodet.train", *settings) == 0
    assert_same_end(whole, run)
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["resume"] == str(run)


def test_a_launchers_handler_gets_its_signal_after_the_checkpoint(
    command: Any,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_pictures: None,
) -> None:
    """As submitit's: it puts its job back itself, and where it returns training goes on."""
    run, seen = tmp_path / "run", []

    def handler(number: int, _frame: Any) -> None:
        seen.append((number, torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]))

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with monkeypatch.context() as patched:
            signal_at(patched, "training_step", 0, 4, signal.SIGUSR2)
            settings = [*small, *COMMON, "trainer.max_epochs=1", f"hydra.run.dir={run}"]
            assert command("emodet.train", *settings) == 0
        assert seen == [(signal.SIGUSR2, 5)]
        assert signal.getsignal(signal.SIGUSR2) is handler
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_arrives_twice_is_one_where_torchrun_passes_it_on(
    environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(TORCHRUN)
    interruption = Interruption(tmp_path / "last.ckpt")
    interruption._note(signal.SIGTERM, None)
    interruption._note(signal.SIGTERM, None)
    monkeypatch.setattr("emodet.training.interruption._AGAIN_S", 0)
    with pytest.raises(BaseException, match="SIGTERM"):
        interruption._note(signal.SIGTERM, None)
