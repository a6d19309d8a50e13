"""Signals to a training in processes of its own: data workers, a process group, several ranks."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_commands import wait_for

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
TRAIN = [
    *("experiment=ferplus", "training.progressive_sizes=[]", "trainer.check_val_every_n_epoch=1", "trainer=default"),
    *("trainer.precision=32-true", "callbacks=[default]", "scheduler=constant", "trainer.num_sanity_val_steps=0"),
]
DDP = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]


def start(arguments, run):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "emodet.train", *arguments, f"hydra.run.dir={run}"]
    # A shell script's background jobs ignore SIGINT; what the tests send must arrive.
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_leaves_a_checkpoint_in_mid_epoch(number, small, tmp_path, command, without_pictures):
    marker = tmp_path / "steps"
    slow = f"callbacks.mine={{_target_: own_classes.SlowSteps, file: {marker}, seconds: 0.5}}"
    own = ["data.num_workers=2", "trainer.max_epochs=1", slow]
    training = start([*small, *TRAIN, *own], tmp_path / "run")
    wait_for(lambda: marker.is_file() and marker.stat().st_size >= 2)
    os.killpg(training.pid, number)
    out, error = training.communicate(timeout=120)
    assert training.returncode == 128 + number, error
    assert "Traceback" not in error
    assert out.count("finishing this step") == 1
    assert error.count("stopped by") == 1
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert 1 <= content["global_step"] <= 8
    resumed = [f"resume={tmp_path / 'run'}", "trust=[own_classes]", "callbacks.mine=null", "data.num_workers=0"]
    assert command("emodet.train", *resumed) == 0


def test_two_ranks_train_one_run_and_stop_at_the_same_step(small, tmp_path, command, without_pictures):
    stop = f"callbacks.stop={{_target_: own_classes.SendSignal, number: {int(signal.SIGTERM)}, epoch: 1, batch: 1}}"
    training = start([*small, *TRAIN, *DDP, stop], tmp_path / "run")
    _, error = training.communicate(timeout=400)
    assert training.returncode == 143, error
    assert error.count("stopped by SIGTERM") == 1
    facts = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert facts["batch"] == {"processes": 2, "per_process": 8}
    content = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 6  # 72 samples, 16 a step: 4 steps an epoch
    # One process goes on with the same global batch.
    resumed = ["trust=[own_classes]", "callbacks.stop=null", "trainer.devices=1", "trainer.strategy=auto"]
    assert command("emodet.train", f"resume={tmp_path / 'run'}", *resumed) == 0
    facts = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert facts["batch"] == {"processes": 1, "per_process": 16}


def test_a_killed_data_worker_ends_the_run_which_can_be_resumed(small, tmp_path, command, without_pictures):
    kill = ["data.num_workers=2", "+callbacks.kill._target_=own_classes.KillWorker"]
    training = start([*small, *TRAIN, *kill], tmp_path)
    _, error = training.communicate(timeout=240)
    assert training.returncode == 2, error
    assert all(words in error for words in ("out of memory?", "data.num_workers", "resume=RUN"))
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 0
    more = ["trust=[own_classes]", "callbacks.kill=null", "data.num_workers=0"]
    assert command("emodet.train", f"resume={tmp_path}", *more) == 0


def test_an_error_on_one_rank_ends_both(small, tmp_path):
    for rank in (0, 1):
        fail = f"callbacks.fail={{_target_: own_classes.Fail, epoch: 1, rank: {rank}}}"
        training = start([*small, *TRAIN, *DDP, fail], tmp_path / str(rank))
        _, error = training.communicate(timeout=400)
        assert training.returncode != 0
        assert "error: made to fail" in error


def test_a_rank_whose_first_rank_was_killed_ends(small, tmp_path):
    training = start([*small, *TRAIN, *DDP], tmp_path / "run")

    def others():
        found = subprocess.run(["pgrep", "-g", str(training.pid)], capture_output=True, text=True, check=False)
        return [each for each in found.stdout.split() if int(each) != training.pid]

    try:
        wait_for(others)
        training.kill()
        training.communicate(timeout=120)
        wait_for(lambda: not others())
    finally:
        if others():
            os.killpg(training.pid, signal.SIGKILL)
