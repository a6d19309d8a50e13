import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from made_commands import wait_for
from made_files import encoded, json_lines, png_bomb, put, web_server
from made_videos import moving_face, tracks, write_damaged_video, write_video
from PIL import Image

from emodet.images import load_rgb
from emodet.inference.capture import LiveVideo
from emodet.inference.detectors import make_detector
from emodet.inference.recognizer import Recognizer
from emodet.inference.video_reader import VideoReader
from emodet.predict import main


@pytest.fixture
def photo(astronaut, tmp_path):
    return put(tmp_path / "photo.jpg", encoded(astronaut, "JPEG", quality=95))


@pytest.fixture
def video(astronaut, tmp_path):
    return write_video(tmp_path / "clip.avi", moving_face(astronaut, 15))


def test_a_photo_gives_a_line_for_each_face(predict, photo, monkeypatch):
    status, out, err = predict(photo)
    assert status == 0
    assert out.splitlines()[0] == f"{photo}:"
    assert len(out.splitlines()) == 2
    assert "1 of 1 input done, 1 frame, 1 face" in err
    assert "faces: centerface" in err
    wall = photo.with_name("wall.png")
    wall.write_bytes(encoded(np.full((200, 200, 3), 90, dtype=np.uint8)))
    assert predict(wall)[:2] == (0, f"{wall}: no face\n")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert predict(photo, "--rows", "parquet", "--output", photo.parent / "found")[0] == 0
    assert parquet.read_table(photo.parent / "found" / "faces.parquet").num_rows == 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    status, out, _ = predict("-", "--rows", "jsonl", "--quiet")
    (row,) = json_lines(out)
    assert (status, row["source"]) == (0, "-")
    assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_broken_inputs_are_named_and_the_others_recognised(predict, astronaut, photo, tmp_path):
    jpeg = encoded(astronaut, "JPEG")
    pictures = {
        "text.jpg": b"this is no picture",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "empty.png": b"",
        "pixel.png": encoded(np.zeros((1, 1, 3), dtype=np.uint8)),
        "bomb.png": png_bomb(11_000, 10_000),
    }
    folder, void = tmp_path / "broken", tmp_path / "void"
    void.mkdir()
    for name, data in pictures.items():
        put(folder / name, data)
    sources = [folder, "missing.jpg", tmp_path / "*.xyz", void, tmp_path / "text.mp4", "98", photo]
    (tmp_path / "text.mp4").write_bytes(b"this is no video")
    status, out, err = predict(*sources, "--rows", "jsonl")
    assert status == 1
    assert [row["source"] for row in json_lines(out)] == [str(photo)]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    for word in (*pictures, "missing.jpg", "*.xyz", "void", "text.mp4", "camera 98"):
        assert sum(word in line for line in errors) == 1, word
    assert "limit of 64,000,000" in err
    assert "1 of 11 inputs done" in err
    assert "Traceback" not in err
    assert predict("missing.jpg", photo, "--strict", "--rows", "jsonl")[:2] == (1, "")


