"""A run's folder: facts merged, attempts joined."""

import csv

from made_files import csv_rows

from emodet.training.folder import RunFolder


def write_attempt(folder, number, rows):
    file = folder / "csv" / str(number) / "metrics.csv"
    file.parent.mkdir(parents=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["epoch", "step", "train/loss", "val/loss", "lr"])
        writer.writeheader()
        writer.writerows(rows)


def test_attempts_are_joined_and_the_later_row_of_a_step_stays(tmp_path):
    run = RunFolder(tmp_path)
    assert run.attempts == 0
    first = [
        {"epoch": 0, "step": 8, "train/loss": 2.0},
        {"epoch": 0, "step": 8, "val/loss": 2.1},
        {"epoch": 1, "step": 17, "train/loss": 1.5},
    ]
    write_attempt(tmp_path, 0, first)
    write_attempt(tmp_path, 2, [{"epoch": 2, "step": 26, "train/loss": 1.0}])
    write_attempt(tmp_path, 10, [{"epoch": 1, "step": 17, "train/loss": 1.4}, {"epoch": 3, "step": 100, "lr": 0.1}])
    assert run.attempts == 3
    assert csv_rows(run.merge_metrics(), empty=False) == [
        {"epoch": "0", "step": "8", "train/loss": "2.0"},
        {"epoch": "0", "step": "8", "val/loss": "2.1"},
        {"epoch": "1", "step": "17", "train/loss": "1.4"},
        {"epoch": "2", "step": "26", "train/loss": "1.0"},
        {"epoch": "3", "step": "100", "lr": "0.1"},
    ]


def test_an_attempt_that_a_kill_cut_short_is_no_obstacle(tmp_path):
    write_attempt(tmp_path, 0, [{"epoch": 0, "step": 8, "train/loss": 2.0}])
    file = tmp_path / "csv/0/metrics.csv"
    file.write_text(file.read_text(encoding="utf-8") + "1,", encoding="utf-8")
    (tmp_path / "csv/1").mkdir()
    (tmp_path / "csv/1/metrics.csv").touch()
    assert [row["step"] for row in csv_rows(RunFolder(tmp_path).merge_metrics())] == ["8"]
