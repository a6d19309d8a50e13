"""The configuration: keys and defaults from signatures, groups that replace cleanly, paths of any name, help."""

import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_files import put_text
from omegaconf import OmegaConf

import emodet.train  # noqa: F401  registers the schema
from emodet.command_line import conf_folder
from emodet.config import TrainConfig
from emodet.errors import EmodetError
from emodet.schema import RENAMED_KEYS, checked, converted

CONF = Path(conf_folder())
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("train", [*overrides, "name=test"])
    given = [override.lstrip("+~").partition("=")[0] for override in overrides]
    return checked(TrainConfig, OmegaConf.to_container(config, resolve=True), given)


def options(group):
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


# Keys.


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        *((f"{plus}trainer.max_epoch=3", "did you mean trainer.max_epochs?") for plus in ("", "+")),
        ("sed=1", "did you mean seed?"),
        ("data.batchsize=3", "did you mean data.batch_size?"),
        ("callbacks.best.moniter=val/loss", "did you mean callbacks.best.monitor?"),
        ("preprocessing.sise=3", "did you mean preprocessing.size?"),
        *(("optimizer.lr=abc", "abc"), ("training.mixup=[1]", "1")),
        # What does not suit the net, the data or the machine.
        ("net.channels=[0,4,8,8]", "[0, 4, 8, 8]"),
        ("net.stage_dropout=[2,0,0,0]", "[2, 0, 0, 0]"),
        ("preprocessing.size=8", "preprocessing.size=8"),
        ("data.batch_size=0", "data.batch_size=0"),
        ("data.crop=fce", "data.crop='fce'"),
        ("trainer.devices=999", "trainer.devices=999"),
    ],
)
def test_a_mistyped_key_or_unfit_value_is_refused_before_there_is_a_folder(argument, said, refused, tmp_path):
    chosen = ("experiment=baseline", "data=synthetic", "trainer.accelerator=cpu", argument)
    error = refused("emodet.train", *chosen, f"data.root={tmp_path / 'faces'}", f"hydra.run.dir={tmp_path / 'run'}")
    assert error.startswith((f"error: {argument.lstrip('+').partition('=')[0]}", "error: net"))
    assert said in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("trainer: {max_epoch: 3}", "trainer.max_epoch"),
        ("optimiser: {lr: 0.1}", "optimiser"),
        ("trainer: {max_epochs: many}", "trainer.max_epochs=many"),
        ("augmentation: {step: []}", "augmentation.step"),
        ("seed: 1.5", "seed=1.5"),
    ],
)
def test_a_mistake_in_an_experiment_file_is_refused(text, wrong, refused, tmp_path):
    put_text(tmp_path / "experiment" / "mine.yaml", "# @package _global_", text)
    run = tmp_path / "run"
    own = ["--config-dir", str(tmp_path), "experiment=mine", f"hydra.run.dir={run}"]
    assert refused("emodet.train", *own).startswith(f"error: {wrong}")
    assert not (run / "checkpoints").exists()


