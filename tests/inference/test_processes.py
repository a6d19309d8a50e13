"""Many inputs in several processes: lists and Parquet, runs that are killed and resumed, worker processes that die."""

import functools
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made_commands import wait_for
from made_files import json_lines, put_text
from made_videos import moving_face, write_video
from PIL import Image

from emodet.errors import EmodetError
from emodet.files import claimed
from emodet.inference.batch import Batch
from emodet.inference.bulk import recognise_bulk
from emodet.inference.detectors import WholePicture
from emodet.inference.processes import recognise_in_processes
from emodet.inference.recognizer import Recognizer
from emodet.inference.sources import find_sources

DEADLY = 250  # brightness of a picture that ends the process of `Fragile`


class Fragile(WholePicture):
    def __call__(self, image_rgb, *, longest_side=0, min_score=None):
        if image_rgb.mean() >= DEADLY:
            os._exit(9)
        return super().__call__(image_rgb)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        Image.new("RGB", (40, 40), (6 * number, 99, 240 - 6 * number)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def predict(predict):
    return functools.partial(predict, detector="none")


def rows_of(folder):
    return sorted(json_lines((folder / "faces.jsonl").read_text()), key=lambda row: row["source"])


def labels(folder):
    return [(row["source"], row["emotion"]) for row in rows_of(folder)]


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="pipes have no path here")  # noqa: PTH110
def test_lists_and_pictures_from_a_pipe(predict, pictures, tmp_path):
    gif = tmp_path / "moving.gif"
    read, write = os.pipe()
    with os.fdopen(write, "w") as lines, ThreadPoolExecutor(1) as pool:
        Image.new("RGB", (40, 40)).save(gif, save_all=True, append_images=[Image.new("RGB", (40, 40), "red")])
        names = [f"{gif}\n", *(f"missing/{number:060}.jpg\n" for number in range(5000))]
        pool.submit(lambda: (lines.writelines(names), lines.close()))
        err = predict(f"@/dev/fd/{read}", "--workers", "2")[2]
    os.close(read)
    assert "1 of 5001 inputs done" in err
    assert f"note: {gif}: contains several images" in err
    status, _, err = predict(pictures / "00.png", "-", "--workers", "2", "--rows", "jsonl")
    assert (status, "--workers 1" in err) == (2, True)


@pytest.mark.slow
def test_several_processes_give_the_rows_of_one(predict, pictures, tmp_path):
    names = sorted(pictures.iterdir())
    file = put_text(tmp_path / "paths.txt", *map(str, [*names[:20], "missing.jpg", *names[20:], names[0], ""]))
    assert predict(pictures, "--output", tmp_path / "one")[0] == 0
    status, _, err = predict(f"@{file}", "--output", tmp_path / "two", "--workers", "2")
    assert status == 1
    assert sum("missing.jpg" in line for line in err.splitlines() if line.startswith("error: ")) == 1
    assert "40 of 41 inputs done" in err
    assert labels(tmp_path / "one") == labels(tmp_path / "two")
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert (summary["inputs"], summary["failed"], summary["faces"]) == (41, 1, 40)
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"image": [{"bytes": path.read_bytes(), "path": path.name} for path in names]})
    parquet.write_table(table, tmp_path / "faces.parquet", row_group_size=35)
    assert predict(tmp_path / "faces.parquet", "--output", tmp_path / "three", "--workers", "2")[0] == 0
    one, three = (sorted(row["emotion"] for row in rows_of(tmp_path / name)) for name in ("one", "three"))
    assert one == three
    # Only what failed is tried again.
    status, _, err = predict(f"@{file}", "--output", tmp_path / "two", "--resume")
    assert status == 1
    assert "0 of 1 input done" in err
    assert labels(tmp_path / "one") == labels(tmp_path / "two")


def test_a_resumed_run_drops_half_a_row_and_refuses_other_settings(predict, pictures, tmp_path):
    found = tmp_path / "found"
    assert predict(f"{pictures}/1*", "--output", found, "--rows", "csv", "--resume")[0] == 0
    assert predict(f"{pictures}/0*", "--output", found, "--rows", "csv")[0] == 0  # replaces the rows and their progress
    for name, text in (("faces.csv", "half a ro"), ("progress.jsonl", '{"size": 99')):
        with (found / name).open("a") as file:
            file.write(text)
    status, _, err = predict(pictures, "--output", found, "--rows", "csv", "--resume")
    assert status == 0
    assert "10 inputs done earlier" in err
    lines = (found / "faces.csv").read_text().splitlines()
    assert len(lines) == 41
    assert len({line.partition(",")[0] for line in lines[1:]}) == 40
    for options, said in ((("csv", "--min-confidence", "0.5"), "min_confidence=0.5"), (("jsonl",), "faces.jsonl")):
        status, _, err = predict(pictures, "--output", found, "--resume", "--rows", *options)
        assert (status, said in err) == (2, True)
    assert len((found / "faces.csv").read_text().splitlines()) == 41
    # Stopped before its first row it begins again.
    progress = found / "progress.jsonl"
    progress.write_text(progress.read_text().splitlines(keepends=True)[0])
    assert predict(pictures, "--output", found, "--rows", "csv", "--resume")[0] == 0
    assert (found / "faces.csv").read_text().splitlines() == lines
    for spoil in (lambda: progress.write_text(""), progress.unlink):
        spoil()
        status, _, err = predict(pictures, "--output", found, "--rows", "csv", "--resume")
        assert (status, "progress.jsonl" in err) == (2, True)
    with claimed(found, "--output"):
        status, _, err = predict(pictures, "--output", found, "--rows", "csv")
    assert (status, "another run" in err) == (2, True)
    assert (found / "faces.csv").read_text().splitlines() == lines


