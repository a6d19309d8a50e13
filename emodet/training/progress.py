"""One line per epoch, on the console and in ``train.log``."""

import logging
from datetime import timedelta
from time import perf_counter
from typing import Any

import lightning as L
from tqdm import tqdm

from emodet.training.callbacks import BestCheckpoint

log = logging.getLogger(__name__)


class EpochLines(L.Callback):
    """Prints training loss and accuracy, the monitored metric, its best value so far, and the time left."""

    def __init__(self) -> None:
        self._started, self._first = 0.0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started, self._first = perf_counter(), trainer.current_epoch

    # When the next epoch starts: the epoch's metrics and the best value are complete only after all hooks of its end.
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
        if isinstance(best, BestCheckpoint) and best.keep == "best" and best.best_model_score is not None:
            words.append(f"best {float(best.best_model_score):.4f}")
        if total > done:
            seconds = (perf_counter() - self._started) / (done - self._first) * (total - done)
            words.append(f"{timedelta(seconds=round(seconds))} left")
        with tqdm.external_write_mode():  # so that the progress bar is drawn below the line
            log.info("%s", ", ".join(words))

    on_train_end = on_train_epoch_start
