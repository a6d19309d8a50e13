"""Loggers and the progress bar: CSV always; the configured ones never ask, never wait for long, never stop a run."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from made_files import put_text
from tqdm import tqdm
from wandb_log import WandbLog

from emodet.errors import EmodetError
from emodet.training.callbacks import BestCheckpoint
from emodet.training.folder import RunFolder
from emodet.training.loggers import build_loggers, closing
from emodet.training.progress import EpochLines, ProgressBar

WANDB = {"wandb": {"_target_": "emodet.training.loggers.WandbLogger", "name": "name"}}
TRACKED = ["experiment=affectnet_yolo", "logger=wandb", "callbacks.run_logger.artifacts=false", "scheduler=constant"]


@pytest.fixture(autouse=True)
def own_wandb(monkeypatch, tmp_path):
    """No credentials of this machine; wandb forgets the environment of its first use."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC", "WANDB_BASE_URL", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    yield
    if sys.modules.get("wandb"):
        import wandb

        wandb.teardown()


def test_a_callback_as_logger_is_refused(tmp_path):
    with pytest.raises(EmodetError, match=r"logger\.x\._target_=.*Timer: .*Logger was expected"):
        build_loggers({"x": {"_target_": "lightning.pytorch.callbacks.Timer"}}, RunFolder(tmp_path))


@pytest.mark.parametrize("credentials", ["none", "environment", "netrc"])
def test_without_credentials_or_network_wandb_is_offline(credentials, tmp_path, monkeypatch, caplog):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    monkeypatch.setenv("WANDB_LOGIN_TIMEOUT", "1")
    if credentials == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    elif credentials == "netrc":
        put_text(tmp_path / ".netrc", "machine 127.0.0.1 login user password " + "0" * 40).chmod(0o600)
    run = RunFolder(tmp_path)
    loggers = build_loggers(WANDB, run)
    with closing(loggers):
        assert loggers[1].experiment.offline
    assert wandb.run is None  # or the next training of this process would log into it
    assert ("trying offline" in caplog.text) == (credentials != "none")
    log = WandbLog(tmp_path)
    assert set(log.run_ids) == {run.facts()["wandb"]["id"]}
    assert log.ended[-1] == 0


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_is_one_wandb_run(command, small, tmp_path, without_pictures):
    pytest.importorskip("wandb")
    stop = "+callbacks.stop={_target_: own_classes.SendSignal, number: 2, epoch: 1, batch: 2}"
    assert command("emodet.train", *TRACKED, *small, stop, f"hydra.run.dir={tmp_path}") == 130
    known = RunFolder(tmp_path).facts()["wandb"]["id"]
    assert command("emodet.train", f"resume={tmp_path}", "trust=[own_classes]", "callbacks.stop=null") == 0
    log = WandbLog(tmp_path)
    assert log.run_ids == [known, known]
    assert log.ended == [130, 0]
    assert [row["epoch"] for row in log.history if "val/accuracy" in row] == [0, 1]
    assert "test/accuracy" in log.summary


@pytest.mark.slow
def test_runs_of_a_multirun_share_a_group(command, small, tmp_path, without_pictures):
    pytest.importorskip("wandb")
    sweep = tmp_path / "ferplus" / "monday_sweep"
    assert command("emodet.train", "-m", *TRACKED, *small, "seed=1,2", f"hydra.sweep.dir={sweep}") == 0
    logs = [WandbLog(folder.parent) for folder in sorted(sweep.glob("*/wandb"))]
    assert [log.group for log in logs] == ["ferplus/monday_sweep"] * 2
    for number, log in enumerate(logs):
        assert re.fullmatch(rf"affectnet_yolo-ResidualCNN-seed{number + 1}-\d{{4}}-\d\d-\d\d/{number}", log.name)
    assert [log.config["seed"] for log in logs] == [1, 2]
    assert [log.ended for log in logs] == [[0], [0]]
    assert len({run_id for log in logs for run_id in log.run_ids}) == 2


def test_the_progress_bar_shows_loss_accuracy_and_best(monkeypatch):
    assert ProgressBar().is_disabled
    best = BestCheckpoint(monitor="val/accuracy")
    best.best_model_score = torch.tensor(0.625)
    shown = SimpleNamespace(loggers=[SimpleNamespace(version=0)], progress_bar_metrics={"val/accuracy": 0.5})
    shown.checkpoint_callback = best
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    bar = ProgressBar()
    assert bar.is_enabled
    bar.train_progress_bar = tqdm(total=100, disable=True)
    bar.on_train_batch_end(shown, None, {"loss": torch.tensor(1.5)}, None, 0)  # between two updates of the bar
    assert bar.get_metrics(shown, None) == {"loss": 1.5, "val/accuracy": 0.5, "best": 0.625}


def test_a_long_first_epoch_logs_epochs_speed_and_time(monkeypatch, caplog):
    batches = {"num_training_batches": 100, "world_size": 2}
    trainer = SimpleNamespace(max_epochs=3, current_epoch=0, is_global_zero=True, **batches)
    clock = iter([0.0, 0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr("emodet.training.progress.perf_counter", lambda: next(clock))
    lines = EpochLines()
    with caplog.at_level("INFO"):
        lines.on_train_start(trainer, None)
        for index in range(5):
            lines.on_train_batch_end(trainer, None, None, {"image": torch.zeros(32, 1)}, index)
    # Two batches in 20 s, 64 faces each; 297 of 300 batches are left.
    (line,) = caplog.messages
    assert all(part in line for part in ("3 epochs", "6 faces/s", "0:49:30"))
