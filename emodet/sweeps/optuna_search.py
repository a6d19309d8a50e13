"""Hyper-parameter search with Optuna for ``sweep=optuna``, and the callback that prunes trials."""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from emodet.errors import EmodetError
from emodet.files import expanded
from emodet.models.metrics import lower_is_better
from emodet.training.folder import RunFolder

_STUDY_NAME = "emodet"
_PRUNED = "pruned_in_epoch"


def search(
    options: Mapping[str, Any],
    config: DictConfig,
    config_loader: ConfigLoader,
    launcher: Launcher,
    arguments: Sequence[str],
) -> list[JobReturn]:
    """Run trials until the study contains ``n_trials`` finished or pruned ones; failed trials count too.

    `options` are those of `hydra_plugins.emodet_sweeps.OptunaSweeperConfig`, `arguments` the command line's overrides.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parser = OverridesParser.create(config_loader=config_loader)
    params = [f"{key}={value}" for key, value in options["params"].items()]
    varied, fixed = search_space(parser.parse_overrides([*params, *arguments]))
    metric = str(config.training.monitor)
    losses = [key for key in varied if key.startswith("loss.")]
    if metric == "val/loss" and losses:
        raise EmodetError(f"training.monitor=val/loss: {', '.join(losses)} change the loss itself; use val/nll")
    file = expanded(str(options["study"])).resolve()
    pruner = None if options["pruner"] is None else dict(options["pruner"])
    _make_pruner(pruner)  # raises for invalid arguments before the first trial
    study = _open(file, metric, options["seed"], options["n_startup_trials"])
    finished = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
    if finished:
        print(f"{file}: {finished} of {options['n_trials']} trials are finished")
    returns: list[JobReturn] = []
    remaining = options["n_trials"] - finished
    while remaining > 0:
        count = min(options["n_jobs"], remaining)
        remaining -= count
        trials = [study.ask(dict(varied)) for _ in range(count)]
        jobs = [
            [
                *fixed,
                *(f"{key}={value}" for key, value in trial.params.items()),
                *_pruning_overrides(file, trial.number, metric, pruner),
            ]
            for trial in trials
        ]
        done: Sequence[JobReturn] = ()
        try:
            done = launcher.launch(jobs, initial_job_idx=trials[0].number)
        finally:  # even if the launcher fails or a signal arrives
            for trial, returned in itertools.zip_longest(trials, done):
                _tell(study, trial, returned)
        returns.extend(done)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        print(f"{file}: no trial has finished", file=sys.stderr)
    return returns


def _pruning_overrides(file: Path, number: int, metric: str, pruner: Mapping[str, Any] | None) -> list[str]:
    """Return overrides that add a `PruningCallback` to a trial."""
    arguments = {"_target_": f"{__name__}.PruningCallback", "study": f"'{file}'", "trial": number, "monitor": metric}
    arguments |= {f"pruner.{key}": value for key, value in (pruner or {}).items()}
    return [f"++callbacks.pruning.{key}={value}" for key, value in arguments.items()]


def _tell(study: optuna.Study, trial: optuna.Trial, returned: JobReturn | None) -> None:
    pruned = _PRUNED in study.get_trials(deepcopy=False)[trial.number].user_attrs
    done = returned is not None and returned.status == JobStatus.COMPLETED
    value = returned.return_value if done and returned is not None else None
    if pruned and done:
        study.tell(trial, state=TrialState.PRUNED)
    elif isinstance(value, float) and math.isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.FAIL)


def _open(file: Path, metric: str, seed: int, n_startup_trials: int) -> optuna.Study:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(file))),
            study_name=_STUDY_NAME,
            direction="minimize" if lower_is_better(metric) else "maximize",
            load_if_exists=True,
        )
        # A different seed for a continued search, which would otherwise repeat the earlier trials.
        seed += len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_startup_trials)
        before = study.user_attrs.get("monitor", metric)
    except Exception as problem:  # an invalid journal raises various exceptions
        raise EmodetError(f"hydra.sweeper.study={file}: not a study of Optuna, or damaged ({problem!r})") from None
    if before != metric:
        raise EmodetError(f"hydra.sweeper.study={file}: its trials were compared by {before}, not by {metric}")
    study.set_user_attr("monitor", metric)
    return study


def _make_pruner(arguments: Mapping[str, Any] | None) -> optuna.pruners.BasePruner:
    if arguments is None:
        return optuna.pruners.NopPruner()
    try:
        return optuna.pruners.PercentilePruner(**arguments)
    except (TypeError, ValueError) as problem:
        raise EmodetError(f"hydra.sweeper.pruner={dict(arguments)}: {problem}") from None


def search_space(overrides: Sequence[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Split overrides into distributions of searched keys and fixed values as text; later overrides replace earlier.

    Ranges are in Hydra's sweep syntax: ``interval(LOW, HIGH)``, ``choice(A, B)``, ``range(START, STOP)``,
    ``tag(log, interval(…))``.
    """
    varied: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for key, override in {each.get_key_element(): each for each in overrides}.items():
        if override.is_sweep_override():
            varied[key] = _distribution(key, override)
        else:
            fixed.append(key if override.is_delete() else f"{key}={override.get_value_element_as_str()}")
    if "seed" in varied:
        raise EmodetError("seed: a search would choose the luckiest seed; compare its best trials with sweep=seeds")
    if not varied:
        raise EmodetError("hydra.sweeper.params: no range to search; for example optimizer.lr='interval(1e-4, 1e-2)'")
    return varied, fixed


