import csv
import io
import json
import threading
import time

import av
import numpy as np
import pytest
from made_server import ended, refusal
from made_videos import moving_face, write_video
from skimage import data

from emodet.app.errors import ApiError
from emodet.app.settings import Limits
from emodet.app.video_jobs import open_video
from emodet.inference.video_reader import VideoReader

FILES = ("rows.csv", "rows.jsonl", "annotated.mp4", "timeline.png", "timeline")


def sent(client, content, options=""):
    answer = client.post(f"/v1/videos{options}", content=content)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] in ("waiting", "running", "done")
    return answer.headers["location"]


def stored(uploads):
    return sorted(path for folder in uploads.glob("emodet-app-*") for path in folder.rglob("*") if path.name != "lock")


@pytest.fixture(scope="module")
def done(client, video):
    """A video that was recognised: its address and its last status."""
    address = sent(client, video)
    return address, ended(client, address)


def test_a_video_is_recognised(client, done, tmp_path):
    address, status = done
    assert (status["state"], status["error"], status["progress"]) == ("done", None, 1.0)
    assert (status["width"], status["height"], status["frame_rate"]) == (320, 240, 10)
    assert (status["frames_done"], status["frames_total"], status["duration_s"]) == (24, 24, 2.4)
    assert status["emotions"] == {"happiness": status["rows"]}
    assert status["expires_at"] > "2026"
    assert sorted(status["files"].values()) == sorted(f"{address[1:]}/{name}" for name in FILES)
    rows = [json.loads(line) for line in client.get(f"{address}/rows.jsonl").text.splitlines()]
    assert [row["frame"] for row in rows] == list(range(24))
    assert {row["track_id"] for row in rows} == {1}
    assert {row["source"] for row in rows} == {"video"}
    table = list(csv.DictReader(io.StringIO(client.get(f"{address}/rows.csv").text)))
    assert [float(row["p_happiness"]) for row in table] == [row["probabilities"]["happiness"] for row in rows]
    movie = tmp_path / "movie.mp4"
    movie.write_bytes(client.get(f"{address}/annotated.mp4").content)
    assert sum(1 for _ in VideoReader(movie)) == 24
    picture = client.get(f"{address}/timeline.png")
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    timeline = client.get(f"{address}/timeline").json()
    (track,) = timeline["tracks"]
    assert timeline["duration_s"] == pytest.approx(2.4)
    assert (track["stretches"][0]["start_s"], track["stretches"][0]["emotion"]) == (0, "happiness")
    assert track["stretches"][-1]["end_s"] == pytest.approx(2.35, abs=0.06)


