"""The search space of an Optuna search, in Hydra's sweep syntax, and pruning."""

from types import SimpleNamespace
from typing import cast

import lightning as L
import optuna
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.trainer.states import TrainerFn
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from emodet.sweeps.optuna_search import PruningCallback, search_space


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


def test_a_plain_value_fixes_a_key_and_the_later_override_counts():
    varied, fixed = space("a=interval(0.0,1.0)", "b=choice(x,y)", "a=0.5", "~c")
    assert list(varied) == ["b"]
    assert fixed == ["a=0.5", "~c"]


def validated(epoch, value, folder):
    strategy = SimpleNamespace(broadcast=lambda value, src: value)
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    metrics = {"val/accuracy": torch.tensor(value)}
    known = {"sanity_checking": False, "is_global_zero": True, "should_stop": False}
    known |= {"callback_metrics": metrics, "current_epoch": epoch, "strategy": strategy, "state": state}
    return cast(L.Trainer, SimpleNamespace(**known, default_root_dir=str(folder)))


def test_a_trial_worse_than_the_median_is_pruned(tmp_path):
    file = tmp_path / "study.journal"
    storage = JournalStorage(JournalFileBackend(str(file)))
    study = optuna.create_study(storage=storage, study_name="emodet", direction="maximize")
    for value in (0.7, 0.8):
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, value)
    study.ask()
    study.ask()
    pruner = {"percentile": 50, "n_startup_trials": 1, "n_warmup_steps": 0}
    bad, good = validated(1, 0.2, tmp_path), validated(1, 0.9, tmp_path)
    PruningCallback(str(file), 2, "val/accuracy", pruner).on_validation_end(bad, L.LightningModule())
    PruningCallback(str(file), 3, "val/accuracy", pruner).on_validation_end(good, L.LightningModule())
    assert bad.should_stop
    assert not good.should_stop
    trials = study.get_trials()
    assert trials[2].user_attrs == {"pruned_in_epoch": 1}
    assert trials[3].intermediate_values == {1: pytest.approx(0.9)}
