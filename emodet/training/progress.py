"""Output of a training: a line per epoch on the console and in ``train.log``, and a progress bar on terminals."""

import logging
import sys
import warnings
from datetime import timedelta
from time import perf_counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from tqdm import tqdm

from emodet.training.callbacks import BestCheckpoint

log = logging.getLogger(__name__)

# Messages and warnings of Lightning that are not useful here.
_MESSAGES = (
    "💡 Tip",
    "Initializing distributed",
    "-" * 100,
    "TPU available",
    "Loading `train_dataloader` to estimate",
)

_WARNINGS = (
    # Lightning's own use of a deprecated torch function.
    r".*isinstance\(treespec, LeafSpec\)",
    # Values are logged once per epoch, independent of the interval.
    r".*is smaller than the logging interval",
    # The order of faces depends on epoch and batch only: see `emodet.data.faces.TrainingBatches`.
    r".*your dataloader is not resumable",
    # torchmetrics already sums over all processes.
    r"It is recommended to use `self\.log\(.*sync_dist=True",
    # A resumed run, and two checkpoints that share a folder.
    r"Checkpoint directory .* exists and is not empty",
)


class ProgressBar(TQDMProgressBar):
    """Progress bar with the loss of the last batch, the validation accuracy and the best monitored value."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10 if sys.stdout.isatty() else 0)
        self._loss: dict[str, torch.Tensor] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, *module: Any) -> None:
        super().on_train_epoch_start(trainer, *module)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}")  # from 1, as in `EpochLines`

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any) -> None:
        self._loss = {"loss": outputs["loss"].detach()} if outputs else {}  # `item` would wait for the GPU
        super().on_train_batch_end(trainer, pl_module, outputs, *batch)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        shown = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        best = _best_score(trainer)
        loss = {name: float(value) for name, value in self._loss.items()}
        return loss | shown | ({} if best is None else {"best": best})


class EpochLines(L.Callback):
    """Prints training loss and accuracy, the monitored metric, its best value so far, and the remaining time.

    If the first epoch takes longer than `ESTIMATE_AFTER_S` seconds, speed and remaining time are printed at that point.
    """

    ESTIMATE_AFTER_S = 20.0

    def __init__(self) -> None:
        self._started, self._batch_started = 0.0, 0.0
        self._first, self._batches, self._estimated = 0, 0, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started, self._first = perf_counter(), trainer.current_epoch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any) -> None:
        if self._estimated or trainer.current_epoch > self._first:
            return
        self._batches += 1
        if self._batches == 1:  # slower than later ones: workers start, kernels are selected
            self._batch_started = perf_counter()
        elif (seconds := perf_counter() - self._batch_started) >= self.ESTIMATE_AFTER_S:
            self._estimated = True
            if trainer.is_global_zero and trainer.max_epochs and trainer.max_epochs > 0:
                rate = (self._batches - 1) / seconds
                faces = rate * len(batch[0]["image"]) * trainer.world_size
                batches = trainer.num_training_batches * (trainer.max_epochs - self._first) - self._batches
                left = timedelta(seconds=round(batches / rate))
                _print(f"{trainer.max_epochs} epochs at {faces:.0f} faces/s: about {left}, without validation")

    # At the start of the next epoch, because metrics and best value are complete only after all end-of-epoch hooks.
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.current_epoch <= self._first:
            return
        found: dict[str, Any] = trainer.callback_metrics
        done, total = trainer.current_epoch, trainer.max_epochs or 0
        best = trainer.checkpoint_callback
        monitor = best.monitor if isinstance(best, BestCheckpoint) and best.monitor else "val/accuracy"
        words = [f"epoch {done}/{total}" if total > 0 else f"epoch {done}"]
        words += [f"{name} {float(found[name]):.3f}" for name in ("train/loss", "train/accuracy") if name in found]
        if monitor in found:
            words.append(f"{monitor} {float(found[monitor]):.4f}")
        if (score := _best_score(trainer)) is not None:
            words.append(f"best {score:.4f}")
        if total > done:
            seconds = (perf_counter() - self._started) / (done - self._first) * (total - done)
            words.append(f"{timedelta(seconds=round(seconds))} left")
        _print(", ".join(words))

    on_train_end = on_train_epoch_start


def _print(line: str) -> None:
    with tqdm.external_write_mode():  # so that the progress bar is drawn below the line
        log.info("%s", line)


def _best_score(trainer: L.Trainer) -> float | None:
    """Return the best value of the monitored metric if it selects the checkpoint."""
    best = trainer.checkpoint_callback
    if not isinstance(best, BestCheckpoint) or best.keep != "best" or best.best_model_score is None:
        return None
    return float(best.best_model_score)


def quiet_lightning() -> None:
    """Filter messages and warnings of Lightning that are not useful here; can be called repeatedly."""
    fabric = "lightning.fabric.utilities"
    for name in ("lightning.pytorch.utilities.rank_zero", f"{fabric}.rank_zero", f"{fabric}.distributed"):
        logger = logging.getLogger(name)
        if _is_of_use not in logger.filters:
            logger.addFilter(_is_of_use)
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MESSAGES)
