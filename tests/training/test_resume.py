"""A run that was stopped and resumed gives the weights, and the curves, of a run that was not."""

import os
import shutil
import signal

import pytest
import torch
import yaml
from made_files import csv_rows, put

from emodet.errors import EmodetError
from emodet.training.folder import RunFolder
from emodet.training.resume import batch_size_for

pytestmark = pytest.mark.usefixtures("without_pictures")

COMMON = [
    *("experiment=ferplus", "training.progressive_sizes=[[0,32],[1,48]]", "trainer.check_val_every_n_epoch=1"),
    *("trainer.precision=32-true", "trainer.max_epochs=3"),
]
GO_ON = ["trust=[own_classes]", "callbacks.stop=null"]


def stop(number, epoch, batch, hook="train", times=1):
    """Override: a callback that sends a signal."""
    values = f"number: {int(number)}, epoch: {epoch}, batch: {batch}, hook: {hook}, times: {times}"
    return f"callbacks.stop={{_target_: own_classes.SendSignal, {values}}}"


def checkpoint(run, name="last"):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def plain(value):
    """Nested values with lists for tensors, which can be compared."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def assert_same_end(one, other):
    for name in ("last", "best"):
        a, b = checkpoint(one, name), checkpoint(other, name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "epoch", "global_step"):
            assert plain(a.get(key)) == plain(b.get(key)), f"{name}.{key}"
    weights = [plain(torch.load(run / "weights.pt", weights_only=True)) for run in (one, other)]
    assert weights[0] == weights[1]
    assert csv_rows(one / "metrics.csv", empty=False) == csv_rows(other / "metrics.csv", empty=False)


# Nine batches an epoch. What is trained, and where it is stopped: in training or validation, in an epoch, at a batch.
CASES = {
    "averaged and balanced": (
        ["scheduler=onecycle", "data.sampling=balanced", "callbacks.ema.decay=0.9"],
        [("train", 1, 3), ("train", 0, 8), ("validation", 2, 0)],
    ),
    "workers": (["scheduler=cosine", "callbacks=[default]", "data.num_workers=1"], [("train", 1, 4)]),
    "plateau, validated every second epoch": (
        [
            *("scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5", "callbacks=[default]"),
            *("trainer.check_val_every_n_epoch=2", "optimizer.lr=0.0001"),
        ],
        [("validation", 1, 0), ("train", 0, 8)],
    ),
    "accumulated gradients, several validations an epoch": (
        ["optimizer=sgd", "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=3"],
        [("train", 1, 0), ("train", 1, 2)],
    ),
}


@pytest.mark.parametrize(
    "case", [case if case == "workers" else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_stopped_and_resumed_equals_uninterrupted(case, command, small, tmp_path):
    settings, places = CASES[case]
    whole = tmp_path / "whole"
    assert command("emodet.train", *small, *COMMON, *settings, f"hydra.run.dir={whole}") == 0
    for number, (hook, epoch, batch) in zip((signal.SIGTERM, signal.SIGINT, signal.SIGTERM), places, strict=False):
        run = tmp_path / f"{hook}_{epoch}_{batch}"
        stopped = [*settings, stop(number, epoch, batch, hook), f"hydra.run.dir={run}"]
        assert command("emodet.train", *small, *COMMON, *stopped) == 128 + number
        assert not (run / "weights.pt").exists()
        assert command("emodet.train", f"resume={run}", *GO_ON) == 0
        assert_same_end(whole, run)


@pytest.mark.slow
def test_stopped_twice_and_resumed_for_more_epochs(command, small, tmp_path, capfd):
    settings = [*small, *COMMON, "scheduler=constant", "callbacks=[default]"]
    whole, run = tmp_path / "whole", tmp_path / "a run"
    assert command("emodet.train", *settings, f"hydra.run.dir={whole}") == 0
    first = [*settings, stop(signal.SIGTERM, 0, 5), "trainer.max_epochs=2", f"hydra.run.dir={run}"]
    assert command("emodet.train", *first) == 143
    said = capfd.readouterr().err
    assert f"stopped by SIGTERM; continue with  python -m emodet.train resume='{run}'" in said
    # The very last batch: nothing is left to train.
    assert command("emodet.train", f"resume={run}", "trust=[own_classes]", stop(signal.SIGINT, 1, 8)) == 130
    assert checkpoint(run)["epoch"] == 1
    assert command("emodet.train", f"resume={run}", *GO_ON, "trainer.max_epochs=3") == 0
    assert_same_end(whole, run)
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["trainer"]["max_epochs"] == 3


def test_a_second_ctrl_c_stops_immediately(command, small, tmp_path, capfd):
    before = signal.getsignal(signal.SIGINT)
    run = [*small, *COMMON, f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *run, stop(signal.SIGINT, 1, 3, times=2)) == 130
    content = checkpoint(tmp_path)
    assert (content["epoch"], content["global_step"]) == (0, 9)  # that of the epoch before
    assert "Traceback" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_after_the_last_epoch(command, small, tmp_path):
    run = [*small, *COMMON, "trainer.max_epochs=1", stop(signal.SIGTERM, 1, 0, "end"), f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *run) == 143
    assert not (tmp_path / "weights.pt").exists()
    assert command("emodet.train", f"resume={tmp_path}", *GO_ON) == 0


def test_an_epoch_that_max_steps_cut_short_is_completed(command, small, tmp_path):
    settings = [*small, *COMMON, "scheduler=constant", "callbacks=[default]", "trainer.max_epochs=2"]
    for name, steps in (("whole", -1), ("run", 13)):
        assert command("emodet.train", *settings, f"trainer.max_steps={steps}", f"hydra.run.dir={tmp_path / name}") == 0
    assert command("emodet.train", f"resume={tmp_path / 'run'}", "trainer.max_steps=-1") == 0
    whole, run = (checkpoint(tmp_path / name) for name in ("whole", "run"))
    for key in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert plain(whole[key]) == plain(run[key])


def test_stopped_before_the_first_checkpoint(command, refused, small, tmp_path, capfd):
    arguments = [*small, *COMMON, stop(signal.SIGINT, 0, 0, times=2), f"hydra.run.dir={tmp_path}"]
    assert command("emodet.train", *arguments) == 130
    said = capfd.readouterr()
    assert "stopped by SIGINT before the first checkpoint" in said.err
    assert "curves" not in said.out + said.err
    assert "there is no checkpoint to resume from" in refused("emodet.train", f"resume={tmp_path}")


@pytest.fixture(scope="module")
def short(command, small, tmp_path_factory):
    """A run of two epochs that was stopped in the second, with onecycle."""
    # Only batch norm's averages move, and away from what fits: the first epoch has the least loss.
    first_is_best = ["optimizer.lr=1e-12", "training.monitor=val/loss"]
    run = tmp_path_factory.mktemp("short") / "run"
    arguments = [*small, *COMMON, *first_is_best, "trainer.max_epochs=2", "callbacks=[default]"]
    assert command("emodet.train", *arguments, stop(signal.SIGTERM, 1, 2), f"hydra.run.dir={run}") == 143
    return run


@pytest.fixture
def run(short, tmp_path):
    """A copy of that run, in a folder with another name."""
    return shutil.copytree(short, tmp_path / "moved [here]")


@pytest.mark.parametrize(
    "override",
    [
        *("optimizer.lr=0.1", "optimizer.weight_decay=0.3", "scheduler.warmup=0.5", "net.channels=[8,8,8,8]"),
        *("trainer.limit_train_batches=3", "seed=4", "data.classes=7", "data.batch_size=16"),
        *("optimizer=sgd", "trainer=ddp", "training.monitor=val/accuracy", "callbacks.best.keep=last"),
    ],
)
def test_options_that_a_resumed_run_cannot_change_are_refused(override, run, refused):
    named = ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
    files = {run / name: (run / name).read_bytes() for name in named}
    error = refused("emodet.train", f"resume={run}", *GO_ON, override)
    assert override.partition("=")[0] in error
    assert "init_from=" in error or "Leave data.batch_size out" in error
    for file, content in files.items():
        assert file.read_bytes() == content, file


@pytest.mark.parametrize("scheduler", ["onecycle", pytest.param("cosine", marks=pytest.mark.slow)])
def test_more_epochs_stretch_the_schedule_of_a_finished_run(scheduler, train_once, refused, small, tmp_path):
    # A checkpoint of the second epoch, at step 18: the rates after it are those of a run that had three from the start.
    settings = [*small, *COMMON, f"scheduler={scheduler}", "callbacks=[default]"]
    train_once(*settings, f"hydra.run.dir={tmp_path / 'whole'}")
    run = tmp_path / "run"
    train_once(*settings, "trainer.max_epochs=2", f"hydra.run.dir={run}")
    train_once(f"resume={run}", "trainer.max_epochs=3", "logger=csv")
    assert "stretched to 27 steps: after step 18" in (run / "train.log").read_text(encoding="utf-8")
    rates = [
        [row["lr-AdamW/pg1"] for row in csv_rows(each / "metrics.csv") if row["lr-AdamW/pg1"]]
        for each in (run, tmp_path / "whole")
    ]
    assert rates[0][2] == rates[1][2]
    train_once(f"resume={run}", "trainer.max_epochs=3")  # nothing is left to train
    assert "did you mean trainer.max_epochs?" in refused("emodet.train", f"resume={run}", "trainer.max_epoch=5")


def test_a_moved_run_is_resumed_with_its_best_epoch_and_options_that_may_change(run, command):
    assert checkpoint(run, "best")["epoch"] == 0
    stopping = "callbacks.early_stopping={_target_: emodet.training.callbacks.EarlyStopping, patience: 7}"
    assert command("emodet.train", f"resume={run}", *GO_ON, "callbacks.run_logger.artifacts=false", stopping) == 0
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["callbacks"]["early_stopping"]["patience"] == 7
    assert config["resume"] == str(run)
    assert checkpoint(run, "best")["epoch"] == 0
    assert checkpoint(run)["epoch"] == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "not a run folder"),
        (lambda run: (run / "checkpoints/last.ckpt").unlink(), "there is no checkpoint to resume from"),
        (lambda run: (run / "checkpoints/last.ckpt").write_bytes(b"PK\x03\x04cut"), "last.ckpt: "),
        (lambda run: (run / "config.yaml").write_text("trainer: [", encoding="utf-8"), "config.yaml: cannot be read"),
        (lambda run: (run / "config.yaml").write_text("a: &a {x: *a}", encoding="utf-8"), "cannot be read (Circular"),
        (lambda run: (run / "config.yaml").write_text("data: " + "[" * 5000, encoding="utf-8"), "cannot be read"),
        (lambda run: (run / "run.json").write_text("{", encoding="utf-8"), "run.json: cannot be read"),
        (lambda run: (run / "run.json").unlink() or (run / "run.json").symlink_to("/dev/zero"), "not a regular file"),
        (lambda run: ((run / "train.log").unlink(), (run / "train.log").mkdir()), "train.log: cannot be written"),
        (lambda run: ((run / "augmentation.png").unlink(), (run / "augmentation.png").mkdir()), "Is a directory"),
    ],
)
def test_a_damaged_run_folder_is_refused_in_one_line(damage, message, run, refused):
    damage(run)
    assert message in refused("emodet.train", f"resume={run}", *GO_ON)


def test_a_second_training_in_the_same_folder_is_refused(run, refused):
    with RunFolder(run).claimed():
        assert "another training runs" in refused("emodet.train", f"resume={run}", *GO_ON)


@pytest.mark.slow
def test_a_slurm_job_is_requeued_and_resumes_in_its_folder(command, small, tmp_path, monkeypatch):
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n', encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    settings = [*small, *COMMON, "callbacks=[default]"]
    assert command("emodet.train", *settings, f"hydra.run.dir={tmp_path / 'whole'}") == 0
    monkeypatch.setenv("EMODET_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    job = [*settings, stop(signal.SIGUSR1, 1, 3)]
    assert command("emodet.train", *job) == 128 + signal.SIGUSR1
    assert (tmp_path / "asked").read_text(encoding="utf-8").split() == ["requeue", "77"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert command("emodet.train", *job) == 0
    assert_same_end(tmp_path / "whole", tmp_path / "outputs/ferplus/slurm-77")


BATCH = {"batch": {"processes": 2, "per_process": 16}}


@pytest.mark.parametrize(
    ("batch_size", "processes", "samples"), [(16, 2, 16), (16, 1, 32), (32, 1, 32), (16, 4, 8), (8, 4, 8)]
)
def test_a_resumed_run_keeps_its_global_batch(batch_size, processes, samples):
    assert batch_size_for(BATCH, batch_size, processes) == samples
    with pytest.raises(EmodetError, match=r"data.batch_size=64 on 1 .* takes 32 faces a step"):
        batch_size_for(BATCH, 64, 1)
    with pytest.raises(EmodetError, match=r"3 processes cannot share this run's 32 faces"):
        batch_size_for(BATCH, 16, 3)


def test_metrics_of_attempts_are_joined_and_what_a_kill_cut_short_is_left_out(tmp_path):
    run = RunFolder(tmp_path)
    assert run.attempts == 0
    for name, *rows in (
        ("0", b"0,8,2.0,,", b"0,8,,2.1,", b"1,17,1.5,,", b"1,\xff", b"\0,x"),
        ("2", b"2,26,1.0,,"),
        ("10", b"1,17,1.4,,", b"3,100,,,0.1", b"3,101,0.5"),
    ):
        put(tmp_path / "csv" / name / "metrics.csv", b"\n".join([b"epoch,step,train/loss,val/loss,lr", *rows]))
    for name in ("1", "old"):
        put(tmp_path / "csv" / name / "metrics.csv", b"")
    assert run.attempts == 5
    assert csv_rows(run.write_metrics(), empty=False) == [
        {"epoch": "0", "step": "8", "train/loss": "2.0"},
        {"epoch": "0", "step": "8", "val/loss": "2.1"},
        {"epoch": "1", "step": "17", "train/loss": "1.4"},
        {"epoch": "2", "step": "26", "train/loss": "1.0"},
        {"epoch": "3", "step": "100", "lr": "0.1"},
    ]
