"""``data.crop=detect``: photographs become the crops that live recognition would cut; what has no face is listed."""

import logging

import cv2
import numpy as np
import pytest
from made_reader import png

from emodet.data.sources import Source
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.inference.detectors import find_faces, make_detector
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48, margin=0.1, alignment="eyes")


def photograph(*faces):
    """uint8 (240, 480, 3), RGB: a portrait (left, side) once or more on a plain ground."""
    head = pytest.importorskip("skimage.data").astronaut()[0:256, 96:352]
    picture = np.full((240, 480, 3), (120, 140, 150), dtype=np.uint8)
    for left, side in faces:
        picture[20 : 20 + side, left : left + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    return picture


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    pictures = {"bored/one": ((60, 160),), "bored/two": ((20, 110), (240, 180)), "engaged/none": ()}
    for name, faces in {**pictures, "engaged/small": ((200, 130),)}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / f"{name}.png").write_bytes(png(photograph(*faces)))
    return root


def test_crops_are_those_of_live_recognition_and_others_are_listed(photos, tmp_path):
    pack, _ = Source(photos, "class_folders", packs=tmp_path, crop="detect", processes=1).prepare(CROP)
    keys = pack.table.key.tolist()
    assert keys == ["bored/one.png", "bored/two.png", "engaged/small.png"]
    assert pack.manifest["detection"]["without_face"] == ["engaged/none.png"]
    assert pack.manifest["detection"]["several_faces"] == ["bored/two.png"]
    for row, key in enumerate(keys):
        image = decode_rgb((photos / key).read_bytes())
        found = max(find_faces(make_detector("auto"), image), key=lambda face: face.side)
        assert np.array_equal(pack.images([row])[0], CROP.crop(image, found.box, found.landmarks))


def test_whole_photographs_that_are_packed_as_they_are_get_a_warning(photos, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Source(photos, "class_folders", packs=tmp_path, processes=1).prepare(CROP)
    assert "data.crop=detect" in caplog.text
    assert "3 of 4" in caplog.text


def test_pictures_without_any_face_are_refused(tmp_path):
    for name in ("bored", "engaged"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(photograph()))
    with pytest.raises(EmodetError, match=r"data\.crop=detect.*data\.crop=image"):
        Source(tmp_path, "class_folders", packs=tmp_path / "packs", crop="detect", processes=1).prepare(CROP)
