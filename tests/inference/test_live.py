import threading
import time
from contextlib import ExitStack, closing
from unittest import mock

import cv2
import numpy as np
import pytest
from made_files import encoded, web_server
from made_videos import quadrants, write_video

from emodet.errors import EmodetError
from emodet.inference import capture
from emodet.inference.capture import LiveVideo, open_video, read_ahead
from emodet.inference.pipeline import recognise_video


@pytest.fixture
def camera():
    """Start a network camera: motion JPEG, which hangs up after so many frames, so many times. Returns its address."""
    with ExitStack() as servers:

        def start(frames, calls, pause_s=0.01):
            left = iter(range(calls))

            def parts():
                for index in range(frames):
                    data = encoded(np.full((48, 64, 3), index % 250, dtype=np.uint8), "JPEG")
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    yield head.encode() + data + b"\r\n"
                    time.sleep(pause_s)

            def answer(_):
                return None if next(left, None) is None else ("multipart/x-mixed-replace; boundary=frame", parts())

            return f"http://{servers.enter_context(web_server(answer))}/live.mjpg"

        yield start


def test_a_dropped_stream_is_opened_again_with_its_limit_of_pixels_and_given_up_in_the_end(camera, monkeypatch):
    reader, events, frames = mock.Mock(wraps=capture.VideoReader), [], []
    monkeypatch.setattr(capture, "VideoReader", reader)
    address = camera(frames=30, calls=3)
    video = LiveVideo(address, attempts=3, first_wait_s=0.01, on_event=events.append, max_pixels=5000)
    with pytest.raises(EmodetError, match="3 attempts"):
        frames.extend(frame.index for frame in video)
    assert sum("connected again" in line for line in events) == 2
    assert events[-1].endswith("attempt 3 of 3 in 0.04 s")
    assert [call.kwargs["max_pixels"] for call in reader.call_args_list] == [5000] * 6


def test_a_live_source_gives_its_newest_frame_and_counts_the_others(camera):
    address = camera(frames=400, calls=1, pause_s=0.005)
    video = LiveVideo(address, attempts=1, first_wait_s=0.01)
    seen = []
    with closing(iter(video)) as frames:
        for frame in frames:
            seen.append(frame.index)
            age_s = time.perf_counter() - frame.taken_s
            assert age_s < 2
            time.sleep(0.1)
            if len(seen) == 6:
                break
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] > 2 * len(seen)
    assert video.dropped >= seen[-1] - seen[0] - len(seen)


def test_closing_from_outside_ends_the_iteration_soon_also_without_a_connection(camera, recognizer):
    address = camera(frames=10_000, calls=1)
    video = open_video(address, live=True)
    assert isinstance(video, LiveVideo)
    frames = iter(video)
    next(frames)
    threading.Timer(0.3, video.close).start()
    started = time.perf_counter()
    assert len(list(frames)) > 0
    assert time.perf_counter() - started < 30
    video = LiveVideo(camera(frames=5, calls=1), attempts=1, first_wait_s=60)
    started = time.perf_counter()
    with closing(recognise_video(recognizer, video)) as results:
        assert next(results).frame.image_rgb.shape == (48, 64, 3)
        time.sleep(0.3)
    assert time.perf_counter() - started < 30


def test_a_missing_camera_or_stream_and_a_camera_that_is_closed_unread(monkeypatch):
    for index in (97, -1):
        with pytest.raises(EmodetError, match=f"camera.*{index}"):
            LiveVideo(index)
    with pytest.raises(EmodetError, match="http://127"):
        open_video("http://127.0.0.1:9/live.mjpg", live=True)
    device = mock.Mock(**{"get.return_value": 10.0, "isOpened.return_value": True})
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: device)
    open_video(0).close()
    device.release.assert_called_once()


def test_a_file_behind_a_server_that_cannot_seek_is_read_once(tmp_path):
    data = write_video(tmp_path / "v.ts", quadrants(12)).read_bytes()
    with web_server(lambda _: ("video/mp2t", data)) as address, open_video(f"http://{address}/v.ts") as video:
        assert video.duration_s is None
        assert len(list(video)) == 12


def test_reading_ahead_is_bounded_and_ends_with_its_reader():
    made, closed = [], threading.Event()

    def items():
        try:
            for index in range(50):
                made.append(index)
                yield index
        finally:
            closed.set()

    for taken, item in enumerate(read_ahead(items(), capacity=3)):
        assert item == taken
        assert len(made) - taken <= 5
    closed.clear()
    with closing(read_ahead(items(), capacity=2)) as ahead:
        assert next(ahead) == 0
    assert closed.is_set()
