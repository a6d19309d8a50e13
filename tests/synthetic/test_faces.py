"""Drawn faces, of which `tests/golden` pins the pixels: the same for the same seed; and as a release on disk."""

from collections import Counter

import numpy as np
import pytest

from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.synthetic.faces import draw_face
from emodet.synthetic.releases import write_release


@pytest.mark.parametrize("size", [32, 48, 96, 113, 224])
def test_a_face_follows_from_its_seed_with_box_and_landmarks(size):
    face = draw_face("happiness", (1, size), size)
    assert (face.image.shape, face.image.dtype) == ((size, size, 3), np.uint8)
    assert np.array_equal(face.image, draw_face("happiness", (1, size), size).image)
    assert np.ptp(face.image.astype(int)) > 80
    points = np.asarray(face.landmarks)
    x1, y1, x2, y2 = face.box
    assert x2 - x1 == pytest.approx(y2 - y1)
    assert 0.6 * size < x2 - x1 < 0.9 * size
    assert ((points > (x1, y1)) & (points < (x2, y2))).all()
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize("emotion", [8, "uncertain", "bored"])
def test_unknown_emotions(emotion):
    with pytest.raises(EmodetError, match=str(emotion)):
        draw_face(emotion, 0)


# A release on disk.


@pytest.mark.parametrize(("balance", "first"), [("affectnet", [20, 35, 7, 4, 3, 2, 7, 2]), ("uniform", [10] * 8)])
def test_the_balance_of_training_classes(tmp_path, balance, first):
    write_release(tmp_path / "faces", {"train": 80}, size=32, balance=balance)
    found = Counter(sample.emotion for sample in open_reader(tmp_path / "faces").read().samples)
    assert [found[emotion] for emotion in range(8)] == first


def test_existing_files_are_kept(tmp_path):
    root = tmp_path / "faces"
    write_release(root, {"train": 8}, size=32)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_release(root, {"train": 8, "val": 0}, size=32)
    with pytest.raises(EmodetError, match=r"seed 0 instead of 1"):
        write_release(root, {"train": 8}, seed=1, size=32)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(EmodetError, match=r"root=.*empty"):
        write_release(tmp_path, {"train": 8})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("faces", {}), ("faces", {"train": -1}), ("faces", {"dev": 5, "train": 8})),
        *(("size", 8), ("seed", -1), ("balance", "even")),
    ],
)
def test_arguments_out_of_range(tmp_path, name, value):
    with pytest.raises(EmodetError, match=f"{name}=" + ("" if name == "faces" else repr(value))):
        write_release(**({"root": tmp_path / "faces", "faces": {"train": 8}} | {name: value}))
    assert list(tmp_path.iterdir()) == []
