"""Videos in the browser, without a server: progress, the player with its timeline, rows, and files that are none."""

from itertools import islice

import numpy as np
import pytest
from made_files import csv_rows
from made_videos import write_video
from watching import camera_frames, downloaded, until

from emodet.inference.video_reader import VideoReader


@pytest.fixture(scope="module")
def video(shared):
    shared.open("video")
    return shared


@pytest.fixture(scope="module")
def clip(astronaut, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", islice(camera_frames(astronaut), 45), rate=30)


def test_a_video_is_recognised_and_played_with_its_answers(video, clip):
    page = video.page
    page.set_input_files("#video-file", clip)
    page.wait_for_selector("#video-progress:not([hidden])")
    page.wait_for_selector("#video-player:visible, #problem:visible")
    assert page.locator("#problem").is_hidden(), page.inner_text("#problem p")
    page.wait_for_selector("#video-faces .face")
    assert "happiness" in page.inner_text("#video-faces")
    table = downloaded(page, "#video-rows")
    rows = csv_rows(table.path())
    assert table.suggested_filename == "clip-emodet.csv"
    assert len(rows) == 15  # 1.5 s, 10 frames of each
    assert {row["track_id"] for row in rows} == {"1"}
    assert {row["emotion"] for row in rows} == {"happiness"}
    times = [(index + 0.5) / 10 for index in range(15)]
    assert [float(row["time_s"]) for row in rows] == pytest.approx(times, abs=1e-3)
    # She sways to the right first: by 12 pixels within the first half second.
    assert float(rows[4]["x1"]) - float(rows[0]["x1"]) == pytest.approx(10, abs=5)


def test_the_timeline_moves_the_player(video, clip):
    page = video.page
    page.click("#video-timeline", position={"x": 400, "y": 30})
    until(page, "document.querySelector('#video-player').currentTime > 0.3")
    page.press("#video-timeline", "Home")
    until(page, "document.querySelector('#video-player').currentTime === 0")
    page.press("#video-timeline", "ArrowRight")
    until(page, "document.querySelector('#video-player').currentTime === 1")
    assert "happiness" in page.get_attribute("#video-timeline", "aria-valuetext")


@pytest.mark.slow
def test_the_sample_video_is_seen_while_it_is_recognised(video):
    page = video.page
    page.select_option("#video-rate", "5")
    page.click("#video-sample")
    page.wait_for_selector("#video-preview:visible")
    assert page.locator("#video-player").is_hidden()
    page.wait_for_selector("#video-faces .face:visible")
    page.wait_for_selector("#video-player:visible")
    assert page.locator("#video-preview").is_hidden()
    page.evaluate("document.querySelector('#video-player').currentTime = 2")
    until(page, "document.querySelector('#video-faces').innerText.includes('happiness')")
    page.select_option("#video-rate", "10")


@pytest.mark.slow
def test_the_annotated_video_can_be_downloaded(video, clip, tmp_path):
    video.page.set_input_files("#video-file", clip)
    video.page.wait_for_selector("#video-faces .face:visible")
    saved = downloaded(video.page, "#video-save")
    path = tmp_path / saved.suggested_filename
    saved.save_as(path)
    assert VideoReader(path).size == (640, 480)


def test_a_video_without_a_face(video, tmp_path):
    grey = [np.full((480, 640, 3), 110, dtype=np.uint8)] * 9
    video.page.set_input_files("#video-file", write_video(tmp_path / "grey.mp4", grey, rate=30))
    video.page.wait_for_selector("#video-player:visible")
    video.page.wait_for_selector("#video-progress", state="hidden")
    assert "No face was found" in video.page.inner_text("#video-note")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [("noise.mp4", b"nonsense" * 400, "This browser cannot play the file"), ("empty.webm", b"", "The file is empty")],
)
def test_a_file_that_is_no_video(video, name, data, said):
    video.page.set_input_files("#video-file", {"name": name, "mimeType": "video/mp4", "buffer": data})
    assert f"{name}: {said}" in video.problem()
    assert video.page.locator("#video-progress").is_hidden()


def test_cancel_stops_at_once_and_nothing_failed_meanwhile(video, clip):
    page = video.page
    page.select_option("#video-rate", "25")
    page.set_input_files("#video-file", clip)
    page.click("#video-cancel")
    until(page, "document.querySelector('#video-note').textContent === 'Stopped.'")
    assert page.locator("#video-result").is_hidden()
    page.select_option("#video-rate", "10")
    assert video.errors == []
