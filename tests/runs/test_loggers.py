"""Loggers: CSV always; Weights & Biases never asks, never waits for long, never stops a run."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from emodet.errors import EmodetError
from emodet.runs import loggers
from emodet.runs.loggers import build_loggers, close_loggers


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def settings(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "project": "emodet", **more}


def test_csv_is_always_there_and_each_attempt_has_its_own(tmp_path: Path) -> None:
    (logger,) = build_loggers(settings("csv"), tmp_path, "run", 3)
    assert isinstance(logger, CSVLogger)
    assert logger.log_dir == str(tmp_path / "csv" / "3")


def test_an_unknown_name() -> None:
    with pytest.raises(EmodetError, match=r"logger\.name='tensorboard': there are csv, wandb"):
        build_loggers(settings("tensorboard"), Path(), "run", 0)


def test_without_wandb_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        EmodetError, match=r"logger=wandb needs wandb: pip install 'emodet\[train\]', or use logger=csv"
    ):
        build_loggers(settings("wandb"), tmp_path, "run", 0)


def test_without_credentials_it_is_offline_and_says_how_to_send_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with caplog.at_level(logging.INFO):
        csv, wandb = build_loggers(settings("wandb", tags=["a"]), tmp_path, "name of the run", 0)
    assert isinstance(csv, CSVLogger)
    assert isinstance(wandb, WandbLogger)
    assert wandb._offline
    said = [record.getMessage() for record in caplog.records if "wandb sync" in record.getMessage()]
    assert len(said) == 1
    assert str(tmp_path / "wandb") in said[0]


class Unreachable:
    """What wandb does without a network: it raises its own kind of error after a while."""

    built: list[dict[str, Any]]

    def __init__(self, **arguments: Any) -> None:
        self.built.append(arguments)

    @property
    def experiment(self) -> None:
        raise RuntimeError("Error communicating with wandb process")


@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_with_credentials_but_no_network_it_goes_on_offline(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "0" * 40, encoding="utf-8")
        (tmp_path / ".netrc").chmod(0o600)
    Unreachable.built = []
    monkeypatch.setattr(loggers, "WandbLogger", Unreachable)
    build_loggers(settings("wandb"), tmp_path, "run", 0)
    online, offline = Unreachable.built
    assert not online.get("offline")
    assert online["settings"].init_timeout <= 30
    assert offline["offline"]
    assert "logged offline" in caplog.text


def test_disabled_stays_disabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb = pytest.importorskip("wandb")
    built = build_loggers(settings("wandb"), tmp_path, "run", 0)
    assert isinstance(built[1], WandbLogger)
    assert built[1].experiment.disabled
    assert wandb.run is not None
    close_loggers(built)
    assert wandb.run is None  # or the next training of this process would log into it
    wandb.teardown()  # it remembers the environment of its first use
