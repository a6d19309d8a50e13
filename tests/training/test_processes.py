"""Two processes train as one run: figures, folder, stopping, failing, and going on with another number of them."""

import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from measured_metrics import measured
from started_processes import HERE, start_two
from test_resuming import assert_same_end, checkpoint, curves

from emodet.errors import EmodetError
from emodet.training.processes import Processes, fair_share

CONDUCTED = [str(HERE / "conducted_training.py")]
TRAIN = [
    *("experiment=ferplus", "training.progressive_sizes=[]", "trainer.check_val_every_n_epoch=1"),
    *("trainer.precision=32-true", "callbacks.ema.decay=0.9"),
]
BOTH = [*TRAIN, "trainer.strategy=ddp", "trainer.devices=2"]


def faces_by_epoch(records: Path) -> dict[int, list[int]]:
    """The faces of all processes' batches."""
    faces: dict[int, list[int]] = {}
    for file in records.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            epoch, _, index = json.loads(line)
            faces.setdefault(epoch, []).extend(index)
    return faces


# The same figures.


@pytest.mark.slow
def test_two_processes_measure_what_one_does_to_the_last_bit(
    command: Any, small: list[str], release: Path, tmp_path: Path, without_pictures: None
) -> None:
    """24 faces in batches of 11: the first process has a batch more than the second has faces for."""
    assert command("emodet.train", *small, *TRAIN, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}") == 0
    best = tmp_path / "checkpoints" / "best.ckpt"
    config = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    data = {
        "root": str(release),
        "packs": config["data"]["packs"],
        "preprocessing": {key: value for key, value in config["preprocessing"].items() if value is not None},
        "reader": "yolo",
        "num_workers": 0,
        "eval_batch_size": 11,
    }
    one = measured(best, data, {"accelerator": "cpu", "devices": 1})
    settings = {**data, "trainer": {"accelerator": "cpu", "strategy": "ddp", "devices": 2}}
    both = start_two([str(HERE / "measured_metrics.py"), str(best)], [json.dumps(settings)])
    assert both.statuses == [0, 0], both.error
    assert json.loads(both.out.splitlines()[-1]) == one
    assert {"val/loss", "val/nll", "val/calibration_error", "test/macro_f1", "test/recall/fear"} <= one.keys()


@pytest.mark.slow
def test_two_processes_measure_valence_and_arousal_as_one_does(small: list[str], tmp_path: Path) -> None:
    """A third of the faces that they measure on is not annotated; and two train together."""
    from emodet.synthetic.releases import write_release

    root = write_release(tmp_path / "release", "affectnet_csv", {"train": 64, "val": 24}, size=48)
    listed = root / "Manually_Annotated_file_lists" / "validation.csv"
    rows = [line.split(",") for line in listed.read_text().splitlines()]
    listed.write_text("\n".join(",".join(row if n % 3 else [*row[:-2], "-2", "-2"]) for n, row in enumerate(rows, 1)))
    run = tmp_path / "run"
    annotated = [*small, "data=affectnet", f"data.root={root}", f"data.packs={tmp_path / 'packs'}", "logger=csv"]
    arguments = ["experiment=affectnet_va", *annotated, "trainer.max_epochs=1", "trainer.precision=32-true"]
    trained = start_two(["-m", "emodet.train"], [*arguments, *BOTH[-2:], f"hydra.run.dir={run}"])
    assert trained.statuses == [0, 0], trained.error
    best = run / "checkpoints" / "best.ckpt"
    data = {
        "root": str(root),
        "packs": str(tmp_path / "packs"),
        "preprocessing": {"size": 48},
        "num_workers": 0,
        "eval_batch_size": 11,
    }
    one = measured(best, data, {"accelerator": "cpu", "devices": 1})
    settings = {**data, "trainer": {"accelerator": "cpu", "strategy": "ddp", "devices": 2}}
    both = start_two([str(HERE / "measured_metrics.py"), str(best)], [json.dumps(settings)])
    assert both.statuses == [0, 0], both.error
    assert json.loads(both.out.splitlines()[-1]) == pytest.approx(one, abs=1e-6)
    assert {"val/ccc_valence", "val/rmse_arousal", "test/ccc_arousal", "test/sagr_valence"} <= one.keys()