def test_parquet_columns_of_paths_and_of_images(predict, pictures, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = sorted(map(str, pictures.iterdir()))[:3]
    coded = pyarrow.array(names).dictionary_encode()
    images = [(pictures / "00.png").read_bytes(), None, b"no image"]
    nested = [{"bytes": data, "path": None} for data in images]
    table = pyarrow.table({"file": coded, "image": images, "nested": nested, "label": [1, 2, 3]})
    file = tmp_path / "faces.parquet"
    parquet.write_table(table, file, row_group_size=2)
    status, out, _ = predict(file, "--column", "file", "--rows", "jsonl")
    assert (status, [json.loads(line)["source"] for line in out.splitlines()]) == (0, names)
    for column in ("image", "nested"):
        status, out, err = predict(file, "--column", column, "--rows", "jsonl")
        assert (status, [json.loads(line)["source"] for line in out.splitlines()]) == (1, [f"{file}#0"])
        assert f"{file}#1" in err
        assert f"{file}#2" in err
    for column in ([], ["--column", "label"]):
        status, _, err = predict(file, *column)
        assert status == 1
        assert "--column (file, image, nested)" in err


def in_two_processes(source, model_path, found):
    command = [sys.executable, "-m", "emodet.predict", str(source), "--model", str(model_path), "--detector", "none"]
    return [*command, "--output", str(found), "--workers", "2", "--resume"]


@pytest.mark.slow
def test_a_killed_run_is_resumed(model_path, pictures, tmp_path):
    names = []
    for number in range(400):
        names.append(tmp_path / f"{number}.png")
        names[-1].write_bytes((pictures / f"{number % 40:02}.png").read_bytes())
    file, found = put_text(tmp_path / "paths.txt", *map(str, names)), tmp_path / "found"
    command = in_two_processes(f"@{file}", model_path, found)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    progress = found / "progress.jsonl"
    wait_for(lambda: progress.exists() and progress.read_text().count("\n") >= 3)
    children = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True).stdout
    process.kill()
    process.wait()
    done = progress.read_text().count('"size"')
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children.split()))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    earlier = int(result.stderr.partition("resumed: ")[2].partition(" ")[0])
    assert earlier >= 16 * done > 0
    assert [row["source"] for row in rows_of(found)] == sorted(map(str, names))


@pytest.mark.slow
def test_a_picture_that_ends_its_process_is_an_error_and_the_others_are_done(model_path, pictures, tmp_path, capsys):
    deadly = tmp_path / "deadly.png"
    Image.new("RGB", (40, 40), (255, 255, 255)).save(deadly)
    batch = Batch(Recognizer(model_path, detector=Fragile(), threads=1), None)
    sources = find_sources([str(pictures / "0*"), str(deadly), str(pictures / "1*")])
    finished = [done for results in recognise_in_processes(batch, sources, 2) for done in results]
    assert {done.counts.name for done in finished if done.counts.error} == {str(deadly)}
    assert sum(done.counts.faces for done in finished) == 20
    assert "worker process died" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_videos_are_shared_among_processes_and_a_signal_stops_them(model_path, tmp_path, number):
    frames = [np.full((64, 64, 3), 9 * step, dtype=np.uint8) for step in range(20)]
    for name in "abc":
        write_video(tmp_path / f"{name}.avi", frames)
    found = tmp_path / "found"
    command = [*in_two_processes(tmp_path, model_path, found), "--annotate"]
    assert subprocess.run(command, check=False).returncode == 0
    assert len(rows_of(found)) == 60
    assert len(list(found.glob("*.timeline.png"))) == 3
    write_video(tmp_path / "long.avi", moving_face(np.zeros((512, 512, 3), dtype=np.uint8), 12_000, step=(0, 0)))
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: [file for file in found.glob(".long.annotated*") if file.stat().st_size])
    os.kill(process.pid, number) if number == signal.SIGTERM else os.killpg(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in err
    assert "leaked" not in err
    assert not list(found.glob(".*"))
    assert len(rows_of(found)) == 60


# Pictures to rows with Ray Data.


def test_ray_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EmodetError, match=r"emodet\[cluster\]"):
        recognise_bulk(["a.png"], tmp_path / "rows")


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(model_path, tmp_path):
    ray, parquet = pytest.importorskip("ray"), pytest.importorskip("pyarrow.parquet")
    killed = tmp_path / "killed"

    class Fragile(WholePicture):
        def __call__(self, image_rgb, *, longest_side=0, min_score=None):
            if image_rgb[0, 0, 0] == 90 and not killed.exists():
                killed.touch()
                os._exit(9)
            return super().__call__(image_rgb)

    paths = [str(tmp_path / f"{number:02}.png") for number in range(30)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40, 40), (6 * number, 99, 150)).save(path)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        recognise_bulk(
            [*paths, "missing.png"], tmp_path / "rows", batch_size=4, model=str(model_path), detector=Fragile()
        )
    finally:
        ray.shutdown()
    rows = parquet.read_table(tmp_path / "rows").to_pylist()
    assert killed.exists()
    assert sorted(row["source"] for row in rows) == sorted([*paths, "missing.png"])
    assert ["missing.png" in (row["error"] or "") for row in rows if row["source"] == "missing.png"] == [True]
