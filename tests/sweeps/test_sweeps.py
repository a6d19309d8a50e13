"""`python -m emodet.train --multirun`, as a user would type it, one run after the other in this process."""

import csv
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from emodet import train
from emodet.commands import conf_folder, share_of_cores, workers_beside
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.training.folder import RunFolder
from emodet.sweeps.extras import require_extras
from emodet.sweeps.study import open_study

Command = Callable[..., int]
BRIEF = ["experiment=affectnet_yolo", "trainer.precision=32-true", "logger=csv", "callbacks=[default]"]
# What the shipped search would vary, and these do not.
FIXED = ["augmentation=none", "net.head_dropout=0.1", "optimizer.weight_decay=0.01"]


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_one_run_that_fails_is_named_and_ends_no_other(
    command: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], without_pictures: None
) -> None:
    arguments = [*BRIEF, *small, "trainer.max_epochs=1", "data.classes=8,7", "loss.class_weights=[1,1,1,1,1,1,1,1]"]
    assert command("emodet.train", "-m", *arguments, "sweep=seeds", "seed=4,5", f"hydra.sweep.dir={tmp_path}") == 1
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert "run 1 did not finish: loss.class_weights=[1, 1, 1, 1, 1, 1, 1, 1]: 8 weights for 7 classes" in said.err
    assert f"comparison:  {tmp_path / 'comparison.html'}" in said.out
    assert [(run["run"], run["state"], run["seed"], run["data.classes"]) for run in table(tmp_path, "runs.csv")] == [
        ("0", "finished", "4", "8"),
        ("1", "failed", "4", "7"),
        ("2", "finished", "5", "8"),
        ("3", "failed", "5", "7"),
    ]
    first, second = table(tmp_path, "comparison.csv")
    assert (first["data.classes"], first["seeds"], second["seeds"]) == ("8", "2", "0")
    values = [RunFolder(tmp_path / job).facts()["selected"]["value"] for job in ("0", "2")]
    assert float(first["mean"]) == pytest.approx(sum(values) / 2, abs=1e-6)
    assert "8 weights for 7 classes" in (tmp_path / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.learning_rate=1,2"], "learning_rate"),
        (["+optimizer.learning_rate=1,2"], "optimizer.learning_rate: there is no such key"),
        (["optimizer.lr=0.1,fast"], "fast"),
        (["data.root=/nowhere/a,/nowhere/b"], "/nowhere/a"),
        (["launcher=telepathy"], "telepathy"),
        (["sweep=optuna", "augmentation=choice(light,brutal)"], "brutal"),
        (["sweep=optuna", "seed=1,2"], "seed: a search takes one seed"),
        (["sweep=optuna", *FIXED, "optimizer.lr=0.1", "loss.label_smoothing=0.1"], "nothing to search in"),
        (["sweep=optuna", "sweep.pruner.percentile=200"], "sweep.pruner="),
        (["sweep=optuna", "training.monitor=val/loss"], "the loss is another one in each trial"),
    ],
)
def test_what_makes_no_sense_stops_before_the_first_run(
    arguments: list[str],
    message: str,
    command: Command,
    small: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    sweep = tmp_path / "sweep"
    assert command("emodet.train", "-m", *BRIEF, *small, *arguments, f"hydra.sweep.dir={sweep}") in (1, 2)
    said = capfd.readouterr()
    assert message in said.out + said.err
    assert "Traceback" not in said.err
    assert not list(sweep.glob("[0-9]*"))


def at_epoch(monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[EmotionClassifier], None]) -> None:
    monkeypatch.setattr(
        EmotionClassifier, "on_train_epoch_start", lambda self: do(self) if self.current_epoch == number else None
    )


