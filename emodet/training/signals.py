"""SIGINT, SIGTERM and SIGUSR1 in a training: finish the step, save a checkpoint, exit with the signal's status."""

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import lightning as L
import torch

from emodet.training.folder import RunFolder

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
_REPEATED_S = 3.0


class Interrupted(BaseException):
    """Raised when a signal stops the training.

    Not an `Exception`, so that no code between training loop and command handles it as a failure. `requeued` is whether
    SLURM runs the job again.
    """

    def __init__(self, signal_number: int, requeued: bool = False) -> None:
        self.signal_number, self.requeued = signal_number, requeued
        super().__init__(signal.Signals(signal_number).name)

    @property
    def exit_status(self) -> int:
        """Exit status by shell convention: 128 plus the signal's number."""
        return 128 + self.signal_number


class StopOnSignal(L.Callback):
    """Saves ``last.ckpt`` after the current optimizer step when a signal arrives; a second signal stops immediately.

    The step must have no accumulated gradients and no due validation, so that a resumed run continues exactly; all
    ranks agree on it. The handlers replace Lightning's, which exits with status 0 on SIGTERM. SIGUSR1 in a SLURM job
    (``#SBATCH --signal=SIGUSR1@90``) also requeues the job.
    """

    def __init__(self) -> None:
        self._received, self._received_at = 0, 0.0
        self._before: dict[int, Any] = {}

    # Lightning registers its handlers after `on_fit_start` and restores the previous ones before `teardown`. These must
    # not be Lightning's own, which would ignore SIGTERM during the evaluation.
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in self._before:
            signal.signal(number, self._note)

    on_train_start = on_sanity_check_start

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        # The end of an epoch, or a due validation, follows this hook; a resumed run would skip it.
        if not (trainer.is_last_batch or accumulates or _validates(trainer, batch_idx)):
            self._stop_if_asked(trainer, save=True)

    # The checkpoint and the metrics of an epoch are written after `on_train_epoch_end`.
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked(trainer)

    on_train_end = on_train_epoch_start

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()
        if self._received:  # after `on_train_end`
            raise Interrupted(self._received)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._received:
            # torchrun and SLURM forward signals that the whole group received; only a user presses Ctrl-C twice.
            if number == signal.SIGINT or monotonic() - self._received_at > _REPEATED_S:
                raise Interrupted(number)
            return
        self._received, self._received_at = number, monotonic()
        # Not `print`, which the signal may have interrupted; only one rank writes.
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            name = signal.Signals(number).name
            os.write(1, f"\n{name}: finishing this step, then saving a checkpoint (again: stop now)\n".encode())

    def _stop_if_asked(self, trainer: L.Trainer, save: bool = False) -> None:
        number = self._received
        if trainer.world_size > 1:
            own = torch.tensor(number, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(own, reduce_op=torch.distributed.ReduceOp.MAX))  # type: ignore[arg-type]
        if not number:
            return
        if save:
            trainer.save_checkpoint(RunFolder(Path(trainer.default_root_dir)).last, weights_only=False)
        requeued = trainer.is_global_zero and number not in (signal.SIGINT, signal.SIGTERM) and _requeue()
        raise Interrupted(number, requeued)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _validates(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether validation runs after this batch."""
    every = trainer.val_check_batch
    if every in (None, float("inf")) or not trainer.fit_loop.epoch_loop.val_loop:
        return False
    epochs = trainer.check_val_every_n_epoch
    if epochs is not None and (trainer.current_epoch + 1) % epochs:
        return False
    done = trainer.fit_loop.total_batch_idx if epochs is None else batch_idx
    return bool((done + 1) % int(every) == 0)


def _requeue() -> bool:
    """Requeue this SLURM job; returns whether that succeeded."""
    if "SLURM_JOB_ID" not in os.environ:
        return False
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as problem:
        log.warning("job %s could not be requeued (%s)", job, getattr(problem, "stderr", None) or problem)
        return False
    return True