def test_one_input_never_ends_a_batch(predict, astronaut, tmp_path, monkeypatch):
    """Names that no terminal takes, formats that are not read, animations, a defect of ours: counted and named."""
    folder = put(tmp_path / "album" / "photo.heic", b"\0\0\0\x18ftypheic" + bytes(200)).parent
    png = encoded(astronaut[60:180, 170:280], "PNG")
    for name in (b"caf\xe9.png", "写真".encode() * 40 + b".png", b"=1+1.png", b"notes.txt"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:  # noqa: PTH123
            file.write(png)
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    frames[0].save(folder / "party.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (99, 64)).save(folder / "defect.png")
    crop = Recognizer.crop

    def fails_at_99(self, image, detection):
        if image.shape[1] == 99:
            raise ValueError("a defect")
        return crop(self, image, detection)

    monkeypatch.setattr(Recognizer, "crop", fails_at_99)
    found = tmp_path / "found"
    status, _, err = predict(folder, "--output", found, "--annotate", "--rows", "csv", "--csv-bom", detector="none")
    assert status == 1
    assert "4 of 6 inputs done" in err
    summary = json.loads((found / "summary.json").read_text())
    failed = {Path(each["source"]).name for each in summary["sources"] if each["error"]}
    assert failed == {"photo.heic", "defect.png"}
    assert list(summary["skipped"].values()) == [[str(folder / "notes.txt")]]
    assert "first" in next(each["notes"] for each in summary["sources"] if each["source"].endswith("gif"))[0]
    rows = (found / "faces.csv").read_bytes()
    assert rows.startswith(b"\xef\xbb\xbfsource,")
    assert len(rows.splitlines()) == 5
    assert len(list(found.glob("*.annotated.jpg"))) == 4
    # A spreadsheet must not take a file's name for a formula.
    monkeypatch.chdir(folder)
    assert predict("=1+1.png", "--rows", "csv", detector="none")[1].splitlines()[1].startswith("'=1+1.png,")


def test_an_image_by_its_address_is_one_image(predict, astronaut):
    kinds = {"face": "PNG", "face.webp": "WEBP", "face.jpg?size=1": "JPEG", "a.j2k": "JPEG2000", "pnm": "PPM"}

    def answer(path):
        kind = kinds.get(path[1:])
        named = f"image/{kind.lower()}" if kind in ("WEBP", "JPEG") else "application/octet-stream"
        return kind and (named, encoded(astronaut, kind, **({"no_jp2": True} if kind == "JPEG2000" else {})))

    with web_server(answer) as web:
        for path in kinds:
            status, out, err = predict(f"http://me:secret@{web}/{path}", "--rows", "jsonl")
            (row,) = json_lines(out)
            assert (path, status, row["time_s"], row["track_id"]) == (path, 0, None, None)
            assert "secret" not in out + err
        status, _, err = predict("http://127.0.0.1:9/face.png", "", f"http://{web}/none.png", "http://[::1")
    assert status == 1
    assert "none.png: cannot be opened" in err
    assert "404" in err
    assert "http://127.0.0.1:9/face.png: could not be fetched (" in err
    assert "empty name" in err
    assert "http://[::1: not an address" in err


def test_a_password_stays_with_its_host(predict, astronaut):
    logins, sent, places = [], base64.b64encode(b"me:se cret").decode(), {"/a": ("Location", "/b")}
    with web_server(lambda path: places.get(path) or ("image/png", encoded(astronaut)), logins) as address:
        places["/b"] = ("Location", f"http://localhost:{address.rpartition(':')[2]}/face")
        assert predict(f"http://me:se%20cret@{address}/a", "--rows", "jsonl")[0] == 0
    assert logins == [f"Basic {sent}"] * 2 + [None]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_an_image_and_a_video_from_a_pipe(predict, photo, video, tmp_path):
    for file, status in ((photo, 0), (video, 1)):
        pipe = tmp_path / f"pipe-{status}"
        os.mkfifo(pipe)
        threading.Thread(target=pipe.write_bytes, args=[file.read_bytes()], daemon=True).start()
        assert predict(pipe)[0] == status


@pytest.mark.parametrize(
    ("names", "options"),
    [
        *((["a.png", "a.annotated.jpg"], ["--annotate"]), (["link.png"], ["--annotate"])),
        *((["faces.jsonl"], []), (["faces.parquet"], ["--rows", "parquet"])),  # a table
    ],
)
def test_results_never_replace_inputs(predict, photo, tmp_path, names, options):
    for name in {*names, "a.annotated.jpg"} - {"link.png"}:
        (tmp_path / name).write_bytes(photo.read_bytes())
    (tmp_path / "link.png").symlink_to(tmp_path / "link.annotated.jpg")
    (tmp_path / "link.annotated.jpg").write_bytes(photo.read_bytes())
    status, _, err = predict(*(tmp_path / name for name in names), "--output", tmp_path, *options)
    assert status == 2
    assert "--output" in err
    assert "would replace" in err
    assert (tmp_path / "a.annotated.jpg").read_bytes() == photo.read_bytes()


def test_max_pixels_can_be_raised_beyond_pillows_limit_and_lowered(predict, photo, video, monkeypatch):
    assert predict(photo, "--max-pixels", "1000")[0] == 1
    assert predict(video, "--max-pixels", "1000")[0] == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    status, _, err = predict(photo, "--max-pixels", str(512 * 512))
    assert (status, "Warning" in err) == (0, False)


def test_a_folder_of_results(predict, photo, video, tmp_path):
    found = tmp_path / "found"
    status, out, err = predict(photo, video, "--output", found, "--annotate", "--min-confidence", "0.5")
    assert (status, out) == (0, "")
    names = "clip.annotated.mp4 clip.timeline.png faces.jsonl photo.annotated.jpg progress.jsonl summary.json"
    assert sorted(str(file.relative_to(found)) for file in found.rglob("*")) == names.split()
    rows = json_lines((found / "faces.jsonl").read_text())
    assert [row["frame"] for row in rows if row["source"] == str(video)] == list(range(15))
    assert {row["track_id"] for row in rows if row["source"] == str(video)} == {1}
    annotated = cv2.VideoCapture(str(found / "clip.annotated.mp4"))
    assert annotated.get(cv2.CAP_PROP_FRAME_COUNT) == 15
    assert annotated.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert cv2.imread(str(found / "photo.annotated.jpg")).shape == (512, 512, 3)
    summary = json.loads((found / "summary.json").read_text())
    assert [source["frames"] for source in summary["sources"]] == [1, 15]
    assert 0 <= summary["coverage"] <= 1
    assert "certain: " in err
    # Results of this run are no inputs of the next, also in the inputs' own folder.
    for _ in range(2):
        assert predict(tmp_path, "--annotate", "--output", tmp_path)[0] == 0
        assert len(json.loads((tmp_path / "summary.json").read_text())["sources"]) == 2


def test_rows_and_annotated_video_have_equal_times_and_the_sound(predict, astronaut, tmp_path):
    times = [0, 0.1, 0.15, 0.9, 1.0, 1.6, 1.7, 2.5]
    source = tmp_path / "clip.mkv"
    write_video(source, moving_face(astronaut, 8), times_s=times, start_s=30, sound="aac", sound_s=4)
    assert predict(source, "--output", tmp_path / "found", "--annotate")[0] == 0
    rows = json_lines((tmp_path / "found" / "faces.jsonl").read_text())
    assert [row["time_s"] for row in rows] == pytest.approx(times, abs=0.03)
    annotated = tmp_path / "found" / "clip.annotated.mp4"
    assert [frame.time_s for frame in VideoReader(annotated)] == pytest.approx([r["time_s"] for r in rows], abs=1e-3)
    assert tracks(annotated)["aac"][1] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(("ending", "damage", "error"), [("mp4", 3000, 0), ("mkv", 40_000, 1), ("ts", 40_000, 1)])
def test_damaged_frames_are_counted_and_the_others_recognised(predict, tmp_path, ending, damage, error):
    """Matroska and MPEG-TS do not tell how many frames damage took: the gap in the times does."""
    path = write_damaged_video(tmp_path / f"clip.{ending}", 48, damage)
    status, _, err = predict(path, "--output", tmp_path / "found", detector="none")
    (source,) = json.loads((tmp_path / "found" / "summary.json").read_text())["sources"]
    assert status == 0
    assert 0 < 48 - source["frames"] < 24
    assert abs(source["damaged"] - (48 - source["frames"])) <= error
    assert f"{source['damaged']} of 48 frames are damaged or missing" in err
    rows = json_lines((tmp_path / "found" / "faces.jsonl").read_text())
    assert (len(rows), rows[-1]["time_s"]) == (source["frames"], pytest.approx(4.7, abs=0.03))


def test_no_face_is_detected_in_blurred_output(predict, photo, video, tmp_path):
    found, plain = tmp_path / "found", tmp_path / "plain"
    arguments = (photo, video, "--annotate", "--explain", "--every", "5")
    assert predict(*arguments, "--blur-faces", "--output", found)[0] == 0
    assert predict(*arguments, "--output", plain)[0] == 0
    detect, seen = make_detector("centerface", threads=1), {}
    for folder in (found, plain):
        pictures = [load_rgb(folder / "photo.annotated.jpg")]
        pictures += [frame.image_rgb for frame in VideoReader(folder / "clip.annotated.mp4")]
        assert len(pictures) == 16
        seen[folder] = sum(bool(detect(picture, longest_side=480)) for picture in pictures)
    assert seen == {found: 0, plain: 16}
    assert pictures[0].shape == (512, 512 + 152, 3)  # the strip of heat maps


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--anotate"], "--annotate?"),
        (["--blur-face", "--min-confidence=2"], "--min-confidence"),
        (["--zz"], "--zz: there is no such option"),
        (["--model", "int9"], "accurate"),
        *((options.split(), "--output") for options in ("--annotate", "--explain", "--rows parquet", "--resume")),
        (["--blur-faces"], "--annotate"),
        *(([f"--{name}", value], value) for name, value in (("detector", "haar"), ("providers", "gpu"))),
        *((["--every", "0"], "--every"), (["--min-confidence", "2"], "--min-confidence")),
        *((["--rows", "xml"], "--rows"), (["--smooth", "-1"], "--smooth")),
        (["--output", "cut.onnx/found"], "cut.onnx"),
        *((["--model", path], path) for path in ("nothing.onnx", "cut.onnx", "/dev/zero", "pipe", "long.onnx")),
        (["--output=~no-such-user", "--model=~no-such-user/net.onnx"], "~no-such-user/net.onnx"),
        pytest.param(["--show"], "screen", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux says so")),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(model_path, photo, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(photo.parent)
    Path("cut.onnx").write_bytes(model_path.read_bytes()[:200])
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    with Path("long.onnx").open("wb") as file:
        file.truncate(2**31)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    try:
        status = main([str(photo), "--model", str(model_path), "--detector", "none", *arguments])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert words in (message := capsys.readouterr().err)
    assert message.startswith("error: ")
    assert "usage:" not in message


def test_a_disk_that_fills_with_pictures_ends_the_run(predict, photo, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(self, data):
        if ".annotated" in self.name or "summary" in self.name:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, err = predict(photo, "missing.jpg", "--output", tmp_path / "found", "--annotate")
    assert status == 1
    assert "No space left" in err
    assert "summary.json" in err
    assert "missing.jpg" not in err
    assert not list((tmp_path / "found").glob("*.part"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_that_fills_with_rows_ends_the_run(model_path, photo, video, tmp_path):
    import resource

    def run(*arguments, **options):
        command = [sys.executable, "-m", "emodet.predict", *arguments, "--model", model_path, "--detector", "none"]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        return done.stderr

    with open("/dev/full", "w") as full:  # noqa: PTH123
        assert "No space left" in run(photo, photo, "--rows", "jsonl", stdout=full)
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))}
    assert run(video, "--output", tmp_path / "found", **limited).count("could not be written") == 1
    assert json.loads((tmp_path / "found" / "summary.json").read_text())["sources"][0]["files"] == []


def test_a_closed_pipe_is_no_error(model_path, tmp_path, astronaut):
    for index in range(40):
        (tmp_path / f"{index}.png").write_bytes(encoded(astronaut[60:180, 170:280]))
    arguments = f"-m emodet.predict {tmp_path} --model {model_path} --detector none --rows jsonl"
    result = subprocess.run(f"{sys.executable} {arguments} | head -n 1", shell=True, capture_output=True, text=True)
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_completes_the_files(model_path, astronaut, tmp_path, number, status):
    video = write_video(tmp_path / "long.avi", moving_face(astronaut, 1200, step=(0, 0)))
    found = tmp_path / "found"
    options = ["--annotate", "--rows", "csv", "--detector", "centerface", "--output", str(found)]
    command = [sys.executable, "-m", "emodet.predict", str(video), "--model", str(model_path), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    rows = found / "faces.csv"
    wait_for(lambda: rows.exists() and rows.read_text().count("\n") > 20)
    os.killpg(process.pid, number)  # as a terminal does: the encoder of the video is in the group too
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "Traceback" not in err
    count = rows.read_text().count("\n") - 1
    assert 19 < count < 1200
    frames = cv2.VideoCapture(str(found / "long.annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)
    assert abs(frames - count) <= 1
    assert (found / "long.timeline.png").exists()
    assert json.loads((found / "summary.json").read_text())["sources"][0]["frames"] == count
    assert not list(found.glob("*.part"))


@pytest.mark.parametrize(("source", "number", "status"), [("pipe", signal.SIGINT, 130), ("-", signal.SIGTERM, 143)])
def test_waiting_for_a_pipe_can_be_interrupted(model_path, tmp_path, source, number, status):
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "emodet.predict", source, "--model", str(model_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdin=pipe, stderr=pipe) as process:
        assert process.stderr.readline().startswith("model: ")
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(timeout=60) == status
        assert "Traceback" not in process.stderr.read()


def test_a_camera_is_recognised_in_real_time(predict, astronaut, tmp_path, monkeypatch):
    """A camera of 10 frames per second, of which recognition keeps up with a few only."""

    left, times_s = [astronaut[:240, 100:420, ::-1]] * 12, []

    def read():
        time.sleep(0.1)
        times_s.append(time.perf_counter())
        return (True, left.pop()) if left else (False, None)

    camera = SimpleNamespace(isOpened=lambda: bool(left), get=lambda _: 10.0, read=read, release=lambda: None)
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: camera)
    for name, value in {"attempts": 2, "first_wait_s": 0.01}.items():
        monkeypatch.setitem(LiveVideo.__init__.__kwdefaults__, name, value)
    status, _, err = predict("5", "--output", tmp_path / "found", "--annotate")
    assert status == 1
    assert "connection was lost" in err
    rows = json_lines((tmp_path / "found" / "faces.jsonl").read_text())
    assert rows[0]["source"] == "camera 5"
    times = [frame.time_s for frame in VideoReader(tmp_path / "found" / "camera5.annotated.mp4")]
    assert times == pytest.approx([row["time_s"] - rows[0]["time_s"] for row in rows], abs=3e-3)
    assert 0.5 <= times[-1] <= times_s[-1] - times_s[0] + 0.1


def test_q_in_the_window_ends_the_run(predict, photo, video, monkeypatch):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: ord("q"))
    for inputs in ((photo, video), (video, photo)):
        status, out, err = predict(*inputs, "--show", detector="none")
        assert (status, "error" in err, "1 of 1 input done" in err) == (0, False, True)
        assert out.partition(":")[0] == (str(photo) if inputs[0] is photo else "")  # a picture that was shown counts
    assert len(shown) == 2
