"""The browser cuts and answers as Python does: the same crop, the same probabilities."""

import base64
import json

import cv2
import numpy as np
import pytest
from model_stub import write_stub

from emodet import Recognizer
from emodet.inference.centerface import CenterFace
from emodet.inference.detectors import find_faces
from emodet.inference.faces import Detection
from emodet.modelfile import SHIPPED, read_model_file
from emodet.preprocessing import Preprocessing
from emodet.synthetic.faces import draw_face


def script(arguments, body, *imports):
    """A function of the page that decodes `text`, its first argument, to bytes, with names of `js/recognition/`."""
    names = [f"const {{ {name} }} = await import(`${{base}}js/recognition/{file}.js`);" for name, file in imports]
    return f"""async ([text, {arguments}]) => {{
        const base = new URL('.', document.baseURI).href;
        const about = await (await fetch(`${{base}}page.json`)).json();
        const data = Uint8ClampedArray.from(atob(text), (letter) => letter.charCodeAt(0));
        {" ".join(names)}
        {body}
    }}"""


NETWORKS, RECOGNIZER = ("openNetworks", "networks"), ("Recognizer", "recognizer")
RUN = script(
    "count, model",
    """about.model = { ...about.model, ...model };
    const networks = await openNetworks(base, about);
    const rows = [...await networks.predict(new Uint8Array(data), count)];
    const first = rows.slice(0, networks.columns);
    const recognizer = new Recognizer(networks, about);
    return [rows, recognizer.face({ box: [0, 0, 1, 1] }, first, 0, true), recognizer.balanced(first)];""",
    *(NETWORKS, RECOGNIZER),
)
CUT = script(
    "width, height, cases",
    """const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    const picture = { data, width, height };
    return cases.map(([box, landmarks, preprocessing]) => encode(crop(picture, box, landmarks, preprocessing)));""",
    ("crop", "crop"),
)
FIND = script(
    "width, height",
    """globalThis.detector ??= new Recognizer(await openNetworks(base, about), about).detector;
    return detector.detect({ width, height, data }, about.detector.still_sides);""",
    *(NETWORKS, RECOGNIZER),
)
FOLLOW = script(
    "width, height, frames, box",
    """const follower = new Follower();
    let detection = { box, landmarks: null, score: 1 };
    const found = [];
    for (let frame = 0; frame < frames; frame += 1) {
        const size = width * height * 4;
        follower.addFrame({ width, height, data: data.subarray(frame * size, (frame + 1) * size) });
        if (frame) detection = follower.follow(detection);
        if (!detection) return found;
        found.push(detection.box);
    }
    return found;""",
    ("Follower", "optical_flow"),
)


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def rgba(picture):
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


def face_crops(astronaut, preprocessing, count):
    """Drawn faces of all emotions, the astronaut lit and framed differently, and noise."""
    rng, crops = np.random.default_rng(0), []
    for number in range(count):
        picture, box = draw_face(number % 8, (0, number), 64).image, None
        if number % 4 == 3:
            picture = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        elif number % 4 == 2:
            x, y, side = rng.uniform(160, 200), rng.uniform(60, 90), rng.uniform(70, 130)
            picture = np.clip(astronaut * rng.uniform(0.3, 1.6), 0, 255).astype(np.uint8)
            box = (x, y, x + side, y + side)
        crops.append(preprocessing.crop(picture, box))
    return np.stack(crops)


@pytest.fixture(scope="module")
def page(shared, site):
    for precision in ("fp32", "int8", "accurate"):
        (site.folder / "model" / f"emodet-{precision}.onnx").write_bytes(SHIPPED[precision].read_bytes())
    return shared.open(ready=False)


SLOW = pytest.mark.slow
SHARES = (0.3, *[0.1] * 7)


@pytest.mark.parametrize(
    ("name", "limit", "count"),
    [
        *(("fp32", 1e-3, 64), ("int8", 0.02, 64), ("accurate", 0.05, 64), ("both", 1e-3, 64)),
        *(pytest.param("fp32", 1e-3, 2000, marks=SLOW), pytest.param("int8", 0.02, 2000, marks=SLOW)),
    ],
)
def test_the_same_outputs(page, site, astronaut, name, limit, count):
    """`both` is a model file with valence and arousal."""
    file = site.folder / "model" / f"emodet-{name}.onnx"
    model = read_model_file(write_stub(file, valence_arousal=True, class_shares=SHARES) if name == "both" else name)
    crops = face_crops(astronaut, model.info.preprocessing, count)
    expected = np.concatenate([part for part in model.run(crops) if part is not None], axis=1)
    described = {key.removeprefix("emodet."): json.loads(value) for key, value in model.info.to_metadata().items()}
    rows, face, balanced = page.evaluate(RUN, [text(crops), count, {**described, "file": f"model/{file.name}"}])
    found = np.array(rows).reshape(expected.shape)
    best, same = expected[:, :8].argmax(axis=1), found[:, :8].argmax(axis=1)
    assert len(set(best)) >= 4  # otherwise agreement would mean little
    assert np.abs(found - expected).max() <= limit
    assert (same == best).mean() >= 0.99
    recognizer = Recognizer(model, detector="none", prior="balanced")
    (other,) = recognizer.classify(list(crops[:1]), [Detection((0, 0, 1, 1), None, 1.0)])
    assert balanced[:8] == pytest.approx(list(other.probabilities.values()), abs=limit)
    assert (face["valence"], face["arousal"]) == pytest.approx((other.valence, other.arousal), abs=limit)


