"""Sweeps: search spaces and pruning, grids, searches and launchers with real trainings, and the comparison of runs."""

import json
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import optuna
import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.trainer.states import TrainerFn
from made_commands import python
from made_files import csv_rows, put, put_text
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from scipy import stats

from emodet.compare import main
from emodet.sweeps.comparison import compare_runs, mean_interval
from emodet.sweeps.optuna_search import PruningCallback, search_space
from emodet.sweeps.runs import find_runs
from emodet.training.folder import RunFolder

# The search space of an Optuna search, in Hydra's sweep syntax, and pruning.


def space(*overrides):
    return search_space(OverridesParser.create().parse_overrides(list(overrides)))


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("interval(0.1,0.5)", FloatDistribution(0.1, 0.5)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("interval(2,9)", FloatDistribution(2.0, 9.0)),
        ("int(interval(2,9))", IntDistribution(2, 9)),
        ("range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("choice(a,b)", CategoricalDistribution(["a", "b"])),
        ("a,b", CategoricalDistribution(["a", "b"])),
    ],
)
def test_ranges_become_distributions(written, distribution):
    assert space(f"key={written}") == ({"key": distribution}, [])


def test_a_plain_value_fixes_a_key():
    varied, fixed = space("a=interval(0.0,1.0)", "b=choice(x,y)", "a=0.5", "~c")
    assert list(varied) == ["b"]
    assert fixed == ["a=0.5", "~c"]


def validated(value, folder):
    """A trainer in its second epoch, after a validation with this accuracy."""
    known = {"sanity_checking": False, "is_global_zero": True, "should_stop": False, "current_epoch": 1}
    known |= {"callback_metrics": {"val/accuracy": torch.tensor(value)}, "default_root_dir": str(folder)}
    known |= {"strategy": SimpleNamespace(broadcast=lambda value, src: value)}
    return SimpleNamespace(**known, state=SimpleNamespace(fn=TrainerFn.FITTING))


def open_study(file):
    return {"study_name": "emodet", "storage": JournalStorage(JournalFileBackend(str(file)))}


def test_a_trial_worse_than_the_median_is_pruned(tmp_path):
    file = tmp_path / "study.journal"
    study = optuna.create_study(**open_study(file), direction="maximize")
    for value in (0.7, 0.8):
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, value)
    pruner = {"percentile": 50, "n_startup_trials": 1, "n_warmup_steps": 0}
    for number, value, pruned in ((2, 0.2, True), (3, 0.9, False)):
        study.ask()
        trainer = validated(value, tmp_path)
        PruningCallback(str(file), number, "val/accuracy", pruner).on_validation_end(trainer, L.LightningModule())
        assert trainer.should_stop == pruned
    trials = study.get_trials()
    assert trials[2].user_attrs == {"pruned_in_epoch": 1}
    assert trials[3].intermediate_values == {1: pytest.approx(0.9)}


# `python -m emodet.train --multirun`.


BRIEF = [
    *("-m", "experiment=affectnet_yolo", "trainer.precision=32-true", "logger=csv", "callbacks=[default]"),
    *("trainer.max_epochs=1", "trainer.limit_train_batches=2"),
]


