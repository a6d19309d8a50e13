"""The file of a search: gone on with, refused where it is another one's, and whole after a kill."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import TrialState

from emodet.errors import EmodetError
from emodet.sweeps.space import SearchSpace, search_space
from emodet.sweeps.study import join_trial, open_study


def space(*typed: str) -> SearchSpace:
    return search_space([], OverridesParser.create().parse_overrides(list(typed) or ["lr=interval(0.0,1.0)"]))


def opened(file: Path, searched: SearchSpace | None = None, metric: str = "val/accuracy", seed: int = 0) -> Any:
    searched = searched or space()
    return open_study(file, searched, metric, lower_is_better=False, seed=seed, startup_trials=2)


def run_trials(study: optuna.Study, count: int) -> list[float]:
    found = []
    for _ in range(count):
        trial = study.ask(dict(space().varied))
        study.tell(trial, 1 - abs(trial.params["lr"] - 0.3))
        found.append(trial.params["lr"])
    return found


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "study.journal"
    with opened(file) as study:
        first = run_trials(study, 3)
    with opened(file) as study:
        assert [trial.number for trial in study.trials] == [0, 1, 2]
        second = run_trials(study, 3)
    # The same seed does not draw the first values again.
    assert not set(first) & set(second)


def test_the_same_seed_searches_alike(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        with opened(tmp_path / name) as study:
            found.append(run_trials(study, 6))
    with opened(tmp_path / "c", seed=1) as study:
        found.append(run_trials(study, 6))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("searched", "metric", "message"),
    [
        (("lr=interval(0.0,2.0)",), "val/accuracy", "another search space (lr: 0.0 to 1.0, now 0.0 to 2.0)"),
        (("x=a,b",), "val/accuracy", "another search space (lr: 0.0 to 1.0, now not searched; x: not searched, now "),
        (("lr=interval(0.0,1.0)",), "val/macro_f1", "another training.monitor (val/accuracy, now val/macro_f1)"),
        (
            ("lr=interval(0.0,1.0)", "trainer.max_epochs=9"),
            "val/accuracy",
            "another fixed settings (nothing before, now trainer.max_epochs=9)",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(
    searched: tuple[str, ...], metric: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.journal"
    with opened(file) as study:
        run_trials(study, 1)
    before = file.read_bytes()
    with pytest.raises(EmodetError) as problem, opened(file, space(*searched), metric):
        pass
    assert message in str(problem.value)
    assert str(file) in str(problem.value)
    assert file.read_bytes() == before


def test_where_it_runs_may_change(tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    with opened(file, space("lr=interval(0.0,1.0)", "data.root=/here", "launcher=local")):
        pass
    with opened(file, space("lr=interval(0.0,1.0)", "data.root=/there", "launcher=joblib", "sweep.trials=9")) as study:
        assert study.trials == []


@pytest.mark.parametrize("content", [b"no study\n", b"\x00\xff\x80" * 99, b"[1, 2]\n", b'{"a": 1}\n', b"{}"])
def test_a_file_that_is_no_study_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    file.write_bytes(content)
    with pytest.raises(EmodetError, match="not a study"), opened(file):
        pass
    assert file.read_bytes() == content


def test_a_study_of_optuna_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    backend = optuna.storages.journal.JournalFileBackend(str(file))
    optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="mine")
    with pytest.raises(EmodetError, match="not a study of emodet"), opened(file):
        pass


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match="cannot be written"), opened(tmp_path):
        pass


def test_two_searches_do_not_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    with opened(file), pytest.raises(EmodetError, match="another search is at work on it"), opened(file):
        pass


def test_after_a_kill_the_cut_line_goes_and_running_trials_are_queued(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "study.journal"
    with opened(file) as study:
        run_trials(study, 2)
        killed = study.ask(dict(space().varied)).params
    with file.open("ab") as stream:
        stream.write(b'{"op_code": 6, "wor')
    with opened(file) as study:
        assert [trial.state for trial in study.trials[:3]] == [
            TrialState.COMPLETE,
            TrialState.COMPLETE,
            TrialState.FAIL,
        ]
        assert study.ask(dict(space().varied)).params == killed
    assert "its last line was cut off" in caplog.text
    assert "trial 2 was left running" in caplog.text


PRUNER = {"percentile": 50.0, "startup_trials": 2, "warmup_epochs": 1}


@pytest.mark.parametrize(
    ("pruner", "epoch", "value", "ends"),
    [
        (PRUNER, 1, 0.4, True),
        (PRUNER, 1, 0.6, False),
        (PRUNER, 0, 0.1, False),  # still warming up
        ({**PRUNER, "startup_trials": 4}, 1, 0.1, False),
        ({**PRUNER, "percentile": 0.0}, 1, 0.6, True),
        (None, 1, 0.0, False),
    ],
)
def test_a_run_is_told_to_end_by_earlier_curves(
    pruner: Mapping[str, Any] | None, epoch: int, value: float, ends: bool, tmp_path: Path
) -> None:
    file = tmp_path / "study.journal"
    with opened(file) as study:
        for final in (0.3, 0.5, 0.9):
            trial = study.ask(dict(space().varied))
            for step in (0, 1):
                join_trial(file, trial.number, None).report(final, step)
            study.tell(trial, final)
        asked = study.ask(dict(space().varied))
        # As the run does it, from another process.
        joined = join_trial(file, asked.number, pruner)
        joined.report(value, epoch)
        assert joined.should_prune() == ends
        assert study.trials[asked.number].intermediate_values == {epoch: value}
        assert study.trials[asked.number].params == asked.params


@pytest.mark.parametrize("pruner", [{"percentile": 120.0}, {"percentile": 50.0, "interval_epochs": 0}])
def test_a_pruner_that_makes_no_sense_is_refused(pruner: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    with opened(file) as study:
        study.ask(dict(space().varied))
        with pytest.raises(EmodetError, match=r"sweep\.pruner="):
            join_trial(file, 0, pruner)


def test_a_trial_that_there_is_not_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.journal"
    with pytest.raises(EmodetError, match="there is no such file"):
        join_trial(file, 0, None)
    with opened(file), pytest.raises(EmodetError, match="has no such trial"):
        join_trial(file, 0, None)
