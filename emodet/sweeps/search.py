"""Search with Optuna: ask for values, run them, tell what came out."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper

from emodet.errors import EmodetError
from emodet.models.metrics import lower_is_better
from emodet.sweeps.launching import Ended, Job
from emodet.sweeps.session import Running, Session
from emodet.sweeps.space import SearchSpace, search_space
from emodet.sweeps.study import make_pruner, open_study

if TYPE_CHECKING:
    import optuna

__all__ = ["run_search"]


def run_search(sweeper: Sweeper, arguments: Sequence[str]) -> list[Ended]:
    """Search until there are ``sweep.trials`` finished or stopped trials, those of the study file included.

    A failed trial is told as failed and does not end the search; each session asks for no more trials than were
    missing at its start, so that one whose trials all fail ends too.

    Args:
        sweeper: Set up, with its launcher.
        arguments: The command line's overrides.

    Returns:
        How the runs of this session ended.

    Raises:
        EmodetError: The search space or the study file does not fit.
    """
    session = Session(sweeper)
    settings = session.settings["sweep"]
    if "trials" not in settings or "study" not in settings:
        raise EmodetError("sweep.trials, sweep.study: a search needs both; sweep=optuna sets them")
    parser = OverridesParser.create(config_loader=session.config_loader)
    space = search_space(parser.parse_overrides(session.params()), parser.parse_overrides(list(arguments)))
    session.check(space.corners())
    make_pruner(settings.get("pruner"))
    metric = session.settings["training"]["monitor"]
    if metric == "val/loss" and any(key.startswith("loss.") for key in space.varied):
        raise EmodetError(
            "training.monitor=val/loss: the loss is another one in each trial, as the search varies "
            f"{', '.join(key for key in space.varied if key.startswith('loss.'))}; select by val/nll or val/accuracy"
        )
    file = Path(settings["study"]).expanduser().resolve()
    opened = open_study(
        file,
        space,
        metric,
        lower_is_better=lower_is_better(metric),
        seed=settings["seed"],
        startup_trials=settings.get("startup_trials"),
    )
    ended: list[Ended] = []
    with opened as study:
        done, wanted = _done(study), settings["trials"]
        if len(study.trials):
            print(f"{file}: {done} of {wanted} trials are done; going on")
        at_once = settings.get("batch", settings["at_once"])
        missing = wanted - done
        with session.running("search", file) as running:
            while missing > 0 and not running.stopped:
                asked = min(at_once, missing)
                missing -= asked
                ended.extend(_batch(study, space, asked, running, file))
            if ended and all(each.problem is not None for each in ended):
                print("the search ends with status 1: none of its trials finished", file=sys.stderr)
                running.status = 1
    return ended


def _done(study: "optuna.Study") -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _batch(study: "optuna.Study", space: SearchSpace, count: int, running: Running, file: Path) -> list[Ended]:
    """Ask for `count` trials, run them, and tell how they ended; those that a signal stopped are queued again."""
    from optuna.trial import TrialState

    trials = {}
    for _ in range(count):
        trial = study.ask(dict(space.varied))
        trial.set_user_attr("folder", str(running.folder / str(trial.number)))
        trials[trial.number] = trial
    jobs = [
        Job(number, (*space.overrides(trial.params), f"sweep.study='{file}'", f"sweep.trial={number}"))
        for number, trial in trials.items()
    ]
    ended: list[Ended] = []
    try:
        ended = running.launch(jobs)
    finally:
        told = {each.job.number: each for each in ended}
        for number, trial in trials.items():
            found = told.get(number)
            early = "ended_early" in study.trials[number].user_attrs
            if found is not None and found.value is not None and early:
                study.tell(trial, state=TrialState.PRUNED)
            elif found is not None and found.value is not None and math.isfinite(found.value):
                study.tell(trial, found.value)
            else:
                study.tell(trial, state=TrialState.FAIL)
                if running.stopped or found is None:
                    study.enqueue_trial(trial.params)
    return ended