@pytest.mark.slow
def test_lightning_starts_the_second_process_of_one_run(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder, one tracked run, one preparation; the curve holds what the best checkpoint gives in one process."""
    run, packs = tmp_path / "run", tmp_path / "packs"
    arguments = [*small, *BOTH, "logger=wandb", "loss.class_weights=balanced", "data.evaluation_batch_size=11"]
    done = subprocess.run(
        [sys.executable, "-m", "emodet.train", *arguments, f"data.packs={packs}", f"hydra.run.dir={run}"],
        **{"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True, "timeout": 900},
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("preparing") == 1
    assert "Warning" not in done.stderr
    assert "sync_dist" not in done.stderr
    assert len(list(packs.iterdir())) == 1
    assert [file.name for file in run.glob("*.log")] == ["train.log"]
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    assert len(list(run.glob("csv/*"))) == 1
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert facts["batch"] == {"processes": 2, "per_process": 8}
    assert checkpoint(run)["global_step"] == 8  # two epochs of 72 faces, 16 a step
    alone = facts["results"]["val"]
    best = max((row for row in curves(run) if "val/accuracy" in row), key=lambda row: float(row["val/accuracy"]))
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        assert float(best[f"val/{name}"]) == pytest.approx(alone[name]["value"], abs=1e-7)


# Stopping and going on.


@pytest.mark.slow
def test_stopped_by_a_signal_to_one_of_two_and_continued_equals_uninterrupted(small: list[str], tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    arguments = [*small, *BOTH, "data.sampling=balanced", "scheduler=onecycle"]
    assert start_two(CONDUCTED, [*arguments, f"hydra.run.dir={whole}"]).statuses == [0, 0]
    stopped = start_two(
        CONDUCTED, [*arguments, f"hydra.run.dir={run}"], {"at": [1, 0, 1], "do": int(signal.SIGTERM)}, by="srun"
    )
    assert stopped.statuses == [143, 143], stopped.error
    assert stopped.error.count("stopped by SIGTERM; continue with") == 1
    assert checkpoint(run)["global_step"] == 2
    resumed = start_two(CONDUCTED, [f"resume={run}"])
    assert resumed.statuses == [0, 0], resumed.error
    assert_same_end(whole, run)


@pytest.mark.slow
def test_two_stop_and_one_goes_on_with_the_faces_that_are_left(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    run, records = tmp_path / "run", tmp_path / "records"
    records.mkdir()
    arguments = [*small, *BOTH, f"hydra.run.dir={run}"]
    plan = {"record": str(records), "at": [0, 1, 0], "do": int(signal.SIGINT)}
    assert start_two(CONDUCTED, arguments, plan).statuses == [130, 130]
    before = checkpoint(run)
    assert (before["epoch"], before["global_step"]) == (1, 5)
    monkeypatch.setenv("CONDUCT", json.dumps({"record": str(records)}))
    program = [sys.executable, *CONDUCTED, f"resume={run}", "trainer.devices=1"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "data.batch_size=16: 1 process(es) share the run's 16 faces a step" in done.stdout
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["data"]["batch_size"] == 16
    assert checkpoint(run)["global_step"] == 8
    for faces in faces_by_epoch(records).values():
        assert len(faces) == len(set(faces)) == 64
    # The epoch that both trained counts the faces of both.
    counted = [row for row in curves(run) if "train/accuracy" in row]
    assert all((float(row["train/accuracy"]) * 64) % 1 == pytest.approx(0, abs=1e-4) for row in counted)


@pytest.mark.slow
def test_one_stops_and_two_go_on_with_the_faces_that_are_left(
    command: Any, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    run, records = tmp_path / "run", tmp_path / "records"
    records.mkdir()
    plan = {"record": str(records), "at": [0, 0, 2], "do": int(signal.SIGTERM)}
    monkeypatch.setenv("CONDUCT", json.dumps(plan))
    arguments = [sys.executable, *CONDUCTED, *small, *TRAIN, "data.batch_size=16", f"hydra.run.dir={run}"]
    assert subprocess.run(arguments, capture_output=True, timeout=900).returncode == 143
    resumed = start_two(CONDUCTED, [f"resume={run}", "trainer.devices=2"], {"record": str(records)})
    assert resumed.statuses == [0, 0], resumed.error
    assert checkpoint(run)["global_step"] == 8
    for faces in faces_by_epoch(records).values():
        assert len(faces) == len(set(faces)) == 64


# Failing.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "statuses", "message"),
    [("fail", [2, 2], "error: made to fail"), ("kill", [2, -9], "error: another process of this run ended without")],
)
def test_an_error_in_one_ends_both_with_one_message(
    what: str, statuses: list[int], message: str, small: list[str], tmp_path: Path
) -> None:
    ended = start_two(CONDUCTED, [*small, *BOTH, f"hydra.run.dir={tmp_path}"], {"at": [1, 1, 1], "do": what})
    assert ended.statuses == statuses, ended.error
    assert ended.error.count("error: ") == 1
    assert message in ended.error
    assert "Traceback" not in ended.error
    assert checkpoint(tmp_path)["epoch"] == 0


# Taking turns, in threads with a store of their own.


def meet(count: int, local: int) -> list[Processes]:
    """As many as `count` processes, `local` on a machine, without what else makes processes."""
    server = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    met: dict[int, Processes] = {}

    def join(rank: int) -> None:
        store = server if rank == 0 else torch.distributed.TCPStore("127.0.0.1", server.port, is_master=False)
        met[rank] = Processes(rank, count, rank % local, store)

    in_threads(count, join)
    return [met[rank] for rank in range(count)]


def in_threads(count: int, task: Any) -> None:
    threads = [threading.Thread(target=task, args=[rank]) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_processes_take_turns_agree_and_end_together() -> None:
    processes = meet(4, local=2)
    turns: list[list[int]] = [[], []]
    problems: dict[int, str] = {}
    left: list[int] = []

    def live(rank: int) -> None:
        process = processes[rank]
        for turn in turns:
            process.in_turn(partial(turn.append, rank))
        assert process.of_first("told", lambda: f"by {rank}") == "by 0"
        try:
            process.require_same("data set", "abc" if rank != 3 else "abd", "give all the same")
        except EmodetError as problem:
            problems[rank] = str(problem)
        process.end()
        left.append(rank)

    in_threads(4, live)
    for turn in turns:
        # The first of all, the first of the second node, then the rest.
        assert turn[:2] == [0, 2]
        assert sorted(turn[2:]) == [1, 3]
    assert problems.keys() == {3}
    assert "process 3" in problems[3]
    assert "another data set (abd) than the first process (abc): give all the same" in problems[3]
    assert sorted(left) == [0, 1, 2, 3]


def test_the_first_failure_is_the_one_that_is_told() -> None:
    processes = meet(2, local=2)
    own = EmodetError("of the second")
    assert processes[1].fail(own) is own
    told = processes[0].fail(RuntimeError("[gloo] Connection closed by peer"))
    assert isinstance(told, SystemExit)
    assert told.code == 2


def test_waiting_for_a_process_that_failed_ends() -> None:
    processes = meet(2, local=2)
    processes[0]._failure = None

    def wait() -> None:
        with pytest.raises(SystemExit):
            processes[0].all_of("never", "said by the other")
        processes[0].fail(SystemExit(2))

    waiting = threading.Thread(target=wait)
    waiting.start()
    processes[1].fail(EmodetError("x"))
    waiting.join(20)
    assert not waiting.is_alive()


def test_the_first_process_being_killed_while_it_evaluates_is_told_once() -> None:
    class Gone:
        def check(self, _keys: list[str]) -> bool:
            raise torch.distributed.DistNetworkError("Connection reset by peer")

    processes = meet(3, local=3)
    for process in processes[1:]:
        process._store = Gone()
    with pytest.raises(EmodetError, match=r"the first process of this run ended without a word.*Connection reset"):
        processes[1].end()
    with pytest.raises(SystemExit) as left:
        processes[2].end()
    assert left.value.code in (1, 2)


def test_cores_are_shared_where_they_are_the_same() -> None:
    everything = [("a", range(8)), ("a", range(8)), ("b", range(8))]
    assert [fair_share(rank, everything) for rank in range(3)] == [4, 4, 8]
    bound = [("a", [0, 1, 2, 3]), ("a", [4, 5, 6, 7])]
    assert [fair_share(rank, bound) for rank in range(2)] == [4, 4]
    assert fair_share(0, [("a", [0])] * 4) == 1
