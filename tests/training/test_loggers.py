"""Loggers: CSV always; a tracker never asks, never waits for long, never stops a run."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from emodet.errors import EmodetError
from emodet.training import wandb_tracker
from emodet.training.folder import RunFolder
from emodet.training.loggers import build_loggers, close_loggers
from emodet.training.tensorboard_tracker import TensorBoardTracker
from emodet.training.wandb_tracker import WandbTracker


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC", "WANDB_BASE_URL", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    # It starts a process of wandb's for each log.
    monkeypatch.setattr(wandb_tracker, "_ends_early", lambda _: False)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """wandb remembers the environment of its first use."""
    yield
    import wandb

    wandb.teardown()


def settings(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "project": "emodet", **more}


def test_csv_is_always_there_and_each_attempt_has_its_own(tmp_path: Path) -> None:
    for attempt in range(2):
        (logger,) = build_loggers(settings("csv"), RunFolder(tmp_path), "run")
        assert isinstance(logger, CSVLogger)
        assert logger.log_dir == str(tmp_path / "csv" / str(attempt))
        logger.log_metrics({"val/accuracy": 0.5}, 1)
        logger.save()


def test_an_unknown_name() -> None:
    with pytest.raises(EmodetError, match=r"logger\.name='mlflow': there are csv, wandb, tensorboard"):
        build_loggers(settings("mlflow"), RunFolder(Path()), "run")


def test_without_wandb_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        EmodetError, match=r"logger=wandb needs wandb: pip install 'emodet\[train\]', or use logger=csv"
    ):
        build_loggers(settings("wandb"), RunFolder(tmp_path), "run")


def test_without_tensorboard_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emodet.training.tensorboard_tracker.find_spec", lambda _: None)
    with pytest.raises(EmodetError, match=r"logger=tensorboard needs tensorboard: pip install 'emodet\[tensorboard\]'"):
        build_loggers(settings("tensorboard"), RunFolder(tmp_path), "run")


def test_without_credentials_it_is_offline_and_says_how_to_send_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    run = RunFolder(tmp_path)
    with caplog.at_level(logging.INFO):
        built = build_loggers(settings("wandb", tags=["a"]), run, "name of the run")
        assert isinstance(built[0], CSVLogger)
        assert isinstance(built[1], WandbTracker)
        assert built[1].experiment.offline
        assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))
        close_loggers(built)
    assert "WANDB_DATA_DIR" not in os.environ
    said = [record.getMessage() for record in caplog.records if "wandb sync" in record.getMessage()]
    assert len(said) == 1
    folder = Path(said[0].split()[-1])
    assert folder.is_relative_to(tmp_path / "wandb")
    assert list(folder.glob("run-*.wandb"))
    assert run.facts()["wandb"] == {"id": folder.name.split("-")[-1], "project": "emodet", "url": None}


class Recorded(WandbTracker):
    """What it was made with; online it finds no network, as wandb finds it: with an error of its own after a while."""

    made: list[dict[str, Any]]

    def __init__(self, folder: Path, run_id: str, *, offline: bool, **arguments: Any) -> None:
        self.made.append({"offline": offline, "run_id": run_id, **arguments})
        super().__init__(folder, run_id, offline=True, **{**arguments, "settings": None})
        self.reachable = offline

    def start(self) -> None:
        if not self.reachable:
            raise RuntimeError("Error communicating with wandb process")
        super().start()


@pytest.mark.parametrize("where", ["environment", "netrc", "another service"])
def test_with_credentials_but_no_network_it_goes_on_offline(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, forgotten: None
) -> None:
    pytest.importorskip("wandb")
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        host = "api.wandb.ai" if where == "netrc" else "wandb.example"
        if where != "netrc":
            monkeypatch.setenv("WANDB_BASE_URL", f"https://{host}")
        (tmp_path / ".netrc").write_text(f"machine {host} login user password " + "0" * 40, encoding="utf-8")
        (tmp_path / ".netrc").chmod(0o600)
    Recorded.made = []
    monkeypatch.setattr(wandb_tracker, "WandbTracker", Recorded)
    built = build_loggers(settings("wandb"), RunFolder(tmp_path), "run")
    close_loggers(built)
    online, offline = Recorded.made
    assert not online["offline"]
    assert online["settings"]["init_timeout"] <= 30
    assert online["settings"]["finish_timeout"] > 0  # or it would wait for ever for a network that went away
    assert offline["offline"]
    assert online["run_id"] == offline["run_id"]
    assert "logged offline" in caplog.text


def test_credentials_of_another_service_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "0" * 40, encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_tracker._has_credentials()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert not wandb_tracker._has_credentials()


def test_a_run_that_is_continued_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    pytest.importorskip("wandb")
    Recorded.made = []
    monkeypatch.setattr(wandb_tracker, "WandbTracker", Recorded)
    run = RunFolder(tmp_path)
    for name in ("wandb", "wandb", "another project"):
        project = "emodet" if name == "wandb" else name
        close_loggers(build_loggers(settings("wandb", project=project) | {"name": "wandb"}, run, "run"))
    first, second, third = (made["run_id"] for made in Recorded.made)
    assert first == second != third
    monkeypatch.setenv("WANDB_RUN_ID", "chosen-by-a-sweep")
    close_loggers(build_loggers(settings("wandb"), run, "run"))
    assert Recorded.made[-1]["run_id"] == "chosen-by-a-sweep"


def test_disabled_stays_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb = pytest.importorskip("wandb")
    built = build_loggers(settings("wandb"), RunFolder(tmp_path), "run")
    assert isinstance(built[1], WandbTracker)
    assert built[1].experiment.disabled
    assert wandb.run is not None
    close_loggers(built)
    assert wandb.run is None  # or the next training of this process would log into it


def test_what_a_tracker_does_not_take_is_said_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    _, tracker = build_loggers(settings("tensorboard"), RunFolder(tmp_path), "run")
    assert isinstance(tracker, TensorBoardTracker)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "events.out")

    monkeypatch.setattr(tracker.experiment, "add_scalar", full)
    monkeypatch.setattr(tracker.experiment, "add_text", full)
    for step in range(3):
        tracker.log_metrics({"val/loss": 1.0}, step)
    tracker.describe({"seed": 1})
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "TensorBoard did not take metrics (OSError: No space left on device); the run goes on",
        "TensorBoard did not take the configuration (OSError: No space left on device); the run goes on",
    ]