def _distribution(key: str, override: Override) -> BaseDistribution:
    value = override.value()
    if not isinstance(value, IntervalSweep | RangeSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    log = "log" in value.tags
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)  # type: ignore[arg-type]
        numbers = [round(float(number), 12) for number in value.range()]
        if all(number.is_integer() for number in (*numbers, float(value.step))):
            return IntDistribution(
                int(min(numbers)), int(max(numbers)), log=log, step=1 if log else abs(int(value.step))
            )
        return FloatDistribution(min(numbers), max(numbers), step=None if log else abs(float(value.step)), log=log)
    except (ValueError, TypeError) as problem:
        raise EmodetError(f"{override.input_line or key}: not a range to search in ({problem})") from None


class PruningCallback(L.Callback):
    """Reports the monitored metric of each epoch to the study, and stops the training if the pruner decides so.

    Trials share only the study's file, so every launcher is supported.

    Args:
        study: Journal file of the study.
        trial: Number of the trial.
        monitor: Name of the metric.
        pruner: Arguments of `optuna.pruners.PercentilePruner`; None only reports.
    """

    def __init__(self, study: str, trial: int, monitor: str, pruner: Mapping[str, Any] | None = None) -> None:
        self._file, self._number, self._monitor = Path(study), trial, monitor
        self._pruner = pruner
        self._trial: optuna.trial.Trial | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        prune = trainer.is_global_zero and self._prunes(trainer)
        if trainer.strategy.broadcast(prune, src=0):
            trainer.should_stop = True
            if trainer.is_global_zero:
                reason = f"pruned in epoch {trainer.current_epoch}: {self._monitor} is below that of earlier trials"
                RunFolder(Path(trainer.default_root_dir)).write_facts({"pruned": reason})
                print(f"trial {self._number}: {reason}", flush=True)

    def _prunes(self, trainer: L.Trainer) -> bool:
        value = float(trainer.callback_metrics.get(self._monitor, math.nan))
        if math.isnan(value):
            return False
        self._trial = self._trial or self._join()
        self._trial.report(value, trainer.current_epoch)
        if self._trial.should_prune():
            self._trial.set_user_attr(_PRUNED, trainer.current_epoch)
            return True
        return False

    def _join(self) -> optuna.trial.Trial:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not self._file.is_file():
            raise EmodetError(
                f"hydra.sweeper.study={self._file}: no such file; trials must see the file of their study"
            )
        storage = JournalStorage(JournalFileBackend(str(self._file)))
        study = optuna.load_study(study_name=_STUDY_NAME, storage=storage, pruner=_make_pruner(self._pruner))
        study_id = storage.get_study_id_from_name(_STUDY_NAME)
        return optuna.trial.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, self._number))