def test_the_same_crops(page, astronaut):
    """Every kind of preprocessing, boxes of all sizes, also over the picture's edges: within one level of 255."""
    rng = np.random.default_rng(1)
    picture = np.ascontiguousarray(astronaut[40:340, 120:420])
    cases = [(Preprocessing(size=48), None, None)]
    for _ in range(160):
        kind = Preprocessing(
            size=int(rng.choice([48, 64, 96])),
            margin=float(rng.choice([0, 0.1, 0.25])),
            alignment=str(rng.choice(["none", "eyes"])),
            colour=str(rng.choice(["rgb", "grey"])),
            interpolation=str(rng.choice(["linear", "cubic"])),
            detail=None if rng.random() < 0.7 else 40,
        )
        wide, x, y = rng.uniform(12, 250), rng.uniform(-20, 250), rng.uniform(-20, 250)
        box = [float(value) for value in (x, y, x + wide, y + wide * rng.uniform(0.8, 1.3))]
        eyes = [[x + 0.3 * wide, y + 0.4 * wide + rng.normal(0, 0.08 * wide)], [x + 0.7 * wide, y + 0.4 * wide]]
        landmarks = [[float(value) for value in eye] for eye in eyes]
        cases.append((kind, box, landmarks))
    given = [[box, landmarks, kind.to_dict()] for kind, box, landmarks in cases]
    found = page.evaluate(CUT, [text(rgba(picture)), 300, 300, given])
    for (kind, box, landmarks), encoded in zip(cases, found, strict=True):
        expected = kind.crop(picture, box, landmarks).astype(int)
        crop = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(expected.shape).astype(int)
        assert np.abs(crop - expected).max() <= 1, (box, kind)
        assert (crop != expected).mean() < 0.15, (box, kind)


@pytest.mark.parametrize(
    ("picture", "count"),
    [
        (lambda portrait: portrait, 1),
        (
            lambda portrait: cv2.resize(portrait[30:220, 130:320], (1100, 1100)),
            1,
        ),  # very large
        (lambda portrait: np.rot90(portrait, 2), 1),
        (lambda portrait: np.rot90(portrait), 1),
        (lambda portrait: np.hstack([portrait[:, :400], cv2.GaussianBlur(portrait[:, :400], (0, 0), 4)]), 2),
        (lambda _: np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8), 0),
    ],
    ids=["portrait", "large", "upside down", "lying", "sharp and blurred", "noise"],
)
def test_the_same_faces(page, astronaut, picture, count):
    image = np.ascontiguousarray(picture(astronaut))
    expected = find_faces(CenterFace(threads=1), image)
    found = page.evaluate(FIND, [text(rgba(image)), image.shape[1], image.shape[0]])
    assert len(found) == len(expected) == count
    for one, other in zip(found, expected, strict=True):
        # int8 kernels round differently on other processors.
        tolerance = 0.03 * other.side + 0.5
        assert one["box"] == pytest.approx(other.box, abs=tolerance)
        assert one["score"] == pytest.approx(other.score, abs=0.06)
        assert (one["landmarks"] is None) == (other.landmarks is None)
        if other.landmarks:
            assert np.array(one["landmarks"]) == pytest.approx(np.array(other.landmarks), abs=tolerance)


def test_a_face_is_followed_until_it_is_gone(page, astronaut):
    """Without looking for it again: over frames in which it moves, turns and grows."""
    frames, boxes = [], []
    for index in range(8):
        turn = cv2.getRotationMatrix2D((223, 118), index * 0.7, 1 + 0.012 * index)
        turn[:, 2] += (5 * index, 3 * index)
        frames.append(rgba(cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)))
        x, y = turn @ (223, 118, 1)
        half = 50 * (1 + 0.012 * index)
        boxes.append([x - half, y - half, x + half, y + half])
    found = page.evaluate(FOLLOW, [text(np.stack(frames)), 512, 512, len(frames), boxes[0]])
    assert len(found) == len(frames)
    assert np.abs(np.array(found) - np.array(boxes)).max() < 2.5
    blank = np.full_like(astronaut, 120)
    found = page.evaluate(FOLLOW, [text(np.stack([rgba(astronaut), rgba(blank)])), 512, 512, 2, [173, 68, 273, 168]])
    assert len(found) == 1
