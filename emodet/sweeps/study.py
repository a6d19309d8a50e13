"""The file of a search: Optuna's journal, which every process of the search appends to.

A journal needs no database and no server, works on network file systems, and a process that is killed while writing
costs it one line.
"""

import fcntl
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emodet.errors import EmodetError
from emodet.sweeps.space import SearchSpace

if TYPE_CHECKING:
    import optuna

__all__ = ["NOT_COMPARED", "join_trial", "make_pruner", "open_study", "studied_folders"]

log = logging.getLogger(__name__)

_NAME = "emodet"
_VERSION = 1

NOT_COMPARED = (
    *("sweep.trials=", "sweep.at_once=", "sweep.batch=", "sweep.study=", "sweep.seed=", "sweep.startup_trials="),
    *("sweep.pruner", "launcher=", "logger", "data.root=", "data.packs=", "data.num_workers=", "data.processes="),
    *("threads=", "trainer.enable_progress_bar=", "trainer.accelerator=", "trainer.devices="),
)
"""Overrides that do not change what a trial finds, so that a search may go on with others."""


@contextmanager
def open_study(
    file: Path, space: SearchSpace, metric: str, *, lower_is_better: bool, seed: int, startup_trials: int | None
) -> Iterator["optuna.Study"]:
    """The study in `file`, new or gone on with, for as long as the block lasts no other search's.

    Trials that a search before left running are told as failed, and their values are queued to be tried again.

    Args:
        file: Of the journal.
        space: What is searched.
        metric: What is made best.
        lower_is_better: Its direction.
        seed: Of the sampler.
        startup_trials: Trials drawn at random first; None keeps Optuna's number.

    Raises:
        EmodetError: The file is no study, one of something else, or in use by another search.
    """
    import optuna
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    purpose = {
        "version": _VERSION,
        "space": space.described(),
        "metric": metric,
        "fixed": sorted(each for each in space.fixed if not each.startswith(NOT_COMPARED)),
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("ab+")
    except OSError as problem:
        raise EmodetError(f"sweep.study={file}: cannot be written ({problem.strerror})") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EmodetError(
                f"sweep.study={file}: another search is at work on it; wait for its end, or name another file"
            ) from None
        if stream.tell() == 0:
            storage = _storage(file)
            direction = StudyDirection.MINIMIZE if lower_is_better else StudyDirection.MAXIMIZE
            study = optuna.create_study(storage=storage, study_name=_NAME, direction=direction)
            study.set_user_attr("emodet", purpose)
        else:
            _mend(stream, file)
            study = _existing(file, purpose)
        # The same seed again would repeat the first draws.
        drawn = np.random.SeedSequence([seed, len(study.trials)]).generate_state(1)[0]
        kept: dict[str, Any] = {} if startup_trials is None else {"n_startup_trials": startup_trials}
        study.sampler = optuna.samplers.TPESampler(seed=int(drawn), **kept)
        _give_up_running(study)
        yield study


def _storage(file: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file)))


def _mend(stream: Any, file: Path) -> None:
    """Cut off a last line that a killed process left half written; Optuna would stumble over it after the next one."""
    stream.seek(0)
    content: bytes = stream.read()
    first = content.split(b"\n", 1)[0]
    try:
        if "op_code" not in json.loads(first):
            raise ValueError
    except (ValueError, TypeError):
        raise EmodetError(f"sweep.study={file}: not a study, its first line is not one of Optuna's journal") from None
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s: its last line was cut off by a killed process and is left out", file)
        stream.truncate(whole)


def _existing(file: Path, purpose: Mapping[str, Any]) -> "optuna.Study":
    import optuna

    try:
        study = optuna.load_study(storage=_storage(file), study_name=_NAME)
        made_for: dict[str, Any] = study.user_attrs["emodet"]
        trials = len(study.trials)
    except Exception as problem:  # damaged content can fail in any way
        raise EmodetError(f"sweep.study={file}: not a study of emodet, or damaged ({problem!r})") from None
    for part, what in (("metric", "training.monitor"), ("space", "search space"), ("fixed", "fixed settings")):
        if made_for.get(part) != purpose[part]:
            differing = _difference(made_for.get(part), purpose[part])
            raise EmodetError(
                f"sweep.study={file}: a study of another {what} ({differing}), with {trials} trials that these could "
                "not be compared with; name another file, or repeat its command (sweep.json beside it)"
            )
    return study


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        return "; ".join(f"{key}: {_shown(before.get(key))}, now {_shown(now.get(key))}" for key in keys)
    if isinstance(before, list) and isinstance(now, list):
        gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
        return f"{', '.join(gone) or 'nothing'} before, now {', '.join(new) or 'nothing'}"
    return f"{before}, now {now}"


def _shown(distribution: Any) -> str:
    if distribution is None:
        return "not searched"
    values = distribution.get("attributes", {})
    if "choices" in values:
        return f"choice({', '.join(map(str, values['choices']))})"
    return f"{values.get('low')} to {values.get('high')}{' log' if values.get('log') else ''}"


def _give_up_running(study: "optuna.Study") -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        log.warning("trial %d was left running by a search that was killed: failed, and queued again", trial.number)
        study.enqueue_trial(trial.params)


def join_trial(file: Path, number: int, pruner: Mapping[str, Any] | None) -> "optuna.Trial":
    """The trial that this process is a run of, to report to and to be told by the pruner.

    Args:
        file: Of the study.
        number: Of the trial.
        pruner: `PrunerConfig`'s values; None never ends it.

    Raises:
        EmodetError: There is no such study or trial, or a value of the pruner does not fit.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not file.is_file():
        raise EmodetError(f"sweep.study={file}: there is no such file; runs of a search must see its study")
    # A sampler that draws nothing by itself: the values were drawn by the search.
    study = optuna.load_study(
        storage=_storage(file), study_name=_NAME, sampler=optuna.samplers.RandomSampler(), pruner=make_pruner(pruner)
    )
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise EmodetError(f"sweep.trial={number}: {file} has no such trial")
    return optuna.Trial(study, trials[number]._trial_id)


def make_pruner(settings: Mapping[str, Any] | None) -> "optuna.pruners.BasePruner":
    """Optuna's pruner for `PrunerConfig`'s values; None makes one that ends nothing.

    Raises:
        EmodetError: A value does not fit.
    """
    import optuna

    if settings is None:
        return optuna.pruners.NopPruner()
    names = {
        "startup_trials": "n_startup_trials",
        "warmup_epochs": "n_warmup_steps",
        "interval_epochs": "interval_steps",
        "min_trials": "n_min_trials",
    }
    try:
        return optuna.pruners.PercentilePruner(
            settings["percentile"], **{names[key]: value for key, value in settings.items() if key in names}
        )
    except ValueError as problem:
        raise EmodetError(f"sweep.pruner={dict(settings)}: {problem}") from None


def studied_folders(file: Path) -> list[Path]:
    """The folders of all runs of a study, in the order of its trials; also of searches before."""
    study_trials = _existing_trials(file)
    return [Path(trial.user_attrs["folder"]) for trial in study_trials if "folder" in trial.user_attrs]


def _existing_trials(file: Path) -> list[Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.load_study(storage=_storage(file), study_name=_NAME).get_trials(deepcopy=False)
    except Exception as problem:
        raise EmodetError(f"{file}: not a study of emodet, or damaged ({problem!r})") from None
