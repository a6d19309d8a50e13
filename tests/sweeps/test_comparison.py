"""`python -m emodet.compare`: runs grouped into configurations, means over seeds, what did not finish."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_files import csv_rows
from scipy import stats

from emodet.compare import main
from emodet.sweeps.comparison import compare_runs, mean_interval
from emodet.sweeps.runs import find_runs


def write_run(folder, overrides, curve, *, facts=None, finished=True, metric="val/accuracy", keep="best"):
    """A run folder as training leaves it, with this validation curve."""
    seed = next((int(each.removeprefix("seed=")) for each in overrides if each.startswith("seed=")), 0)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    settings = {"seed": seed, "training": {"monitor": metric}, "callbacks": {"best": {"keep": keep}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "csv" / "0").mkdir(parents=True)
    rows = [f"{epoch},{epoch * 9},{value}" for epoch, value in enumerate(curve)]
    (folder / "csv" / "0" / "metrics.csv").write_text("\n".join([f"epoch,step,{metric}", *rows, ""]))
    known = {"started": "2026-01-01T10:00:00Z", "splits": {"val": "val", "test": "test"}}
    if finished:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").touch()
        known |= {"ended": "2026-01-01T10:02:00Z", "results": {"test": {"accuracy": {"value": curve[-1] - 0.1}}}}
    (folder / "run.json").write_text(json.dumps({**known, **(facts or {})}))
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Two learning rates with two seeds each, one pruned run, one that failed, one that was killed."""
    rates = ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    for number, (rate, seed, curve) in enumerate(
        [(0, 1, [0.5, 0.6]), (0, 2, [0.5, 0.7]), (1, 1, [0.7, 0.8]), (1, 2, [0.8, 0.6])]
    ):
        write_run(tmp_path / str(number), ["data.root=/a", rates[rate], f"seed={seed}"], curve)
    write_run(tmp_path / "4", ["optimizer.lr=0.3"], [0.2], facts={"pruned": "pruned in epoch 0"})
    failed = {"failed": "the loss became nan", "left": "2026-01-01T10:01:00Z"}
    write_run(tmp_path / "5", ["optimizer.lr=9"], [], facts=failed, finished=False)
    write_run(tmp_path / "10", ["optimizer.lr=0.2", "seed=3"], [0.9], finished=False)
    return tmp_path


def test_a_finished_run_that_was_started_again_is_unfinished(tmp_path):
    """As one that was resumed for more epochs, and killed."""
    write_run(tmp_path / "0", ["a=1"], [0.5], facts={"started": "2026-01-02T10:00:00Z"})
    (tmp_path / "0" / "csv" / "old").mkdir()
    assert [run.state for run in find_runs([tmp_path])] == ["unfinished"]


def test_runs_are_listed_ranked_by_the_mean_over_seeds_and_drawn(sweep, capsys):
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
    assert [run["run"] for run in runs] == ["0", "1", "2", "3", "4", "5", "10"]
    assert [run["state"] for run in runs] == ["finished"] * 4 + ["pruned", "failed", "unfinished"]
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


def test_bad_folders_are_one_message(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path)]) == 2
    damaged = write_run(tmp_path / "0", ["a=1"], [0.5])
    (damaged / "run.json").write_text("{")
    assert main([str(tmp_path)]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("error: /")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_interval_is_students_t(values):
    mean = mean_interval("accuracy", values)
    assert mean.value == pytest.approx(np.mean(values))
    expected = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    assert mean.high - mean.value == pytest.approx(expected, abs=1e-9)
    assert mean.value - mean.low == pytest.approx(expected, abs=1e-9)
