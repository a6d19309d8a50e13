"""What a sweep asks of its runs while they train: to end with it, and to end early where earlier trials were better."""

import math
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from emodet.models.metrics import lower_is_better
from emodet.training.folder import RunFolder
from emodet.sweeps.membership import Membership, membership

if TYPE_CHECKING:
    import optuna

__all__ = ["PruningCallback", "EndsWithSweep", "sweep_callbacks"]


def sweep_callbacks(settings: Mapping[str, Any], run: RunFolder) -> list[L.Callback]:
    """The callbacks of a run of a sweep; none outside one.

    Args:
        settings: The run's composed configuration as plain values.
        run: Its folder.
    """
    sweep = membership(settings)
    if sweep is None:
        return []
    callbacks: list[L.Callback] = [EndsWithSweep(sweep)]
    pruner = settings["sweep"].get("pruner")
    # What is resumed was told to the study as failed.
    if sweep.study is not None and "resume" not in settings:
        callbacks.append(PruningCallback(sweep, settings["training"]["monitor"], pruner, run))
    return callbacks


class EndsWithSweep(L.Callback):
    """Ends the run as SIGTERM would when its sweep was asked to stop, in whichever process or machine it runs.

    Args:
        sweep: The run's sweep.
    """

    def __init__(self, sweep: Membership) -> None:
        self._sweep, self._asked = sweep, False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._asked and self._sweep.stopping:
            self._asked = True
            os.kill(os.getpid(), signal.SIGTERM)


class PruningCallback(L.Callback):
    """Tells the study each epoch's metric, and ends the run where the pruner says so.

    The study's file is the only thing that the run shares with the search and with other trials, so it does not matter
    which launcher started it.

    Args:
        sweep: The run's sweep, with its study and trial.
        monitor: The metric.
        pruner: `PrunerConfig`'s values; None only tells.
        run: The run's folder, in which the reason is noted.
    """

    def __init__(self, sweep: Membership, monitor: str, pruner: Mapping[str, Any] | None, run: RunFolder) -> None:
        self._sweep, self._monitor, self._pruner, self._run = sweep, monitor, pruner, run
        self._trial: optuna.Trial | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        reason = None
        if trainer.is_global_zero and self._monitor in trainer.callback_metrics:
            reason = self._told(trainer.current_epoch, float(trainer.callback_metrics[self._monitor]))
        reason = trainer.strategy.broadcast(reason, src=0)
        if reason is not None:
            trainer.should_stop = True
            if trainer.is_global_zero:
                self._run.write_facts({"ended_early": {"epoch": trainer.current_epoch, "reason": reason}})
                print(f"trial {self._sweep.trial} ends early: {reason}", flush=True)

    def _told(self, epoch: int, value: float) -> str | None:
        """Report a value; why the trial ends, None where it goes on."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        from emodet.sweeps.study import join_trial

        if math.isnan(value):
            return None
        if self._trial is None:
            assert self._sweep.study is not None
            assert self._sweep.trial is not None
            self._trial = join_trial(self._sweep.study, self._sweep.trial, self._pruner)
        trial = self._trial
        try:
            trial.report(value, epoch)
            if self._pruner is None or not trial.should_prune():
                return None
            trial.set_user_attr("ended_early", epoch)
        except UpdateFinishedTrialError:  # the search gave the trial up, and this process lives on
            return None
        values = [
            each.intermediate_values[epoch]
            for each in trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if epoch in each.intermediate_values
        ]
        lower = lower_is_better(self._monitor)
        best = (min if lower else max)(trial.study._storage.get_trial(trial._trial_id).intermediate_values.values())
        place = sum(other < best if lower else other > best for other in values)
        return (
            f"its best {self._monitor} up to epoch {epoch} is {best:.4g}, and {place} of {len(values)} finished trials "
            "were better in that epoch"
        )
