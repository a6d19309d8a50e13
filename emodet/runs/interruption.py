"""Ctrl-C and SIGTERM: finish the batch, leave a checkpoint to resume from, exit with the signal's status."""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L

__all__ = ["Interrupted", "Interruption"]


class Interrupted(BaseException):
    """Training was stopped by a signal, after its checkpoint was written.

    Not an `Exception`: nothing between the training loop and the command may take it for a failure.
    """

    def __init__(self, signal_number: int, checkpoint: Path | None) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        super().__init__(signal.Signals(signal_number).name)

    @property
    def exit_status(self) -> int:
        """What shells expect: 128 and the signal's number."""
        return 128 + self.signal_number


class Interruption(L.Callback):
    """Turn the first SIGINT or SIGTERM into a checkpoint at the next safe place; a second one ends the run at once.

    Safe places are the ends of optimizer steps, where no gradients are under way, and of epochs, where the epoch's
    own checkpoint has been written: elsewhere optimizer, averages and loop counters can disagree, and a checkpoint
    would not resume to the same result. It must be the last of the callbacks, so that all others have done their part
    of the step that is saved.

    Args:
        checkpoint: Where to write it.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_over(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_over(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Mapping[str, Any], batch_idx: int
    ) -> None:
        if self._received is None:
            return
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        # A validation that is due would be left out by the resumed run.
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        if not (loop.batch_progress.is_last_batch or validates or loop._should_accumulate()):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            self._leave_if_asked()

    # An epoch's checkpoint, and its row in the metrics, are written after `on_train_epoch_end`.
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave_if_asked()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave_if_asked()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _take_over(self, trainer: L.Trainer) -> None:
        # Not in an earlier hook: Lightning puts its own handler of SIGTERM in place after those, which would end the
        # process with status 0 and without a checkpoint. It also puts back at the end what was there before its own.
        if not self._before:
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
            if trainer.received_sigterm:
                self._received = signal.SIGTERM

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._received is not None:
            raise Interrupted(number, self.checkpoint if self.checkpoint.is_file() else None)
        self._received = number
        name = signal.Signals(number).name
        print(f"\n{name}: finishing this step and writing a checkpoint (again: stop at once)", flush=True)

    def _leave_if_asked(self) -> None:
        if self._received is not None:
            raise Interrupted(self._received, self.checkpoint if self.checkpoint.is_file() else None)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
