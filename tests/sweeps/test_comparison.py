"""Tables and pictures of runs that ended in every way a run can end."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from made_runs import made_run

from emodet.compare import main
from emodet.errors import EmodetError
from emodet.sweeps.comparison import Comparison, compare_runs, find_runs, mean_interval
from emodet.sweeps.comparison_files import write_comparison


def compared(*folders: Path) -> Comparison:
    runs, not_started = find_runs(list(folders))
    return compare_runs(runs, not_started, "made runs")


def lr(value: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"optimizer": {"lr": value}, "seed": seed, **more}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two learning rates; of three seeds each one failed, was cut off, ended early, or never started."""
    folder = tmp_path / "sweep"
    made_run(folder / "0", [0.1, 0.5, 0.4], settings=lr(0.001, 1))
    made_run(folder / "1", [0.1, 0.6], settings=lr(0.001, 2))
    made_run(folder / "2", [0.7, 0.2], settings=lr(0.001, 3))
    made_run(folder / "3", [0.9, 0.8], settings=lr(0.01, 1))
    failed = {"failed": "the loss became nan", "left": "2026-01-01T10:01:00Z"}
    made_run(folder / "4", [0.95], settings=lr(0.01, 2), facts=failed, finished=False)
    made_run(folder / "5", [], settings=lr(0.01, 3), finished=False)
    early = {"ended_early": {"epoch": 0, "reason": "worse than the others"}}
    made_run(folder / "6", [0.3], settings=lr(0.1, 1), facts=early)
    stopped = {"interrupted": "SIGTERM", "left": "2026-01-01T10:01:00Z"}
    made_run(folder / "7", [0.35], settings=lr(0.1, 2), facts=stopped, finished=False)
    plan = {"study": None, "runs": {str(n): ["optimizer.lr=0.1", f"seed={n}"] for n in range(9)}}
    (folder / "sweep.json").write_text(json.dumps(plan), encoding="utf-8")
    return folder


def test_a_run_that_keeps_its_last_epoch_is_compared_by_it(tmp_path: Path) -> None:
    for seed, keep in enumerate(("best", "last")):
        settings = {"training": {"keep": keep}, "optimizer": {"lr": 10.0**-seed}}
        made_run(tmp_path / str(seed), [0.5, 0.9, 0.7], settings=settings)
    values = {each.label["training.keep"]: each.best_value for each in compared(tmp_path).configurations}
    assert values == {"best": 0.9, "last": 0.7}


def test_means_are_over_the_best_epochs_of_finished_runs(sweep: Path) -> None:
    comparison = compared(sweep)
    assert comparison.columns == ("optimizer.lr",)
    best, second, third = comparison.configurations
    assert [each.label["optimizer.lr"] for each in comparison.configurations] == ["0.01", "0.001", "0.1"]
    assert best.selected is not None
    assert (best.selected.value, best.selected.low, best.selected.count) == (0.9, None, 1)
    assert len(best.runs) == 3
    # Of 0.5, 0.6 and 0.7: mean 0.6, standard error 0.1 / √3, and 4.3027 is Student's t for two degrees of freedom.
    assert second.selected is not None
    assert second.selected.value == pytest.approx(0.6)
    assert second.selected.low == pytest.approx(0.6 - 4.302653 * 0.1 / 3**0.5)
    assert second.selected.high == pytest.approx(0.6 + 4.302653 * 0.1 / 3**0.5)
    assert second.best is not None
    assert second.best.folder.name == "2"
    assert second.reported["accuracy"].value == pytest.approx(0.5)
    assert third.selected is None
    assert third.best_value == 0.3


def test_every_end_has_its_name(sweep: Path) -> None:
    comparison = compared(sweep)
    assert {run.folder.name: (run.state, run.reason) for run in comparison.runs} == {
        **dict.fromkeys("0123", ("finished", "")),
        "4": ("failed", "the loss became nan"),
        "5": ("unfinished", "no end was noted: it was killed, or it is still running"),
        "6": ("ended early", "worse than the others"),
        "7": ("interrupted", "stopped by SIGTERM"),
    }
    assert [(each.folder.name, each.overrides[1]) for each in comparison.not_started] == [("8", "seed=8")]


def test_a_resumed_run_is_what_it_came_to_last(tmp_path: Path) -> None:
    times = {"failed": "no room", "left": "2026-01-01T09:00:00Z", "ended": "2026-01-01T11:00:00Z"}
    again = {"interrupted": "SIGINT", "left": "2026-01-01T09:00:00Z", "started": "2026-01-01T10:00:00Z"}
    made_run(tmp_path / "0", [0.5], facts=times)
    made_run(tmp_path / "1", [0.5], facts=again, finished=False)
    assert [run.state for run in compared(tmp_path).runs] == ["finished", "unfinished"]


