"""Callbacks of a training run: checkpoints, early stopping, throughput, weight averaging."""

import logging
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning as L
from lightning.pytorch import callbacks
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from emodet.data.faces import Batch
from emodet.errors import require
from emodet.models.metrics import lower_is_better
from emodet.training.folder import RunFolder

log = logging.getLogger(__name__)


class RunCheckpoint(callbacks.ModelCheckpoint):
    """`ModelCheckpoint` in the run folder, which may have been moved or copied since an earlier attempt."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = str(RunFolder(Path(trainer.default_root_dir)).last.parent)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the score of the kept epoch, but not the path of its file."""
        file = str(Path(self.dirpath or "") / f"{self.filename}.ckpt")
        score = state_dict.get("best_model_score")
        moved = {"dirpath": self.dirpath, "best_model_path": file, "kth_best_model_path": file}
        super().load_state_dict({**state_dict, **moved, "best_k_models": {} if score is None else {file: score}})


class BestCheckpoint(RunCheckpoint):
    """Saves ``checkpoints/best.ckpt`` in the run folder, the epoch that is calibrated and reported.

    Args:
        monitor: Name of the metric.
        keep: ``best`` keeps the best epoch by `monitor`. ``last`` keeps the last validated epoch, for trainings of
            fixed length: no faces select the epoch then, and `monitor` is only recorded.
    """

    def __init__(self, monitor: str = "val/accuracy", keep: str = "best") -> None:
        require(keep in ("best", "last"), "callbacks.best.keep", keep, "best (by training.monitor) or last")
        super().__init__(
            filename="best",
            monitor=monitor,
            mode="min" if lower_is_better(monitor) else "max",
            # Not save_weights_only, which omits the state of callbacks, including averaged weights.
            enable_version_counter=False,
        )
        self.keep = keep

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Return whether this epoch replaces the kept one."""
        return self.keep == "last" or super().check_monitor_top_k(trainer, current)


class LastCheckpoint(RunCheckpoint):
    """Saves ``checkpoints/last.ckpt`` in the run folder, to resume from.

    Separate from `BestCheckpoint`, because Lightning's ``save_last`` depends on the monitored metric.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self._in_mid_epoch = False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save when ``max_time`` or ``max_steps`` ends an epoch early; Lightning counts such an epoch as complete."""
        ends = trainer.should_stop or trainer.global_step >= trainer.max_steps > 0
        self._in_mid_epoch = ends and not trainer.is_last_batch
        if self._in_mid_epoch:
            trainer.save_checkpoint(RunFolder(Path(trainer.default_root_dir)).last, weights_only=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._in_mid_epoch:
            super().on_train_epoch_end(trainer, pl_module)


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's `EarlyStopping` with the direction of the metric; a resumed run uses its current `patience`.

    Args:
        monitor: Name of the metric.
        patience: Number of validations without improvement after which training stops.
        min_delta: Minimum improvement.
    """

    def __init__(self, monitor: str = "val/accuracy", patience: int = 10, min_delta: float = 0.0) -> None:
        mode = "min" if lower_is_better(monitor) else "max"
        super().__init__(monitor, min_delta=min_delta, patience=patience, mode=mode, check_finite=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count, but not the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log why training ended before its last epoch."""
        if self.wait_count >= self.patience and trainer.is_global_zero:
            why = "stopped early: no better %s in %d validations (callbacks.early_stopping.patience)"
            log.info(why, self.monitor, self.wait_count)


class Throughput(L.Callback):
    """Measures faces per second in each epoch, over all ranks, including waiting for data, without validation.

    Logs ``train/faces_per_second`` and writes the median over the epochs to ``run.json``, but not to ``metrics.csv``,
    which must be equal for interrupted and uninterrupted runs.
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
    """Validates and saves an exponential moving average of the weights.

    Lightning's `EMAWeightAveraging` updates the tensors one by one with several kernels, which takes longer on a GPU
    than the training step of a small net.

    Args:
        decay: Weight of the average in each step; 0.998 averages over about 500 steps.
    """

    def __init__(self, decay: float = 0.998) -> None:
        require(0 <= decay < 1, "callbacks.ema.decay", decay, "a share from 0 to below 1, such as 0.998")
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

        def update(averages: Any, current: Any, count: Any) -> None:
            average(averages, [each.to(averages[0].dtype) for each in current], count)  # precision=64-true

        super().__init__(multi_avg_fn=update)