def states(sweep):
    return [run["state"] for run in csv_rows(sweep / "runs.csv")]


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_finish(small, tmp_path):
    arguments = [*BRIEF, *small, "loss.class_weights=[1,1,1],null", "sweep=seeds", "seed=4,5"]
    done = python("-m", "emodet.train", *arguments, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "error: loss.class_weights=[1, 1, 1]" in done.stderr
    assert "failed: 0: loss.class_weights=[1, 1, 1]" in done.stdout
    assert sorted(states(tmp_path)) == ["failed", "failed", "finished", "finished"]
    assert (tmp_path / "comparison.html").is_file()


@pytest.mark.slow
def test_a_search_continues_its_study(command, small, tmp_path, without_pictures):
    study = tmp_path / "study.journal"
    fixed = ["augmentation=none", "net.head_dropout=0.1", "optimizer.weight_decay=0.01", "loss.label_smoothing=0"]
    for session, trials in (("first", 2), ("second", 3)):
        arguments = [*BRIEF, *small, *fixed, "sweep=optuna", f"hydra.sweeper.n_trials={trials}"]
        places = [f"hydra.sweeper.study={study}", f"hydra.sweep.dir={tmp_path / session}"]
        assert command("emodet.train", *arguments, *places) == 0
    loaded = optuna.load_study(**open_study(study))
    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE"] * 3
    rates = {trial.params["optimizer.lr"] for trial in loaded.trials}
    assert len(rates) == 3
    assert all(3e-4 <= rate <= 2e-2 for rate in rates)
    selected = RunFolder(tmp_path / "second" / "2").facts()["selected"]["value"]
    assert loaded.trials[2].value == pytest.approx(selected)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_launchers_run_trainings_side_by_side(launcher, small, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    arguments = [argument for argument in small if argument != "data.num_workers=0"]
    arguments = [*BRIEF, *arguments, "seed=1,2", f"launcher={launcher}", f"hydra.sweep.dir={tmp_path}"]
    done = python("-m", "emodet.train", *arguments)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert states(tmp_path) == ["finished", "finished"]


# `python -m emodet.compare`: runs grouped into configurations, means over seeds, what did not finish.


def write_run(folder, overrides, curve, *, facts=None, finished=True, metric="val/accuracy", keep="best"):
    """A run folder as training leaves it, with this validation curve."""
    seed = next((int(each.removeprefix("seed=")) for each in overrides if each.startswith("seed=")), 0)
    settings = {"seed": seed, "training": {"monitor": metric}, "callbacks": {"best": {"keep": keep}}}
    rows = [f"{epoch},{epoch * 9},{value}" for epoch, value in enumerate(curve)]
    known = {"started": "2026-01-01T10:00:00Z", "splits": {"val": "val", "test": "test"}}
    if finished:
        put(folder / "checkpoints" / "best.ckpt", b"")
        known |= {"ended": "2026-01-01T10:02:00Z", "results": {"test": {"accuracy": {"value": curve[-1] - 0.1}}}}
    put_text(folder / ".hydra" / "overrides.yaml", yaml.safe_dump(list(overrides)))
    put_text(folder / "config.yaml", yaml.safe_dump(settings))
    put_text(folder / "csv" / "0" / "metrics.csv", f"epoch,step,{metric}", *rows)
    return put_text(folder / "run.json", json.dumps({**known, **(facts or {})})).parent


@pytest.fixture
def sweep(tmp_path):
    """Two learning rates with two seeds each, one pruned run, one that failed, two that were killed."""
    rates = ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    for number, (rate, seed, curve) in enumerate(
        [(0, 1, [0.5, 0.6]), (0, 2, [0.5, 0.7]), (1, 1, [0.7, 0.8]), (1, 2, [0.8, 0.6])]
    ):
        write_run(tmp_path / str(number), ["data.root=/a", rates[rate], f"seed={seed}"], curve)
    write_run(tmp_path / "4", ["optimizer.lr=0.3"], [0.2], facts={"pruned": "pruned in epoch 0"})
    failed = {"failed": "the loss became nan", "left": "2026-01-01T10:01:00Z"}
    write_run(tmp_path / "5", ["optimizer.lr=9"], [], facts=failed, finished=False)
    write_run(tmp_path / "10", ["optimizer.lr=0.2", "seed=3"], [0.9], finished=False)
    again = {"started": "2026-01-02T10:00:00Z"}  # resumed for more epochs, and killed
    write_run(tmp_path / "11", ["optimizer.lr=0.2", "seed=4"], [0.9], facts=again)
    return tmp_path


def test_runs_are_ranked_by_the_mean_over_seeds(sweep, capsys):
    assert main([str(sweep)]) == 0
    table = csv_rows(sweep / "comparison.csv")
    assert [row["optimizer.lr"] for row in table] == ["0.2", "0.1", "0.3", "9"]
    assert "data.root" not in table[0]
    assert [row["seeds"] for row in table] == ["2", "2", "0", "0"]
    assert float(table[0]["mean"]) == pytest.approx(0.8)
    assert float(table[0]["test/accuracy"]) == pytest.approx((0.7 + 0.5) / 2)
    assert table[0]["best_checkpoint"] == str(Path("2", "checkpoints", "best.ckpt"))
    printed = capsys.readouterr().out
    assert "failed: 5: the loss became nan" in printed
    assert "unfinished: 10" in printed
    runs = csv_rows(sweep / "runs.csv")
    assert [run["run"] for run in runs] == ["0", "1", "2", "3", "4", "5", "10", "11"]
    assert [run["state"] for run in runs] == ["finished"] * 4 + ["pruned", "failed", *["unfinished"] * 2]
    assert [run["kept_epoch"] for run in runs[:4]] == ["1", "1", "1", "0"]
    output = sweep / "elsewhere"
    assert main([str(sweep), "--output", str(output)]) == 0
    page = (output / "comparison.html").read_text()
    assert "the loss became nan" in page
    assert page.count("<img") == 2
    for name in ("comparison", "curves"):
        assert (output / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_kept_epoch_follows_the_metric_and_the_callback(tmp_path):
    write_run(tmp_path / "0", ["a=1"], [0.3, 0.1, 0.2], metric="val/loss")
    write_run(tmp_path / "1", ["a=2"], [0.3, 0.1, 0.2], metric="val/loss", keep="last")
    comparison = compare_runs(find_runs([tmp_path]), "")
    assert [each.best_value for each in comparison.configurations] == [0.1, 0.2]


def test_folders_without_runs_are_refused(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path)]) == 2
    damaged = write_run(tmp_path / "0", ["a=1"], [0.5])
    (damaged / "run.json").write_text("{")
    assert main([str(tmp_path)]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("error: /")


@pytest.mark.parametrize("values", [[0.5, 0.7], [0.61, 0.64, 0.6], [0.2] * 8])
def test_the_interval_is_students_t(values):
    mean = mean_interval("accuracy", values)
    assert mean.value == pytest.approx(np.mean(values))
    expected = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    assert mean.high - mean.value == pytest.approx(expected, abs=1e-9)
    assert mean.value - mean.low == pytest.approx(expected, abs=1e-9)