def test_parts_of_the_annotated_video(client, done):
    address, _ = done
    whole = client.get(f"{address}/annotated.mp4").content
    part = client.get(f"{address}/annotated.mp4", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    outside = client.get(f"{address}/annotated.mp4", headers={"Range": "bytes=999999999-"})
    assert outside.status_code == 416


def test_the_upload_is_deleted_when_it_is_recognised(client, done, uploads, video):
    assert stored(uploads)
    for path in stored(uploads):
        assert not path.name.startswith("upload")
        assert path.is_dir() or path.read_bytes() != video


def events(client, address, **headers):
    found = []
    with client.stream("GET", f"{address}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind, number = None, None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind, number = value, None
            elif name == "id":
                number = value
            elif name == "data":
                data = json.loads(value)
            elif not line and kind:
                found.append((kind, number, data))
    return found


def test_rows_and_progress_as_they_come(client, video):
    address = sent(client, video, "?annotate=false")
    found = events(client, address)
    assert [kind for kind, _, _ in found][-1] == "done"
    assert found[-1][2]["rows"] == 24
    assert found[-1][2]["files"]["annotated"] is None
    assert "progress" in {kind for kind, _, _ in found}
    rows = [row for kind, _, data in found if kind == "rows" for row in data]
    assert [row["frame"] for row in rows] == list(range(24))
    refusal(client.get(f"{address}/annotated.mp4"), 404, "not_found")
    # A lost connection goes on where it was.
    first = next(each for each in found if each[0] == "rows")
    rest = [
        row
        for kind, _, data in events(client, address, **{"Last-Event-ID": first[1]})
        if kind == "rows"
        for row in data
    ]
    assert rest == rows[len(first[2]) :]
    for odd in ("x", "-1", "9" * 30, "99999999"):
        assert events(client, address, **{"Last-Event-ID": odd})[-1][0] == "done"


def test_options(client, video):
    address = sent(client, video, "?every=4&min_confidence=1&smooth=0&blur_faces=true&model=emodet-fp32")
    status = ended(client, address)
    assert (status["state"], status["rows"], status["frames_done"]) == ("done", 6, 24)
    assert status["emotions"] == {"uncertain": 6}
    for query in ("every=0", "smooth=-1", "every=1&x=1", "detector=nix", "smooth=nan"):
        refusal(client.post(f"/v1/videos?{query}", content=video), 422, "bad_value")
    refusal(client.post("/v1/videos?model=../x", content=video), 404, "not_found")


def test_deleting(client, video, uploads):
    before = stored(uploads)
    address = sent(client, video)
    assert client.delete(address).status_code == 204
    for path in (address, *(f"{address}/{name}" for name in (*FILES, "events"))):
        refusal(client.get(path), 404, "not_found")
    refusal(client.delete(address), 404, "not_found")
    until = time.monotonic() + 20
    while stored(uploads) != before:
        assert time.monotonic() < until, stored(uploads)
        time.sleep(0.01)


def test_what_is_no_video(client, video, portrait, uploads):
    before = stored(uploads)
    refusal(client.post("/v1/videos", content=b""), 400, "bad_request")
    for content in (b"x", b"RIFF1234AVI ", video[:200], b"<html>", bytes(3000), b"\x1aE\xdf\xa3" + bytes(100)):
        told = refusal(client.post("/v1/videos", content=content), 422, "video_unreadable")
        assert "/" not in told
    assert stored(uploads) == before


def test_a_playlist_reads_no_file_of_this_machine(client, video, tmp_path):
    """ffmpeg would follow it."""
    own = tmp_path / "own.avi"
    own.write_bytes(video)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{own}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile own.avi\n")
    for name in ("list.m3u8", "list"):
        with pytest.raises(ApiError):
            open_video(tmp_path / name, Limits())
    for text in (playlist, f"ffconcat version 1.0\nfile {own}\n"):
        refusal(client.post("/v1/videos", content=text.encode()), 422, "video_unreadable")


def test_a_video_that_breaks_off_keeps_what_was_recognised(client, video):
    address = sent(client, video[: len(video) * 2 // 3])
    status = ended(client, address)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "video_unreadable"
    assert "ends early" in status["error"]["message"]
    assert "/" not in status["error"]["message"]
    assert 5 < status["rows"] < 24
    assert all(status["files"].values())
    assert len(client.get(f"{address}/rows.csv").text.splitlines()) == status["rows"] + 1
    assert events(client, address)[-1][0] == "failed"


def test_long_and_large_videos(serve, video, uploads):
    def refused(code, status=422, **limits):
        with serve(limits=Limits(**limits)) as client:
            return refusal(client.post("/v1/videos", content=video), status, code)

    refused("too_large", 413, video_bytes=20_000)
    refused("video_too_long", video_seconds=2)
    refused("video_too_long", video_frames=20)
    refused("video_unreadable", pixels=320 * 240 - 1)
    refused("disk_full", 507, free_bytes=10**18)
    assert not [path for path in stored(uploads) if path.name.startswith("upload")]


def test_a_video_without_a_length_in_its_header(serve, tmp_path):
    path = tmp_path / "live.mkv"
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for image in moving_face(data.astronaut(), 24):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    with serve(limits=Limits(video_frames=10)) as client:
        address = sent(client, path.read_bytes())
        status = ended(client, address)
        assert (status["state"], status["error"]["code"], status["rows"]) == ("failed", "video_too_long", 10)


def test_a_full_queue(serve, video, monkeypatch):
    from emodet.app import video_jobs

    go = threading.Event()
    original = video_jobs.recognise_stream

    def held(*arguments, **options):
        go.wait(20)
        return original(*arguments, **options)

    monkeypatch.setattr(video_jobs, "recognise_stream", held)
    with serve(limits=Limits(videos_waiting=1, videos_kept=2)) as client:
        first, second = sent(client, video), sent(client, video)
        answer = client.post("/v1/videos", content=video)
        refusal(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/healthz").json()["videos"] == 2
        refusal(client.get(f"{second}/annotated.mp4"), 409, "not_ready")
        assert client.get(second).json()["state"] == "waiting"
        assert client.delete(second).status_code == 204
        second = sent(client, video)
        go.set()
        assert ended(client, first)["state"] == ended(client, second)["state"] == "done"
        # The oldest makes room.
        third = sent(client, video)
        assert ended(client, third)["state"] == "done"
        refusal(client.get(first), 404, "not_found")


def test_results_are_deleted_in_time(serve, video, uploads, monkeypatch):
    monkeypatch.setattr("emodet.app.application._CLEANUP_INTERVAL_S", 0.05)
    before = stored(uploads)
    with serve(limits=Limits(keep_seconds=1)) as client:
        address = sent(client, video, "?annotate=false")
        until = time.monotonic() + 30
        while client.get(address).status_code == 200:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert stored(uploads) == before


def test_an_ending_server_deletes_everything(serve, uploads):
    before = sorted(uploads.glob("emodet-app-*"))
    with serve() as client:
        sent(client, write(uploads / "long.avi", 200))
        sent(client, write(uploads / "long.avi", 200))
        assert len(sorted(uploads.glob("emodet-app-*"))) == len(before) + 1
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert sorted(uploads.glob("emodet-app-*")) == before


def write(path, frames):
    still = next(moving_face(data.astronaut(), 1))
    noise = np.random.default_rng(0)
    write_video(path, (np.roll(still, int(noise.integers(20)), axis=1) for _ in range(frames)))
    content = path.read_bytes()
    path.unlink()
    return content


def test_a_folder_that_a_killed_server_left_is_deleted_by_the_next(serve, uploads):
    left = uploads / "emodet-app-dead"
    left.mkdir()
    (left / "lock").touch()
    (left / "upload.mp4").touch()
    others = uploads / "emodet-app-unknown"  # not ours: no lock
    others.mkdir()
    with serve() as client:
        assert client.get("/healthz").status_code == 200
        assert not left.exists()
        alive = [folder for folder in uploads.glob("emodet-app-*") if folder != others]
        with serve():
            assert all(folder.exists() for folder in alive)
    assert others.exists()
    others.rmdir()
