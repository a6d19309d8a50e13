"""POST /v1/videos: status, events, results, limits, deletion."""

import csv
import glob
import io
import json
import time
from pathlib import Path

import av
import pytest
from made_commands import wait_for
from made_files import json_lines
from made_server import ended, refusal
from made_videos import moving_face, write_damaged_video, write_video
from model_stub import write_stub
from skimage import data

from emodet.app.settings import Limits
from emodet.inference.video_reader import VideoReader

FILES = ("rows.csv", "rows.jsonl", "annotated.mp4", "timeline.png", "timeline")


def sent(client, content, options=""):
    answer = client.post(f"/v1/videos{options}", content=content)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def stored(uploads):
    """Files and folders of all videos; unlike pathlib's, this glob passes over folders that go meanwhile."""
    found = map(Path, glob.glob(f"{uploads}/emodet-app-*/**/*", recursive=True))  # noqa: PTH207
    return sorted(path for path in found if "page" not in path.relative_to(uploads).parts)


def test_status_rows_timeline_and_annotated_video(client, video, uploads, tmp_path):
    status = ended(client, address := sent(client, video))
    assert (status["state"], status["error"], status["progress"]) == ("done", None, 1.0)
    assert (status["width"], status["height"], status["frame_rate"]) == (320, 240, 10)
    assert (status["frames_done"], status["frames_total"], status["duration_s"]) == (24, 24, 2.4)
    assert status["emotions"] == {"happiness": status["rows"]}
    assert status["expires_at"] > "2026"
    assert sorted(status["files"].values()) == sorted(f"{address[1:]}/{name}" for name in FILES)
    rows = json_lines(client.get(f"{address}/rows.jsonl").text)
    assert [(row["frame"], row["track_id"], row["source"]) for row in rows] == [(n, 1, "video") for n in range(24)]
    table = list(csv.DictReader(io.StringIO(client.get(f"{address}/rows.csv").text)))
    assert [float(row["p_happiness"]) for row in table] == [row["probabilities"]["happiness"] for row in rows]
    movie = client.get(f"{address}/annotated.mp4").content
    (tmp_path / "movie.mp4").write_bytes(movie)
    assert sum(1 for _ in VideoReader(tmp_path / "movie.mp4")) == 24
    part = client.get(f"{address}/annotated.mp4", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, movie[100:200])
    assert client.get(f"{address}/annotated.mp4", headers={"Range": "bytes=999999999-"}).status_code == 416
    assert client.get(f"{address}/timeline.png").content[:4] == b"\x89PNG"
    timeline = client.get(f"{address}/timeline").json()
    (track,) = timeline["tracks"]
    assert timeline["duration_s"] == pytest.approx(2.4)
    assert (track["stretches"][0]["start_s"], track["stretches"][0]["emotion"]) == (0, "happiness")
    assert not [path for path in stored(uploads) if path.name.startswith("upload")]