@pytest.mark.slow
def test_a_sweep_that_is_stopped_compares_what_there_is(
    command: Command,
    small: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    without_pictures: None,
) -> None:
    def stop_the_second(classifier: EmotionClassifier) -> None:
        if (tmp_path / "1").is_dir():
            os.kill(os.getpid(), signal.SIGTERM)

    at_epoch(monkeypatch, 1, stop_the_second)
    before = signal.getsignal(signal.SIGTERM)
    arguments = [*BRIEF, *small, "seed=0,1,2", f"hydra.sweep.dir={tmp_path}"]
    assert command("emodet.train", "-m", *arguments) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert [run["state"] for run in table(tmp_path, "runs.csv")] == ["finished", "interrupted", "not started"]
    assert "stopped by SIGTERM" in (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert not (tmp_path / ".stop").exists()
    assert (tmp_path / "1" / "checkpoints" / "last.ckpt").is_file()
    # What was cut off can be gone on with, and compared again.
    monkeypatch.undo()
    assert command("emodet.train", f"resume={tmp_path / '1'}") == 0
    assert command("emodet.compare", str(tmp_path)) == 0
    assert [run["state"] for run in table(tmp_path, "runs.csv")] == ["finished", "finished", "not started"]


def test_runs_of_a_sweep_share_a_group_in_the_tracker(
    command: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    opened: list[tuple[str, str]] = []
    original = train.build_loggers

    def build(settings: Any, run: RunFolder, name: str) -> Any:
        opened.append((settings["group"], name))
        return original({**settings, "name": "csv"}, run, name)

    monkeypatch.setattr("emodet.training.loggers.build_loggers", build)
    sweep = tmp_path / "ferplus" / "monday_sweep"
    arguments = [*BRIEF, *small, "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={sweep}"]
    assert command("emodet.train", "-m", *arguments) == 0
    assert opened == [("ferplus/monday_sweep", f"affectnet_yolo/{number}") for number in (0, 1)]


# The search.

SEARCH = [
    *("sweep=optuna", "sweep.startup_trials=2", "sweep.pruner={percentile:0,startup_trials:1,warmup_epochs:0}"),
    *("training.monitor=val/nll", *FIXED, "optimizer.lr=tag(log,interval(1e-4,1e-2))"),
]


@pytest.fixture(scope="module")
def searched(command_once: Command, small: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four trials whose second fails; all that do not beat the best so far are to end early."""
    folder = tmp_path_factory.mktemp("search") / "sweep"
    original = train.build_classifier

    def build(settings: Any, data: Any) -> EmotionClassifier:
        if settings["sweep"]["trial"] == 1:
            raise EmodetError("made to fail")
        return original(settings, data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("emodet.training.assembly.build_classifier", build)
        patched.setattr("emodet.evaluation.reporting.write_report", lambda *_, **__: None)
        patched.setattr("emodet.evaluation.curves.plot_curves", lambda *_, **__: None)
        arguments = [*BRIEF, *small, *SEARCH, "sweep.trials=4", f"hydra.sweep.dir={folder}"]
        assert command_once("emodet.train", "-m", *arguments) == 0
    return folder


def states(journal: Path) -> list[str]:
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    return [trial.state.name for trial in optuna.load_study(storage=storage, study_name="emodet").trials]


def test_a_failed_trial_ends_no_search_and_bad_ones_end_early(searched: Path) -> None:
    told = states(searched / "study.journal")
    assert told[:2] == ["COMPLETE", "FAIL"]
    assert "PRUNED" in told
    runs = table(searched, "runs.csv")
    assert [run["state"] for run in runs] == [
        {"COMPLETE": "finished", "FAIL": "failed", "PRUNED": "ended early"}[state] for state in told
    ]
    assert runs[1]["reason"] == "made to fail"
    assert {"optimizer.lr", "loss.label_smoothing"} <= runs[0].keys()
    assert len({run["optimizer.lr"] for run in runs}) == 4


def test_a_trial_that_ended_early_left_a_whole_folder_that_says_why(searched: Path) -> None:
    number = states(searched / "study.journal").index("PRUNED")
    run = RunFolder(searched / str(number))
    facts = run.facts()
    assert facts["ended_early"]["epoch"] == 0
    assert "val/nll up to epoch 0 is" in facts["ended_early"]["reason"]
    assert re.search(r"[12] of [12] finished trials were better", facts["ended_early"]["reason"])
    assert facts["ended_early"]["reason"] in (searched / "comparison.md").read_text(encoding="utf-8")
    assert "test" in facts["results"]
    assert run.best.is_file()
    assert (run.path / "weights.pt").is_file()


def test_the_search_is_told_what_the_runs_return(searched: Path) -> None:
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(searched / "study.journal"))
    study = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="emodet")
    assert study.direction.name == "MINIMIZE"
    first = study.trials[0]
    assert first.value == pytest.approx(RunFolder(searched / "0").facts()["selected"]["value"])
    assert sorted(first.intermediate_values) == [0, 1]
    config = yaml.safe_load((searched / "0" / "config.yaml").read_text(encoding="utf-8"))
    assert config["optimizer"]["lr"] == first.params["optimizer.lr"]
    assert (config["augmentation"]["steps"], config["net"]["head_dropout"]) == ([], 0.1)


@pytest.mark.slow
def test_a_search_goes_on_with_its_file_and_refuses_another_ones(
    searched: Path, command: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str],
    without_pictures: None,
) -> None:  # fmt: skip
    journal = tmp_path / "study.journal"
    journal.write_bytes((searched / "study.journal").read_bytes())
    told = len(states(journal))
    finished = told - 1
    common = [*BRIEF, *small, *SEARCH, f"sweep.study={journal}", f"hydra.sweep.dir={tmp_path / 'more'}"]
    assert command("emodet.train", "-m", *common, f"sweep.trials={finished + 1}") == 0
    assert f"{finished} of {finished + 1} trials are done; going on" in capfd.readouterr().out
    assert [path.name for path in (tmp_path / "more").glob("[0-9]*")] == [str(told)]
    # All trials of the study are compared, also those of the session before.
    assert len(table(tmp_path / "more", "runs.csv")) == told + 1
    # Nothing is left to do.
    assert command("emodet.train", "-m", *common, f"sweep.trials={finished + 1}") == 0
    assert len(states(journal)) == told + 1
    for other, message in (
        (["optimizer.lr=interval(0.1,0.2)"], "another search space (optimizer.lr: 0.0001 to 0.01 log, now 0.1 to 0.2)"),
        (["trainer.max_epochs=3"], "another fixed settings (trainer.max_epochs=2 before, now trainer.max_epochs=3)"),
    ):
        assert command("emodet.train", "-m", *common, *other) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "text").write_text("no study\n", encoding="utf-8")
    assert command("emodet.train", "-m", *common, f"sweep.study={tmp_path / 'text'}") == 2
    assert "not a study, its first line" in capfd.readouterr().err


@pytest.mark.slow
def test_a_trial_that_a_signal_stopped_is_queued_again(
    command: Command, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    at_epoch(monkeypatch, 1, lambda _: os.kill(os.getpid(), signal.SIGINT))
    common = [*BRIEF, *small, *SEARCH, f"sweep.study={tmp_path / 'study'}", "sweep.trials=1"]
    assert command("emodet.train", "-m", *common, f"hydra.sweep.dir={tmp_path / 'a'}") == 128 + signal.SIGINT
    assert states(tmp_path / "study") == ["FAIL", "WAITING"]
    monkeypatch.undo()
    monkeypatch.setattr("emodet.evaluation.reporting.write_report", lambda *_, **__: None)
    assert command("emodet.train", "-m", *common, f"hydra.sweep.dir={tmp_path / 'b'}") == 0
    assert states(tmp_path / "study") == ["FAIL", "COMPLETE"]
    first, second = (
        yaml.safe_load((tmp_path / folder / "config.yaml").read_text(encoding="utf-8"))["optimizer"]
        for folder in ("a/0", "b/1")
    )
    assert first == second


def test_a_study_in_use_is_refused(
    command: Command, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from emodet.sweeps.space import search_space

    space = search_space([], OverridesParser.create().parse_overrides(["optimizer.lr=interval(0.0,1.0)"]))
    file = tmp_path / "study"
    with open_study(file, space, "val/nll", lower_is_better=True, seed=0, startup_trials=None):
        arguments = [*BRIEF, *small, *SEARCH, f"sweep.study={file}", f"hydra.sweep.dir={tmp_path / 'a'}"]
        assert command("emodet.train", "-m", *arguments) == 2
    assert "another search is at work on it" in capfd.readouterr().err


# Choices that ship.


LAUNCHERS, SWEEPS = (
    sorted(file.stem for file in (Path(conf_folder()) / group).glob("*.yaml")) for group in ("launcher", "sweep")
)


@pytest.mark.parametrize(("number", "launcher"), list(enumerate(LAUNCHERS)))
def test_every_choice_composes(number: int, launcher: str) -> None:
    from hydra import compose, initialize_config_dir

    sweep = SWEEPS[number % len(SWEEPS)]
    if launcher.startswith("submitit"):
        pytest.importorskip("submitit")
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        arguments = ["experiment=ferplus", f"sweep={sweep}", f"launcher={launcher}", "hydra.sweep.dir=/sweep"]
        config = compose("train", arguments, return_hydra_config=True)
    assert config.sweep.at_once >= 1
    name = "OptunaSweeper" if sweep == "optuna" else "GridSweeper"
    assert config.hydra.sweeper._target_ == f"hydra_plugins.emodet_sweeps.{name}"
    assert ("basic" if launcher == "local" else launcher.split("_")[0]) in config.hydra.launcher._target_.lower()


@pytest.mark.parametrize(
    ("cores", "at_once", "threads", "workers"),
    [(2, 1, 1, 1), (2, 2, 1, 0), (2, 5, 1, 0), (8, 2, 2, 2), (64, 4, 8, 8), (64, 1, 56, 8), (1, 1, 1, 0)],
)
def test_runs_side_by_side_share_the_cores_out(
    cores: int, at_once: int, threads: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert (share_of_cores(at_once), workers_beside(at_once)) == (threads, workers)
    assert at_once > cores or at_once * (share_of_cores(at_once) + workers_beside(at_once)) <= cores


@pytest.mark.parametrize(
    ("argument", "extra"),
    [
        ("launcher=joblib", "sweep"),
        ("sweep=optuna", "sweep"),
        ("launcher=ray", "cluster"),
        ("hydra/launcher=submitit_slurm", "cluster"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    argument: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_extras(["experiment=ferplus"])
    monkeypatch.setattr("emodet.sweeps.extras.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as stop:
        require_extras(["experiment=ferplus", argument])
    assert stop.value.code == 2
    assert f"pip install 'emodet[{extra}]'" in capsys.readouterr().err


# Weights & Biases' own sweeps.

TRACKED = sorted((Path(__file__).parents[2] / "experiments" / "sweeps").glob("wandb_*.yaml"))


def values_of(parameter: dict[str, Any]) -> list[Any]:
    return list(parameter["values"]) if "values" in parameter else [parameter["min"], parameter["max"]]


@pytest.mark.parametrize("file", TRACKED, ids=lambda file: file.stem)
def test_every_line_that_a_tracker_would_start_composes(file: Path) -> None:
    from hydra import compose, initialize_config_dir

    sweep = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert sweep["command"][:4] == ["${env}", "${interpreter}", "-m", "emodet.train"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    typed = sweep["command"][4:-1]
    parameters = sweep["parameters"]
    most = max(len(values_of(each)) for each in parameters.values())
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        for turn in range(most):
            chosen = {key: values_of(each)[turn % len(values_of(each))] for key, each in parameters.items()}
            config = compose("train", [*typed, *(f"{key}={value}" for key, value in chosen.items())])
            for key, value in chosen.items():
                if "." in key or key == "seed":
                    assert OmegaConf.select(config, key) == value
    assert config.logger.name == "wandb"
    assert sweep["metric"] == {"name": config.training.monitor, "goal": "maximize"}


def test_the_plan_is_plain_json(searched: Path) -> None:
    plan = json.loads((searched / "sweep.json").read_text(encoding="utf-8"))
    assert plan["kind"] == "search"
    assert list(plan["runs"]) == ["0", "1", "2", "3"]
    assert plan["started"] <= plan["ended"]
