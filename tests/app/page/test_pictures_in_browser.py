"""Pictures in the browser: good ones, several, and bad ones."""

import cv2
import numpy as np
import pytest
from made_files import csv_rows, encoded
from watching import downloaded, until

from emodet import Recognizer
from emodet.images import load_rgb
from emodet.synthetic.faces import draw_face


@pytest.fixture(scope="module")
def pictures(shared):
    shared.open("picture")
    return shared


@pytest.fixture(autouse=True)
def fresh(pictures):
    yield
    if pictures.page.locator("#picture-clear").is_visible():
        pictures.page.click("#picture-clear")


@pytest.fixture(scope="module")
def portrait(astronaut):
    return encoded(astronaut)


def add(pictures, *files):
    payloads = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    pictures.page.set_input_files("#picture-files", payloads)


def result(pictures, name):
    found = pictures.page.locator(".result", has=pictures.page.get_by_role("heading", name=name))
    found.wait_for()
    return found


def test_a_picture_is_recognised_explained_and_downloaded(pictures, astronaut, portrait):
    add(pictures, ("portrait.png", portrait))
    card = result(pictures, "portrait.png")
    assert "One face: happiness" in card.inner_text()
    (expected,) = Recognizer("int8", detector="centerface")(astronaut)
    (row,) = csv_rows(downloaded(pictures.page, "#picture-rows").path())
    assert [float(row[name]) for name in ("x1", "y1", "x2", "y2")] == pytest.approx(expected.box, abs=1.5)
    assert {name: float(row[f"p_{name}"]) for name in expected.probabilities} == pytest.approx(
        expected.probabilities, abs=0.02
    )
    card.get_by_role("button", name="Heat map").click()
    heat = card.get_by_role("img", name="Heat map of face 1 for happiness")
    heat.wait_for()
    # Her smile is what the answer rests on: it glows in the lower half.
    code = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    glow = np.array(heat.evaluate(code)).reshape(192, 192, 4).astype(int)
    yellow = glow[..., 0] - glow[..., 2]
    assert yellow[96:].sum() > 3 * yellow[:96].sum()
    with pictures.page.expect_download() as waiting:
        card.get_by_role("button", name="Download annotated").click()
    assert waiting.value.suggested_filename == "portrait-emodet.png"
    assert load_rgb(waiting.value.path()).shape == (512, 512, 3)


def test_the_sample_fits_a_phone(pictures):
    page = pictures.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#picture-sample")
    card = result(pictures, "drawn-faces.jpg")
    assert "6 faces" in card.inner_text()
    for button in card.get_by_role("button").all():
        box = button.bounding_box()
        assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert card.locator("tbody tr").first.locator(".best[data-name]").inner_text().endswith("%")
    assert "uncertain" in page.inner_text("#picture-legend")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_twenty_faces_and_none(pictures, astronaut):
    head = astronaut[40:240, 130:330]
    crowd = np.vstack([np.hstack([head] * 5)] * 4)
    add(pictures, ("crowd.png", encoded(crowd)), ("nobody.png", encoded(astronaut[300:500, 0:200])))
    assert "20 faces: 20 happiness" in result(pictures, "crowd.png").inner_text()
    assert result(pictures, "crowd.png").locator("tbody tr").count() == 20
    assert "No face was found" in result(pictures, "nobody.png").inner_text()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.png", lambda _: b"", "empty"),
        ("text.png", lambda _: b"this is no picture" * 50, "not a picture that this browser can read"),
        ("film.mp4", lambda _: b"\0\0\0\x18ftypmp42" + bytes(500), "not a picture that this browser can read"),
        ("cut.png", lambda portrait: portrait[: len(portrait) // 3], "the file is damaged"),
        (
            "huge.jpg",
            lambda _: encoded(np.zeros((8001, 8001, 3), np.uint8), "JPEG"),
            "8001 × 8001 pixels exceed",
        ),
    ],
)
def test_a_file_that_is_no_picture(pictures, portrait, name, data, said):
    add(pictures, (name, data(portrait)), ("after.png", portrait))
    result(pictures, "after.png")  # the others are recognised all the same
    assert f"{name}: " in pictures.problem()
    assert said in pictures.problem()
    pictures.page.click("#problem button")
    assert pictures.page.locator("#problem").is_hidden()


def test_pasting_and_dropping(pictures, astronaut):
    small = list(encoded(astronaut[0:300, 60:360], "JPEG", quality=95))
    code = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: 'image/png'}));
        const place = kind === 'paste' ? document : document.querySelector('#picture-drop');
        const event = kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: data})
            : new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true});
        place.dispatchEvent(event);
    }"""
    for kind in ("paste", "drop"):
        pictures.page.evaluate(code, [small, kind])
        assert "happiness" in result(pictures, f"{kind}.png").inner_text()


def test_a_higher_least_confidence_makes_answers_uncertain(pictures, astronaut):
    recognizer = Recognizer(detector="centerface", threads=1)
    blurred = (cv2.GaussianBlur(astronaut, (0, 0), sigma) for sigma in np.arange(2, 10, 0.5))
    answers = ((picture, face) for picture in blurred for face in recognizer(picture)[:1])
    picture, face = next((picture, face) for picture, face in answers if 0.45 < face.confidence < 0.9)
    add(pictures, ("blurred.png", encoded(picture)))
    answer = result(pictures, "blurred.png").locator("tbody td").first
    assert answer.inner_text() == face.emotion
    slider = pictures.page.locator("#picture-confidence")
    slider.fill("0.95")
    assert answer.inner_text() == f"uncertain ({face.emotion}?)"
    slider.fill("0.4")
    assert answer.inner_text() == face.emotion


def test_the_prior_can_be_balanced(pictures):
    """The same faces again with the other prior, as Python gives them, and back."""
    drawn = np.full((320, 320, 3), 127, dtype=np.uint8)
    drawn[60:260, 60:260] = draw_face(5, (0, 5), 200).image
    add(pictures, ("drawn.png", encoded(drawn)))
    card = result(pictures, "drawn.png")
    prior = pictures.page.locator("#picture-prior")
    assert [option.inner_text() for option in prior.locator("option").all()] == ["as in training", "more often"]
    for name in ("balanced", "trained"):
        prior.select_option(name)
        (expected,) = Recognizer("int8", detector="centerface", prior=name)(drawn)
        shares = {key: 100 * value for key, value in expected.probabilities.items()}
        most = max(shares, key=shares.get)
        cell = f"document.querySelector('.result [data-name={most}]')"
        until(pictures.page, f"Math.abs(parseFloat({cell}.textContent) - {shares[most]}) < 2")
        cells = card.locator("td[data-name]").all()
        found = {each.get_attribute("data-name"): float(each.text_content()[:-2]) for each in cells}
        assert found == pytest.approx(shares, abs=3)
