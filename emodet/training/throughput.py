"""How many faces a second a run trains on."""

import statistics
from time import perf_counter
from typing import Any

import lightning as L

from emodet.data.faces import Batch
from emodet.training.folder import RunFolder
from emodet.training.tracker import Tracker

__all__ = ["Throughput"]


class Throughput(L.Callback):
    """Measures the faces per second of each epoch, over all processes, waiting for data included, validation not.

    Trackers get ``train/faces_per_second``; ``run.json`` gets the median over the epochs. ``metrics.csv`` does not:
    what stands there is the same for a run that was stopped and continued.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._epochs: list[float] = []
        self._faces, self._seconds, self._since = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._faces, self._seconds, self._since = 0, 0.0, perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        now = perf_counter()
        self._faces += len(batch["image"]) * trainer.world_size
        self._seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._faces or not trainer.is_global_zero:
            return
        rate = self._faces / self._seconds
        self._epochs.append(rate)
        self.run.write_facts({"faces_per_second": round(statistics.median(self._epochs), 1)})
        for logger in trainer.loggers:
            if isinstance(logger, Tracker):
                figures = {"train/faces_per_second": rate, "epoch": float(trainer.current_epoch)}
                logger.log_metrics(figures, trainer.global_step)
