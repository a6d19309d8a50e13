"""`python -m emodet.train --multirun`: grids, seeds, a search, and launchers, with real trainings."""

import subprocess
import sys

import optuna
import pytest
from made_files import csv_rows
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from emodet.training.folder import RunFolder

pytestmark = pytest.mark.slow

BRIEF = [
    *("-m", "experiment=affectnet_yolo", "trainer.precision=32-true", "logger=csv", "callbacks=[default]"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=2"),
]


def states(sweep):
    return [run["state"] for run in csv_rows(sweep / "runs.csv")]


def test_a_failed_run_is_named_and_the_others_finish(small, tmp_path):
    arguments = [*BRIEF, *small, "loss.class_weights=[1,1,1],null", "sweep=seeds", "seed=4,5"]
    command = [sys.executable, "-m", "emodet.train", *arguments, f"hydra.sweep.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "error: loss.class_weights=[1, 1, 1]" in done.stderr
    assert "failed: 0: loss.class_weights=[1, 1, 1]" in done.stdout
    assert sorted(states(tmp_path)) == ["failed", "failed", "finished", "finished"]
    assert (tmp_path / "comparison.html").is_file()


def test_a_search_continues_its_study(command, small, tmp_path, without_pictures):
    study = tmp_path / "study.journal"
    fixed = ["augmentation=none", "net.head_dropout=0.1", "optimizer.weight_decay=0.01", "loss.label_smoothing=0"]
    for session, trials in (("first", 2), ("second", 3)):
        arguments = [*BRIEF, *small, *fixed, "sweep=optuna", f"hydra.sweeper.n_trials={trials}"]
        places = [f"hydra.sweeper.study={study}", f"hydra.sweep.dir={tmp_path / session}"]
        assert command("emodet.train", *arguments, *places) == 0
    loaded = optuna.load_study(study_name="emodet", storage=JournalStorage(JournalFileBackend(str(study))))
    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE"] * 3
    rates = {trial.params["optimizer.lr"] for trial in loaded.trials}
    assert len(rates) == 3
    assert all(3e-4 <= rate <= 2e-2 for rate in rates)
    selected = RunFolder(tmp_path / "second" / "2").facts()["selected"]["value"]
    assert loaded.trials[2].value == pytest.approx(selected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep=optuna", "seed=1,2"], "seed"),
        (["sweep=optuna", "hydra.sweeper.pruner.percentile=200"], "hydra.sweeper.pruner="),
        (["sweep=optuna", "training.monitor=val/loss"], "training.monitor=val/loss"),
    ],
)
def test_a_search_that_cannot_work_stops_before_the_first_trial(arguments, named, refused, small, tmp_path):
    assert named in refused("emodet.train", *BRIEF, *small, *arguments, f"hydra.sweep.dir={tmp_path}")
    assert not (tmp_path / "0").exists()


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_launchers_run_trainings_side_by_side(launcher, small, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    arguments = [argument for argument in small if argument != "data.num_workers=0"]
    arguments = [*BRIEF, *arguments, "seed=1,2", f"launcher={launcher}", f"hydra.sweep.dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "emodet.train", *arguments], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert states(tmp_path) == ["finished", "finished"]
