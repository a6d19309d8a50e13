"""The progress bar of a training."""

import sys
from types import SimpleNamespace

import torch
from tqdm import tqdm

from emodet.training.callbacks import BestCheckpoint
from emodet.training.progress import EpochLines, ProgressBar


def test_the_bar_shows_loss_accuracy_and_the_best_so_far(monkeypatch):
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


def test_a_long_first_epoch_announces_epochs_speed_and_time(monkeypatch, caplog):
    trainer = SimpleNamespace(
        max_epochs=3, current_epoch=0, num_training_batches=100, world_size=2, is_global_zero=True
    )
    clock = iter([0.0, 0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr("emodet.training.progress.perf_counter", lambda: next(clock))
    lines = EpochLines()
    with caplog.at_level("INFO"):
        lines.on_train_start(trainer, None)
        for index in range(5):
            lines.on_train_batch_end(trainer, None, None, {"image": torch.zeros(32, 1)}, index)
    # Two batches in 20 s, 64 faces each; 297 of 300 batches are left.
    assert caplog.messages == ["3 epochs at 6 faces/s: about 0:49:30, without validation"]


def test_without_a_terminal_there_is_no_bar():
    assert ProgressBar().is_disabled