def events(client, address, **headers):
    """(event, id, data) of all events."""
    answer = client.get(f"{address}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in answer.text.split("\n\n")]
    return [(each["event"], each.get("id"), json.loads(each["data"])) for each in blocks if "event" in each]


def test_events(client, video):
    address = sent(client, video, "?annotate=false")
    found = events(client, address)
    assert {kind for kind, _, _ in found} == {"rows", "progress", "done"}
    assert found[-1][0] == "done"
    assert (found[-1][2]["rows"], found[-1][2]["files"]["annotated"]) == (24, None)
    rows = [row for kind, _, rows in found if kind == "rows" for row in rows]
    assert [row["frame"] for row in rows] == list(range(24))
    refusal(client.get(f"{address}/annotated.mp4"), 404, "not_found")
    # Last-Event-ID continues after these rows.
    _, last, first = next(each for each in found if each[0] == "rows")
    rest = events(client, address, **{"Last-Event-ID": last})
    assert [row for kind, _, rows in rest if kind == "rows" for row in rows] == rows[len(first) :]
    for odd in ("x", "-1", "9" * 30, "99999999"):
        assert events(client, address, **{"Last-Event-ID": odd})[-1][0] == "done"


def test_options(client, video, serve, tmp_path):
    address = sent(client, video, "?every=4&min_confidence=1&smooth=0&blur_faces=true&model=emodet-fp32")
    status = ended(client, address)
    assert (status["state"], status["rows"], status["frames_done"]) == ("done", 6, 24)
    assert status["emotions"] == {"uncertain": 6}
    shares, found = (0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.03, 0.01), []
    with serve(models=(str(write_stub(tmp_path / "stub.onnx", class_shares=shares)),)) as own:
        for prior in ("trained", "balanced"):
            ended(own, address := sent(own, video, f"?prior={prior}&annotate=false"))
            found.append(json_lines(own.get(f"{address}/rows.jsonl").text)[0]["probabilities"]["contempt"])
    assert found[1] > found[0]
    for query in ("every=0", "smooth=-1", "every=1&x=1", "detector=nix", "smooth=nan"):
        refusal(client.post(f"/v1/videos?{query}", content=video), 422, "bad_value")
    refusal(client.post("/v1/videos?model=../x", content=video), 404, "not_found")


def test_deletion_and_expiry(client, video, uploads, serve):
    before = stored(uploads)
    address = sent(client, video)
    assert client.delete(address).status_code == 204
    for path in (address, *(f"{address}/{name}" for name in (*FILES, "events"))):
        refusal(client.get(path), 404, "not_found")
    refusal(client.delete(address), 404, "not_found")
    wait_for(lambda: stored(uploads) == before)
    before = stored(uploads)
    with serve(limits=Limits(keep_seconds=1)) as client:
        address = sent(client, video, "?annotate=false")
        wait_for(lambda: client.get(address).status_code == 404)
        wait_for(lambda: stored(uploads) == before)


def test_files_that_are_no_videos_or_name_other_files(client, video, uploads, tmp_path):
    own = tmp_path / "own.avi"
    own.write_bytes(video)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{own}\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile {own}\n".encode()
    before = stored(uploads)
    for content in (b"x", b"RIFF1234AVI ", video[:200], b"\x1aE\xdf\xa3" + bytes(100), playlist, concat):
        message = refusal(client.post("/v1/videos", content=content), 422, "video_unreadable")
        assert "/" not in message  # no path of this machine
    refusal(client.post("/v1/videos", content=b""), 400, "bad_request")
    assert stored(uploads) == before


def test_damaged_frames_are_counted(client, tmp_path):
    damaged = write_damaged_video(tmp_path / "v.mp4", 48).read_bytes()
    status = ended(client, sent(client, damaged, "?detector=none"))
    assert (status["state"], status["damaged"]) == ("done", 48 - status["frames_done"])
    assert status["damaged"] > 0


def test_a_truncated_video_keeps_its_results(client, video):
    address = sent(client, video[: len(video) * 2 // 3])
    status = ended(client, address)
    assert (status["state"], status["error"]["code"]) == ("failed", "video_unreadable")
    assert "/" not in status["error"]["message"]
    assert 5 < status["rows"] < 24
    assert all(status["files"].values())
    assert len(client.get(f"{address}/rows.csv").text.splitlines()) == status["rows"] + 1
    assert events(client, address)[-1][0] == "failed"


@pytest.mark.parametrize(
    ("status", "code", "limits"),
    [
        (413, "too_large", {"video_bytes": 20_000}),
        (422, "video_too_long", {"video_seconds": 2}),
        (422, "video_too_long", {"video_frames": 20}),
        (422, "video_unreadable", {"pixels": 320 * 240 - 1}),
    ],
)
def test_limits(serve, video, uploads, status, code, limits):
    with serve(limits=Limits(**limits)) as client:
        refusal(client.post("/v1/videos", content=video), status, code)
    assert not [path for path in stored(uploads) if path.name.startswith("upload")]


def frames_and_junk(path, good, junk, **container):
    """Good frames of motion JPEG, then packets that are no frames, in a container without a length to be checked."""
    with av.open(str(path), "w", **container) as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for image in moving_face(data.astronaut(), good):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for number in range(good, good + junk):
            packet = av.Packet(b"junk")
            packet.stream, packet.pts, packet.dts = stream, number, number
            file.mux(packet)
    return path.read_bytes()


def test_a_video_without_a_length_in_its_header(serve, tmp_path):
    live = frames_and_junk(tmp_path / "live.mkv", 24, 0, format="matroska", options={"live": "1"})
    with serve(limits=Limits(video_frames=10)) as client:
        status = ended(client, sent(client, live))
        assert (status["state"], status["error"]["code"], status["rows"]) == ("failed", "video_too_long", 10)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.avi"
    return write_video(path, [*moving_face(data.astronaut(), 30)] * 40).read_bytes()


def test_a_full_queue(serve, video, long):
    with serve(limits=Limits(videos_waiting=1, videos_kept=2)) as client:
        running, second = sent(client, long), sent(client, video)
        answer = client.post("/v1/videos", content=video)
        refusal(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/healthz").json()["videos"] == 2
        refusal(client.get(f"{second}/annotated.mp4"), 409, "not_ready")
        assert client.get(second).json()["state"] == "waiting"
        assert client.delete(second).status_code == 204
        first = sent(client, video)
        assert client.delete(running).status_code == 204
        assert ended(client, first)["state"] == ended(client, sent(client, video))["state"] == "done"
        assert ended(client, sent(client, video))["state"] == "done"
        refusal(client.get(first), 404, "not_found")  # the oldest was deleted for it


def test_a_stopping_server_deletes_everything(serve, uploads, long):
    before = sorted(uploads.glob("emodet-app-*"))
    with serve() as client:
        sent(client, long)
        sent(client, long)
        assert len(sorted(uploads.glob("emodet-app-*"))) == len(before) + 1
        started = time.monotonic()
    assert time.monotonic() - started < 30  # both videos take longer
    assert sorted(uploads.glob("emodet-app-*")) == before


def test_a_video_that_is_never_opened(serve, video, tmp_path, uploads):
    before = stored(uploads)
    hostile = frames_and_junk(tmp_path / "junk.avi", 0, 500_000)
    with serve(limits=Limits(open_seconds=1)) as client:
        assert "1 seconds" in refusal(client.post("/v1/videos", content=hostile), 422, "video_unreadable")
        assert stored(uploads) == before
        assert ended(client, sent(client, video))["state"] == "done"


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    return frames_and_junk(tmp_path_factory.mktemp("junk") / "junk.avi", 12, 500_000)


@pytest.mark.parametrize("limit", ["frame_seconds", "recognise_seconds"])
def test_a_video_that_never_ends(serve, video, endless, limit):
    with serve(limits=Limits(video_seconds=1e6, video_frames=10**7, **{limit: 2})) as client:
        address = sent(client, endless)
        after = sent(client, video, "?every=12&annotate=false")  # within the limit on a slow machine too
        status = ended(client, address)
        assert (status["state"], status["error"]["code"]) == ("failed", "video_unreadable")
        assert "too long" in status["error"]["message"]
        rows = client.get(f"{address}/rows.jsonl").text.splitlines()
        assert len(rows) == status["rows"] > 0
        assert events(client, address)[-1][0] == "failed"
        assert ended(client, after)["state"] == "done"  # the worker is free again
