"""Ctrl-C, SIGTERM and SIGUSR1: finish the batch, leave a checkpoint to resume from, exit with the signal's status.

In a SLURM job the job also goes back into the queue. These are the only handlers: Lightning's own are left out.
"""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch

from emodet.training.requeueing import requeue

__all__ = ["Interrupted", "Interruption"]

_ALWAYS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
# Taken over only where a launcher waits for it, as submitit does.
_IF_HANDLED = (signal.SIGUSR2,) if hasattr(signal, "SIGUSR2") else ()
_USERS = (*_ALWAYS[2:], *_IF_HANDLED)
_AGAIN_S = 3.0


class Interrupted(BaseException):
    """Training was stopped by a signal, after its checkpoint was written.

    Not an `Exception`: nothing between the training loop and the command may take it for a failure.

    Attributes:
        checkpoint: To resume from; None where there is none.
        agreed: Whether all processes of the run stopped at the same place.
        requeued: Whether the job goes on by itself.
    """

    def __init__(
        self, signal_number: int, checkpoint: Path | None, agreed: bool = True, requeued: bool = False
    ) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        self.agreed, self.requeued = agreed, requeued
        super().__init__(signal.Signals(signal_number).name)

    @property
    def exit_status(self) -> int:
        """What shells expect: 128 and the signal's number."""
        return 128 + self.signal_number


class Interruption(L.Callback):
    """Turn the first signal into a checkpoint at the next safe place; a second one ends the run at once.

    Safe places are the ends of optimizer steps, where no gradients are under way, and of epochs, where the epoch's
    own checkpoint has been written: elsewhere optimizer, averages and loop counters can disagree, and a checkpoint
    would not resume to the same result. It must be the last of the callbacks, so that all others have done their part
    of the step that is saved.

    Several processes agree at each safe place whether one of them got a signal, so that all stop at the same step.

    A handler of SIGUSR1 or SIGUSR2 that a launcher had put in place, as submitit does, gets its signal after the
    checkpoint was written; where it returns, training goes on.

    Args:
        checkpoint: Where to write it.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received: int | None = None
        self._received_at = 0.0
        self._before: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and not self._before:
            handled = [number for number in _IF_HANDLED if _of_a_launcher(signal.getsignal(number))]
            self._before = {number: signal.signal(number, self._note) for number in (*_ALWAYS, *handled)}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Mapping[str, Any], batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        # A validation that is due would be left out by the resumed run.
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        if not (loop.batch_progress.is_last_batch or validates or loop._should_accumulate()):
            self._leave_if_asked(trainer, save=True)

    # An epoch's checkpoint, and its row in the metrics, are written after `on_train_epoch_end`.
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave_if_asked(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave_if_asked(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._received_at = number, time.monotonic()
            name = signal.Signals(number).name
            # Not `print`, which a signal may have interrupted.
            said = f"\n{name}: finishing this step and writing a checkpoint (again: stop at once)\n"
            os.write(1, said.encode())
        elif not _comes_twice() or time.monotonic() - self._received_at > _AGAIN_S:
            raise Interrupted(number, self._saved(), agreed=False)

    def _leave_if_asked(self, trainer: L.Trainer, save: bool = False) -> None:
        number = self._agreed(trainer)
        if not number:
            return
        if save:
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
        before = self._before.get(number)
        if number in _USERS and _of_a_launcher(before):
            self._received = None
            before(number, None)  # type: ignore[misc]
            return
        requeued = trainer.is_global_zero and number != signal.SIGINT and self._saved() is not None and requeue()
        if requeued or trainer.world_size > 1:
            # SLURM now ends the job, with the same signal: let the run close in order.
            for other in set(_ALWAYS) - {signal.SIGINT}:
                signal.signal(other, signal.SIG_IGN)
                self._before.pop(other, None)
        raise Interrupted(number, self._saved(), requeued=requeued)

    def _agreed(self, trainer: L.Trainer) -> int:
        """The signal that one of the processes got; 0 for none."""
        own = self._received or 0
        if trainer.world_size == 1:
            return own
        told = torch.tensor(own, device=trainer.strategy.root_device)
        highest: torch.Tensor = trainer.strategy.reduce(told, reduce_op=torch.distributed.ReduceOp.MAX)  # type: ignore[arg-type]
        return int(highest.item())

    def _saved(self) -> Path | None:
        return self.checkpoint if self.checkpoint.is_file() else None

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _of_a_launcher(handler: Any) -> bool:
    return callable(handler) and handler is not signal.default_int_handler and not isinstance(handler, signal.Handlers)


def _comes_twice() -> bool:
    """Whether one signal may arrive twice: from SLURM or the terminal, and passed on by torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_JOB_ID" in os.environ