def test_the_command_writes_tables_pictures_and_a_page(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep)]) == 0
    said = capsys.readouterr().out
    assert "failed: run 4: the loss became nan" in said
    assert "not started: run 8" in said
    with (sweep / "comparison.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["optimizer.lr"], row["seeds"], row["not_finished"]) for row in rows] == [
        ("0.01", "1", "2"),
        ("0.001", "3", "0"),
        ("0.1", "0", "2"),
    ]
    assert float(rows[1]["mean"]) == pytest.approx(0.6)
    assert (sweep / rows[1]["best_checkpoint"]).is_file()
    with (sweep / "runs.csv").open(newline="", encoding="utf-8") as stream:
        runs = list(csv.DictReader(stream))
    assert [run["state"] for run in runs][3:] == [
        *("finished", "failed", "unfinished", "ended early", "interrupted", "not started")
    ]
    assert (runs[0]["kept_epoch"], runs[0]["epochs"], runs[0]["seconds"]) == ("1", "3", "120")
    for name in ("comparison", "curves", "values"):
        picture = cv2.imread(str(sweep / f"{name}.png"))
        assert picture is not None
        assert picture.std() > 5
    page = (sweep / "comparison.html").read_text(encoding="utf-8")
    text = (sweep / "comparison.md").read_text(encoding="utf-8")
    for part in ("the loss became nan", "worse than the others", "stopped by SIGTERM", "0.3516 to 0.8484"):
        assert part in page
        assert part in text
    assert "http" not in page.replace("http-equiv", "")
    assert not list(sweep.glob("*unfinished*"))
    # Once more, with what was written there before.
    assert main([str(sweep)]) == 0


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    by = {"training": {"select_by": "val/nll"}}
    for number, values in enumerate(([1.2, 1.0], [0.9, 1.5])):
        made_run(tmp_path / str(number), values, settings=lr(0.1 * (number + 1), **by))
    first = compared(tmp_path).configurations[0]
    assert first.best_value == 0.9
    assert first.label == {"optimizer.lr": "0.2"}


def test_a_choice_stands_for_what_follows_from_it(tmp_path: Path) -> None:
    for number, (choice, steps, rate) in enumerate([("light", [1], 0.1), ("strong", [1, 2], 0.2), ("light", [1], 0.2)]):
        settings = lr(rate, augmentation={"steps": steps})
        made_run(tmp_path / str(number), [0.5], settings=settings, choices={"augmentation": choice})
    comparison = compared(tmp_path)
    assert comparison.columns == ("augmentation", "optimizer.lr")
    assert comparison.configurations[0].name == "augmentation=light, optimizer.lr=0.1"


def test_where_a_run_took_place_makes_no_configuration(tmp_path: Path) -> None:
    made_run(tmp_path / "0", [0.5], settings=lr(0.1, 0, threads=1, name="a", data={"root": "/a", "num_workers": 0}))
    made_run(tmp_path / "1", [0.5], settings=lr(0.1, 1, threads=8, name="b", data={"root": "/b", "num_workers": 3}))
    (configuration,) = compared(tmp_path).configurations
    assert len(configuration.finished) == 2
    assert configuration.name == "all alike"


def test_runs_of_several_folders_are_counted_once(sweep: Path, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", [0.4], settings=lr(0.5))
    comparison = compared(tmp_path, sweep, other, sweep / "0")
    assert len(comparison.runs) == 9


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda sweep: (sweep / "0" / "run.json").write_text("{"), "run.json: damaged"),
        (lambda sweep: (sweep / "sweep.json").write_text("[]"), "sweep.json: not what a sweep wrote"),
        (lambda sweep: (sweep / "0" / ".hydra" / "config.yaml").write_text("seed: [1\n"), "0: not the folder of a run"),
        (
            lambda sweep: made_run(sweep / "9", [1], settings={"training": {"select_by": "val/nll"}}),
            "selected by different metrics (val/accuracy, val/nll)",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(
    break_it: Any, message: str, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(sweep)
    assert main([str(sweep)]) == 2
    assert message in capsys.readouterr().err


def test_folders_without_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "missing")]) == 2
    assert "missing: there is no such folder" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "neither a sweep's folder nor a run's" in capsys.readouterr().err


def test_a_cut_off_row_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    run = made_run(tmp_path / "0", [0.5, 0.6], finished=False)
    with (run / "csv" / "0" / "metrics.csv").open("a", encoding="utf-8") as stream:
        stream.write("2,26,,0.")
    (outcome,) = compared(tmp_path).runs
    assert outcome.curve[:2] == ((0, 0.5), (1, 0.6))


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([0.5]).low is None
    two = mean_interval([0.5, 0.7])
    assert two.low is not None
    assert two.low == pytest.approx(0.6 - 12.7062 * 0.1, abs=1e-4)


def test_a_folder_that_cannot_be_written_is_named(sweep: Path, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(EmodetError, match="could not be made"):
        write_comparison(compared(sweep), place / "within")
