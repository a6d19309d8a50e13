"""Callbacks of a training run: which checkpoints it keeps, when it stops early, how fast it is."""

import logging
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning as L
import torch
from lightning.pytorch import callbacks
from torch import Tensor

from emodet.data.faces import Batch
from emodet.errors import require
from emodet.models.metrics import lower_is_better
from emodet.training.folder import RunFolder

log = logging.getLogger(__name__)


class RunCheckpoint(callbacks.ModelCheckpoint):
    """A checkpoint in the run folder, also where that was moved or copied since."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = str(RunFolder(Path(trainer.default_root_dir)).last.parent)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the kept epoch's score, not the place of its file."""
        file = str(Path(self.dirpath or "") / f"{self.filename}.ckpt")
        score = state_dict.get("best_model_score")
        moved = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file}
        super().load_state_dict({**state_dict, **moved, "best_k_models": {} if score is None else {file: score}})


class BestCheckpoint(RunCheckpoint):
    """Keeps ``checkpoints/best.ckpt`` in the run folder, the epoch that is calibrated and reported on.

    Args:
        monitor: The metric.
        keep: ``best`` keeps the best epoch by `monitor`. ``last`` keeps the last validated epoch, for a training whose
            length was fixed beforehand: no face then chooses the epoch, and `monitor` is only noted.
    """

    def __init__(self, monitor: str = "val/accuracy", keep: str = "best") -> None:
        require(keep in ("best", "last"), "callbacks.best.keep", keep, "best (by training.monitor) or last")
        super().__init__(
            filename="best",
            monitor=monitor,
            mode="min" if lower_is_better(monitor) else "max",
            # Not save_weights_only: Lightning then leaves out the callbacks, and with them the averaged weights.
            enable_version_counter=False,
        )
        self.keep = keep

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether this epoch replaces the one that is kept."""
        return self.keep == "last" or super().check_monitor_top_k(trainer, current)


class LastCheckpoint(RunCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run folder, the one to resume from.

    Separate from `BestCheckpoint`, because ``save_last`` of Lightning's follows the monitored metric.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._in_mid_epoch = False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Keep the place where ``max_time`` or ``max_steps`` ends an epoch, which Lightning counts as a whole one."""
        ends = trainer.should_stop or trainer.global_step >= trainer.max_steps > 0
        self._in_mid_epoch = ends and not trainer.is_last_batch
        if self._in_mid_epoch:
            trainer.save_checkpoint(RunFolder(Path(trainer.default_root_dir)).last, weights_only=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._in_mid_epoch:
            super().on_train_epoch_end(trainer, pl_module)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, with the metric's own direction; `patience` of a resumed run is the one that is configured now.

    Args:
        monitor: The metric.
        patience: Validations without gain after which training stops.
        min_delta: Gain that counts.
    """

    def __init__(self, monitor: str = "val/accuracy", patience: int = 10, min_delta: float = 0.0) -> None:
        mode = "min" if lower_is_better(monitor) else "max"
        super().__init__(monitor, min_delta=min_delta, patience=patience, mode=mode, check_finite=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the count, not the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say why training ended before its last epoch."""
        if self.wait_count >= self.patience and trainer.is_global_zero:
            why = "stopped early: no better %s in %d validations (callbacks.early_stopping.patience)"
            log.info(why, self.monitor, self.wait_count)


class Throughput(L.Callback):
    """Measures faces per second in each epoch, over all ranks, including waiting for data, without validation.

    Loggers get ``train/faces_per_second``; ``run.json`` gets the median over the epochs. ``metrics.csv`` does not, as
    it is equal for a run that was stopped and resumed.
    """

    def __init__(self) -> None:
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
        run = RunFolder(Path(trainer.default_root_dir))
        run.write_facts({"faces_per_second": round(statistics.median(self._epochs), 1)})
        figures = {"train/faces_per_second": rate, "epoch": float(trainer.current_epoch)}
        for logger in trainer.loggers:
            if not isinstance(logger, L.pytorch.loggers.CSVLogger):
                logger.log_metrics(figures, trainer.global_step)


class EMA(callbacks.WeightAveraging):
    """Validates and keeps an exponential moving average of the weights.

    Lightning's `EMAWeightAveraging` updates one tensor after the other, in several kernels each: on a GPU that takes
    longer than a small net's step.

    Args:
        decay: The average's share in each step, such as 0.998, an average over about 500 steps.
    """

    def __init__(self, decay: float = 0.998) -> None:
        require(0 <= decay < 1, "callbacks.ema.decay", decay, "a share from 0 to below 1, such as 0.998")
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averages: Any, current: Any, _count: Any) -> None:
        """Update all tensors of one type in place; whole numbers, such as a batch norm's count, are copied."""
        if averages[0].is_floating_point():
            same = [each.to(average.dtype) for each, average in zip(current, averages, strict=True)]  # 64-true
            torch._foreach_lerp_(averages, same, 1 - self.decay)
        else:
            torch._foreach_copy_(averages, current)
