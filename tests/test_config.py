"""The schema refuses what nobody knows; what was not set keeps its signature's default."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from emodet.commands import conf_folder, to_plain_dict
from emodet.config import TrainConfig

Command = Any


@pytest.mark.parametrize(
    "argument",
    ["trainer.max_epoch=3", "+trainer.max_epoch=3", "sed=1", "+sed=1", "data.batchsize=3", "+optimizer.momentun=0.9"],
)
def test_a_mistyped_key_is_refused_on_the_command_line(
    argument: str, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("emodet.train", "experiment=ferplus", argument, f"hydra.run.dir={tmp_path / 'run'}") != 0
    said = capfd.readouterr()
    assert argument.lstrip("+").split("=")[0].split(".")[-1] in said.err + said.out
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("trainer: {max_epoch: 3}", "max_epoch"),
        ("optimiser: {lr: 0.1}", "optimiser"),
        ("trainer: {max_epochs: many}", "many"),
        ("augmentation: {step: []}", "step"),
    ],
)
def test_a_mistyped_key_is_refused_inside_an_experiment_file(
    text: str, wrong: str, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n", encoding="utf-8")
    run = tmp_path / "run"
    assert command("emodet.train", "--config-dir", str(tmp_path), "experiment=mine", f"hydra.run.dir={run}") != 0
    said = capfd.readouterr()
    assert wrong in said.err + said.out
    assert not run.exists()


def test_an_experiment_of_ones_own_is_found(
    command: Command, small: list[str], tmp_path: Path, without_pictures: None
) -> None:
    (tmp_path / "experiment").mkdir()
    text = "defaults:\n  - ferplus\n  - _self_\ntrainer: {max_epochs: 2}\ntraining: {resolutions: []}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}", encoding="utf-8")
    run = tmp_path / "run"
    arguments = ["--config-dir", str(tmp_path), "experiment=mine", *small, f"hydra.run.dir={run}"]
    assert command("emodet.train", *arguments) == 0
    assert "name: mine" in (run / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("choice", ["data=[synthetic,ferplus]", "net=[residual_cnn,timm]"])
def test_two_choices_in_a_group_of_one_are_refused(
    choice: str, command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Hydra would silently take the last."""
    assert command("emodet.train", "experiment=baseline", choice, f"hydra.run.dir={tmp_path}") == 2
    assert f"error: {choice}: one choice was expected" in capfd.readouterr().err


def test_only_what_was_set_is_passed_on() -> None:
    config = OmegaConf.structured(TrainConfig)
    assert to_plain_dict(config)["data"] == {}
    assert to_plain_dict(config)["trainer"] == {}
    merged = OmegaConf.merge(config, {"trainer": {"max_epochs": 3}, "net": {"channels": [1, 2]}})
    assert to_plain_dict(merged)["trainer"] == {"max_epochs": 3}
    assert type(to_plain_dict(merged)["net"]["channels"]) is list


def test_the_configuration_is_found() -> None:
    assert (Path(conf_folder()) / "train.yaml").is_file()