def test_a_sweep_has_a_folder_of_its_own(command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMODET_OUTPUTS", "~")  # as an environment file has it, which no shell expands
    assert command("emodet.train", "-m", "experiment=ferplus", "data.root=/no/such/folder", "seed=1,2") == 1
    (sweep,) = (tmp_path / "ferplus").glob("*_sweep")
    assert {"0", "1", "comparison.html"} <= {path.name for path in sweep.iterdir()}


NEAREST = {
    **{"data.workers": "data.num_workers", "data.evaluation_batch_size": "data.eval_batch_size"},
    **{"data.selection_seed": "data.split_seed", "schedule": "scheduler"},
    "distillation.answers": "distillation.teachers",
}


TARGETS = {
    **{"net": "emodet.models.residual_cnn.ResidualCNN", "loss": "emodet.models.losses.SoftCrossEntropy"},
    **{"optimizer": "torch.optim.SGD", "scheduler": "emodet.models.optimization.cosine"},
}


@pytest.mark.parametrize("old", [*RENAMED_KEYS, *NEAREST])
def test_an_old_key_names_the_new_one(old):
    group, _, key = old.rpartition(".")
    target = {"_target_": TARGETS[group]} if group in TARGETS else {}
    with pytest.raises(EmodetError) as caught:
        checked(TrainConfig, {group: {key: 1, **target}} if group else {old: 1})
    assert str(caught.value).startswith(old)
    assert (RENAMED_KEYS.get(old) or f"did you mean {NEAREST[old]}?") in str(caught.value)


@pytest.mark.parametrize("choice", ["data=[synthetic,ferplus]", "net=[residual_cnn,timm]"])
def test_two_choices_in_a_group_of_one_are_refused(choice, refused, tmp_path):
    """Hydra would silently take the last."""
    error = refused("emodet.train", "experiment=baseline", choice, f"hydra.run.dir={tmp_path}")
    assert f"error: {choice}: one choice was expected" in error


def test_values_are_converted_to_the_types_of_the_signature_dicts_too():
    assert converted(3, float) == 3
    assert converted(1e3, int) == 1000
    assert converted(2020, str) == "2020"
    assert converted([1, 2], list[float] | None) == [1, 2]
    for value, hint in (("many", int), (True, int), (1.5, int), ("x", list[int]), (3, dict[str, int])):
        with pytest.raises((TypeError, ValueError)):
            converted(value, hint)
    config = composed(
        "experiment=baseline",
        "data.reader_options={label_source: folder}",
        "callbacks.x={_target_: lightning.Callback}",
    )
    assert config["data"]["reader_options"] == {"label_source": "folder"}
    assert config["callbacks"]["x"]["_target_"] == "lightning.Callback"


# Groups.


def test_a_choice_or_class_of_ones_own_leaves_nothing_of_the_one_that_it_replaces():
    assert (
        composed("experiment=baseline", "scheduler=onecycle")["scheduler"]
        == composed("experiment=affectnet8", "scheduler=onecycle")["scheduler"]
    )
    assert composed("experiment=baseline", "optimizer=sgd")["optimizer"]["lr"] == 0.1
    assert set(composed("experiment=affectnet8", "callbacks=[default]")["callbacks"]) == {
        *("best", "last", "lr_monitor", "throughput", "run_logger", "epoch_lines")
    }
    path = "callbacks.best._target_=lightning.pytorch.callbacks.ModelCheckpoint"
    best = composed("experiment=baseline", path, "callbacks.best.save_top_k=2")["callbacks"]["best"]
    assert best["save_top_k"] == 2
    assert best["monitor"] is None
    with pytest.raises(EmodetError, match=r"callbacks.x._target_=nowhere.Class: cannot be imported"):
        composed("experiment=baseline", "+callbacks.x._target_=nowhere.Class")


@cache
def alone(group, choice):
    return dict(composed("experiment=affectnet_va", f"{group}={choice}")[group])


@pytest.mark.parametrize("experiment", ["baseline", pytest.param("ferplus_live", marks=pytest.mark.slow)])
def test_experiments_take_every_choice_as_it_is(experiment):
    groups = {group: options(group) for group in ("optimizer", "scheduler", "loss", "net")}
    for turn in range(max(map(len, groups.values()))):
        chosen = {group: choices[turn % len(choices)] for group, choices in groups.items()}
        overrides = [f"{group}={choice}" for group, choice in chosen.items()]
        config = composed(f"experiment={experiment}", "training.monitor=val/macro_f1", *overrides)
        for group, choice in chosen.items():
            assert config[group] == alone(group, choice), (group, choice)


def test_there_are_at_most_twelve_experiments_and_options_of_a_choice_live_in_its_file():
    assert len(EXPERIMENTS) <= 12
    for experiment in EXPERIMENTS:
        values = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8"))
        assert not {"net", "optimizer", "scheduler", "loss", "callbacks"} & set(values), experiment


# Paths and help.


@pytest.mark.parametrize("name", ["a b[brackets] {x} Müller=1 写真", "it's, all\\"])
def test_paths_of_any_name_are_taken_as_they_are(name, command, refused, release, tmp_path):
    root = tmp_path / name
    shutil.copytree(release, root)
    assert command("emodet.prepare", "data=affectnet_yolo", f"data.root={root}", "list=true") == 0
    for file in (root / "none.ckpt", "~nosuchuser/none.ckpt"):
        assert f"{file}: there is no such file" in refused("emodet.evaluate", f"checkpoint={file}")


def test_help_and_the_command_alone_list_the_experiments(output, command, capfd):
    said = output("emodet.train", "--help")
    for experiment in EXPERIMENTS:
        assert f"  {experiment} " in said
    assert "The reference recipe for this net" in said
    assert "--config-dir" in output("emodet.train", "--hydra-help")
    assert command("emodet.train") == 2
    said = capfd.readouterr()
    assert all(experiment in said.out + said.err for experiment in EXPERIMENTS)


@pytest.mark.parametrize(("net", "title"), [("residual_cnn", "ResidualCNN"), ("timm", "resnet18")])
def test_a_wandb_run_is_named_after_experiment_net_seed_and_date(net, title):
    logger = composed("experiment=baseline", "logger=wandb", "seed=7", f"net={net}")["logger"]["wandb"]
    assert re.fullmatch(rf"test-{title}-seed7-\d{{4}}-\d\d-\d\d", logger["name"])
