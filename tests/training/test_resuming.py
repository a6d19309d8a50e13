"""A run that was stopped and continued gives the weights, and the curves, of a run that was not."""

import csv
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from emodet.commands import conf_folder
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.training.resuming import batch_size_for, resumed_arguments

pytestmark = pytest.mark.usefixtures("without_pictures")

COMMON = [
    "experiment=ferplus",
    "training.progressive_sizes=[[0,32],[1,48]]",
    "trainer.check_val_every_n_epoch=1",
    "trainer.precision=32-true",
    "trainer.max_epochs=3",
]


def signal_at(
    monkeypatch: pytest.MonkeyPatch, hook: str, epoch: int, batch: int, number: int = signal.SIGINT, times: int = 1
) -> None:
    """Send this process a signal from within a hook of the classifier."""
    original: Callable[..., Any] = getattr(EmotionClassifier, hook)

    def hooked(self: EmotionClassifier, batch_: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (epoch, batch) and not self.trainer.sanity_checking:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(self, batch_, batch_idx)

    monkeypatch.setattr(EmotionClassifier, hook, hooked)


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def assert_equal(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


def curves(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return [{name: value for name, value in sorted(row.items()) if value} for row in csv.DictReader(stream)]


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        a, b = checkpoint(one, name), checkpoint(other, name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state", "epoch", "global_step"):
            assert_equal(a.get(key), b.get(key), f"{name}.{key}")
    weights = [torch.load(run / "weights.pt", weights_only=True) for run in (one, other)]
    assert_equal(*weights, "weights")
    assert curves(one) == curves(other)


# Nine batches an epoch. What is trained, and where it is stopped: in a hook, in an epoch, at a batch.
AVERAGED = ["scheduler=onecycle", "data.sampling=balanced"]
CASES: dict[str, tuple[list[str], list[tuple[str, int, int]]]] = {
    "averaged and balanced": (
        [*AVERAGED, "callbacks.ema.decay=0.9"],
        [("training_step", 1, 3), ("training_step", 0, 8), ("validation_step", 2, 0)],
    ),
    "workers": (
        ["scheduler=cosine", "callbacks=[default]", "data.num_workers=1"],
        [("training_step", 1, 4)],
    ),
    "plateau, validated every second epoch": (
        [
            *("scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5", "scheduler.monitor=val/accuracy"),
            *("callbacks=[default]", "trainer.check_val_every_n_epoch=2", "optimizer.lr=0.0001"),
        ],
        [("validation_step", 1, 0), ("training_step", 0, 8)],
    ),
    "accumulated gradients, several validations an epoch": (
        ["optimizer=sgd", "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=3"],
        [("training_step", 1, 0), ("training_step", 1, 2)],
    ),
}


@pytest.mark.parametrize(
    "case", [case if case == "workers" else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_stopped_and_continued_equals_uninterrupted(
    case: str, command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, places = CASES[case]
    whole = tmp_path / "whole"
    assert command("emodet.train", *small, *COMMON, *settings, f"hydra.run.dir={whole}") == 0
    for number, (hook, epoch, batch) in zip((signal.SIGTERM, signal.SIGINT, signal.SIGTERM), places, strict=False):
        run = tmp_path / f"{hook}_{epoch}_{batch}"
        with monkeypatch.context() as patched:
            signal_at(patched, hook, epoch, batch, number)
            assert command("emodet.train", *small, *COMMON, *settings, f"hydra.run.dir={run}") == 128 + number
        assert not (run / "weights.pt").exists()
        assert command("emodet.train", f"resume={run}") == 0
        assert_same_end(whole, run)


def test_stopped_twice_and_asked_for_more_epochs(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [*small, *COMMON, "scheduler=constant", "callbacks=[default]"]
    whole, run = tmp_path / "whole", tmp_path / "a run"
    assert command("emodet.train", *settings, f"hydra.run.dir={whole}") == 0
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 0, 5, signal.SIGTERM)
        assert command("emodet.train", *settings, "trainer.max_epochs=2", f"hydra.run.dir='{run}'") == 143
    assert f"stopped by SIGTERM; continue with  python -m emodet.train resume={run}" in capfd.readouterr().err
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 1, 8)  # the very last batch: nothing is left to train
        assert command("emodet.train", f"resume={run}") == 130
    assert checkpoint(run)["epoch"] == 1
    assert command("emodet.train", f"resume={run}", "trainer.max_epochs=3") == 0
    assert_same_end(whole, run)
    facts = (run / "config.yaml").read_text(encoding="utf-8")
    assert "max_epochs: 3" in facts


def test_a_second_signal_stops_at_once(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 1, 3, times=2)
        assert command("emodet.train", *small, *COMMON, f"hydra.run.dir={run}") == 130
    content = checkpoint(run)
    assert (content["epoch"], content["global_step"]) == (0, 9)  # that of the epoch before
    assert "Traceback" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_before_there_is_a_checkpoint_it_says_so(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 0, 0, times=2)
        assert command("emodet.train", *small, *COMMON, f"hydra.run.dir={tmp_path / 'run'}") == 130
    assert "stopped by SIGINT before there was a checkpoint" in capfd.readouterr().err
    assert command("emodet.train", f"resume={tmp_path / 'run'}") == 2
    assert "there is no checkpoint to resume from" in capfd.readouterr().err


def made_run(folder: Path, config: str = "name: made\nseed: 3\n") -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_the_command_line_of_a_resumed_run(tmp_path: Path) -> None:
    run = made_run(tmp_path / "a b")
    assert resumed_arguments(["seed=4"]) == ["seed=4"]
    for typed in (f"resume={run}", f"resume='{run}'"):
        assert resumed_arguments([typed, "trainer.max_epochs=9"]) == [
            *("--config-name", "resumed", "trainer.max_epochs=9"),
            *(f"resume='{run}'", f"hydra.run.dir='{run}'"),
        ]


def test_folders_that_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=r"resume=.*nowhere: not a run's folder"):
        resumed_arguments([f"resume={tmp_path / 'nowhere'}"])
    run = made_run(tmp_path / "run")
    with pytest.raises(EmodetError, match=r"trainer=ddp chooses a file of conf/trainer.* trainer\.devices=2"):
        resumed_arguments([f"resume={run}", "trainer=ddp"])
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(EmodetError, match=r"resume=.*run: there is no checkpoint to resume from .*last\.ckpt"):
        resumed_arguments([f"resume={run}"])


def test_a_resumed_run_is_not_changed_by_files_that_were_edited(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, run = tmp_path / "conf", tmp_path / "run"
    shutil.copytree(conf_folder(), conf)
    monkeypatch.setattr("emodet.commands.conf_folder", lambda: str(conf))
    with monkeypatch.context() as patched:
        signal_at(patched, "training_step", 0, 5)
        assert command("emodet.train", *small, *COMMON, "trainer.max_epochs=1", f"hydra.run.dir={run}") == 130
    before = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    (conf / "experiment" / "ferplus.yaml").unlink()
    for file, edited in (("optimizer/adamw.yaml", "lr: 9"), ("train.yaml", "size: 90")):
        text = (conf / file).read_text(encoding="utf-8")
        changed = re.sub(rf"{edited.split()[0]} .*", edited, text)
        assert changed != text
        (conf / file).write_text(changed, encoding="utf-8")
    assert command("emodet.train", f"resume={run}", "logger.project=other") == 0
    after = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert after.pop("resume") == str(run)
    assert after["logger"].pop("project") == "other"
    before.pop("resume")
    before["logger"].pop("project")
    assert after == before


def test_a_mistyped_key_is_refused_when_resuming_too(
    command: Any, small: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = made_run(tmp_path / "run")
    assert command("emodet.train", f"resume={run}", "trainer.max_epoch=9") != 0
    assert "max_epoch" in capfd.readouterr().err


BATCH = {"batch": {"processes": 2, "per_process": 16}}


@pytest.mark.parametrize(
    ("batch_size", "processes", "faces"), [(16, 2, 16), (16, 1, 32), (32, 1, 32), (16, 4, 8), (8, 4, 8)]
)
def test_a_resumed_run_keeps_its_global_batch(batch_size: int, processes: int, faces: int) -> None:
    assert batch_size_for(BATCH, batch_size, processes) == faces


def test_another_global_batch_is_refused() -> None:
    with pytest.raises(EmodetError, match=r"data.batch_size=64 on 1 .* takes 32 faces a step"):
        batch_size_for(BATCH, 64, 1)
    with pytest.raises(EmodetError, match=r"3 processes cannot share this run's 32 faces"):
        batch_size_for(BATCH, 16, 3)
    assert batch_size_for({}, 7, 3) == 7  # of a run that did not note it
