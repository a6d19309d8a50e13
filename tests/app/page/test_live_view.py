"""The camera in the browser: a face is found, named and followed, on a page that only files stand behind."""

import re

import numpy as np
import pytest
from made_files import csv_rows
from watching import downloaded, until

from emodet.emotions import EMOTIONS
from emodet.images import decode_rgb
from emodet.inference.rows import row_columns


@pytest.fixture(scope="module")
def live(shared):
    page = shared.open()
    page.click("#camera-start")
    page.wait_for_selector("html[data-first-result]")
    page.wait_for_selector("#camera-faces .face")
    return shared


def frames(page, count):
    now = "Number(document.querySelector('#camera-canvas').dataset.frames)"
    until(page, f"{now} >= {page.evaluate(now) + count}")


def test_before_the_camera_starts_the_page_says_what_it_is_not_for(watched):
    page = watched.open(ready=False)
    text = page.inner_text("#notice")
    for word in ("AI Act", "work", "education"):
        assert word in text
    assert page.locator("#notice button").count() == 2  # start, or the sample video
    assert page.locator("#live").is_hidden()


def test_a_face_is_found_named_followed_and_heard(live):
    page = live.page
    until(page, "document.querySelector('#camera-faces h3 span + span').textContent === 'happiness'")
    shares = [int(text.removesuffix(" %")) for text in page.locator("#camera-faces .share").all_inner_texts()]
    assert len(shares) == 8
    assert shares[1] > 80
    assert 97 <= sum(shares) <= 103
    until(page, "document.querySelector('#camera-rate').textContent > 0")
    assert int(page.inner_text("#camera-latency")) > 0
    number = re.search(r"face \d+", page.inner_text("#camera-faces h3"))[0]
    frames(page, 20)
    assert number in page.inner_text("#camera-faces h3")
    until(page, "document.querySelector('#camera-announcement').textContent === 'happiness'")
    assert page.get_attribute("#camera-announcement", "aria-live") == "polite"


def test_snapshots_show_the_annotated_frame_and_rows_have_the_columns_of_predict(live):
    snapshot = downloaded(live.page, "#camera-snapshot")
    picture = decode_rgb(snapshot.path().read_bytes())
    assert snapshot.suggested_filename.endswith(".png")
    assert picture.shape == (480, 640, 3)
    happiness = (picture == (0xCF, 0xB8, 0x0D)).all(axis=2)  # the box's colour
    assert happiness.sum() > 300
    page = live.page
    page.click("#camera-record")
    until(page, "/Recording: [1-9]/.test(document.querySelector('#camera-note').textContent)")
    record = downloaded(page, "#camera-record")
    rows = csv_rows(record.path())
    assert record.suggested_filename.endswith(".csv")
    assert list(rows[0]) == row_columns(EMOTIONS)
    assert {row["emotion"] for row in rows} == {"happiness"}
    assert sum(float(rows[0][f"p_{emotion}"]) for emotion in EMOTIONS) == pytest.approx(1, abs=1e-3)
    times = [float(row["time_s"]) for row in rows]
    assert times == sorted(times)
    assert 100 < float(rows[0]["x1"]) < float(rows[0]["left_eye_x"]) < float(rows[0]["right_eye_x"]) < 640


def test_a_hidden_face_is_nowhere_in_the_picture_which_mirroring_turns_around(live):
    page = live.page
    # The middle of the face in the mirrored picture, whichever way she sways: her box's lines never come here.
    code = "[...document.querySelector('#camera-canvas').getContext('2d').getImageData(334, 105, 14, 50).data]"

    def colours():
        return len(np.unique(np.array(page.evaluate(code)).reshape(-1, 4), axis=0))

    assert colours() > 200
    page.check("#camera-blur")
    frames(page, 1)
    # 14 × 50 pixels of cells that are 20 wide and more hold a handful of colours.
    for _ in range(4):
        assert colours() <= 12
        frames(page, 1)
    page.uncheck("#camera-blur")
    code = "[...document.querySelector('#camera-canvas').getContext('2d').getImageData(0, 400, 640, 1).data]"

    def line():
        return np.array(page.evaluate(code), dtype=float).reshape(640, 4)[:, 0]

    def likeness(one, other):
        return max(np.corrcoef(np.roll(one, shift)[100:-100], other[100:-100])[0, 1] for shift in range(-70, 71, 2))

    mirrored = line()
    page.uncheck("#camera-mirror")
    frames(page, 2)
    straight = line()
    page.check("#camera-mirror")
    assert likeness(mirrored[::-1], straight) > likeness(mirrored, straight) + 0.2


def test_pause_and_a_high_least_confidence(live):
    page = live.page
    page.click("#camera-pause")
    still = "document.querySelector('#camera-canvas').toDataURL()"
    page.evaluate(f"globalThis.seen = [{still}]")
    until(page, f"seen.unshift({still}) > 20 && seen.slice(0, 20).every(each => each === seen[0])")  # 20 ms apart
    assert page.get_attribute("#camera-pause", "aria-pressed") == "true"
    page.click("#camera-pause")
    until(page, f"{still} !== {page.evaluate(still)!r}")


def test_nothing_came_from_elsewhere_and_nothing_failed(live):
    assert live.errors == []
    assert {request.split("/")[2] for request in live.requests if not request.startswith(("blob:", "data:"))} == {
        live.url.split("/")[2]
    }


def test_leaving_the_tab_lets_the_camera_go_coming_back_takes_it_and_it_may_be_unplugged(live):
    page = live.page
    page.click("#tab-picture")
    assert page.evaluate("document.querySelector('#camera-video').srcObject") is None
    page.click("#tab-camera")
    until(page, "document.querySelector('#camera-video').srcObject !== null")
    page.wait_for_selector("#live:not([hidden])")
    page.evaluate(
        "document.querySelector('#camera-video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )
    assert "unplugged" in live.problem()
    assert page.locator("#notice").is_visible()
