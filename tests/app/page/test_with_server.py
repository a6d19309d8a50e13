"""The page with `python -m emodet.app` behind it: pictures and videos on the server, and a server that goes away."""

import os
import signal

import numpy as np
import pytest
from made_files import csv_rows, encoded
from made_server import address_in, server_process
from made_videos import write_video
from watching import Watched, camera_frames, downloaded, until

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("fastapi")
    with server_process(tmp_path) as (process, lines):
        yield process, address_in(lines)[0] + "/"


@pytest.fixture
def page(browser, server):
    with browser.new_context(permissions=["camera"]) as context:
        watched = Watched(context, server[1])
        watched.open("picture")
        watched.page.wait_for_selector("#picture-where option >> nth=1", state="attached")
        yield watched


def test_pictures_and_videos_on_the_server(page, astronaut, tmp_path):
    tab = page.page
    tab.select_option("#picture-where", "emodet-int8")
    data = encoded(astronaut, "JPEG", quality=95)
    tab.set_input_files("#picture-files", {"name": "face.jpg", "mimeType": "image/jpeg", "buffer": data})
    tab.wait_for_selector(".result")
    assert "One face: happiness" in tab.inner_text(".result")
    with tab.expect_request(lambda request: "prior=balanced" in request.url):
        tab.select_option("#picture-prior", "balanced")
    # So long that the preview is seen, with a second in which there is no face.
    frames, grey = [*camera_frames(astronaut)], [np.full((480, 640, 3), 110, dtype=np.uint8)] * 30
    clip = write_video(tmp_path / "clip.mp4", [*frames, *grey, *frames], rate=30)
    tab.click("#tab-video")
    tab.select_option("#video-where", "emodet-int8")
    tab.select_option("#video-prior", "balanced")
    with tab.expect_request(lambda request: "prior=balanced" in request.url):
        tab.set_input_files("#video-file", clip)
    tab.wait_for_selector("#video-preview:visible")
    tab.wait_for_selector("#video-player:visible")
    tab.wait_for_selector("#video-faces .face:visible")
    assert "happiness" in tab.inner_text("#video-faces")
    rows = csv_rows(downloaded(tab, "#video-rows").path())
    assert [int(row["frame"]) for row in rows] == [round(30 * float(row["time_s"])) for row in rows]
    saved = downloaded(tab, "#video-save")
    assert saved.suggested_filename == "clip-emodet.mp4"
    assert saved.path().stat().st_size > 1000
    with tab.expect_request(lambda request: request.method == "DELETE"):
        tab.click("#video-close")  # what the server kept of it is deleted
    assert page.errors == []


def test_a_video_that_the_server_refuses(page):
    tab = page.page
    tab.click("#tab-video")
    tab.select_option("#video-where", "emodet-int8")
    noise = {"name": "noise.mp4", "mimeType": "video/mp4", "buffer": b"nonsense" * 400}
    tab.set_input_files("#video-file", noise)
    assert "noise.mp4: " in page.problem()
    assert "Send MP4" in page.problem()


def test_a_server_that_stops_in_mid_upload(page, server, tmp_path):
    tab = page.page
    tab.click("#tab-video")
    tab.select_option("#video-where", "emodet-int8")
    server[0].send_signal(signal.SIGSTOP)  # takes the connection and answers nothing
    large = tmp_path / "large.mp4"
    large.write_bytes(os.urandom(20_000_000))
    tab.set_input_files("#video-file", large)
    until(tab, "document.querySelector('#video-share').textContent.startsWith('Uploading')")
    server[0].kill()
    assert "server could not be reached" in page.problem()
    assert tab.locator("#video-progress").is_hidden()
