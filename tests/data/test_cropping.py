"""The four crop modes, from a release on disk to the pack: each is what `Preprocessing` cuts live, or is refused."""

import logging

import cv2
import numpy as np
import pytest
from made_files import encoded, put
from made_reader import MadeReader, records
from made_releases import RELEASES

from emodet.data.packing import Packing
from emodet.data.sources import Source
from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.inference.detectors import find_faces, make_detector
from emodet.preprocessing import Preprocessing

MODES = {
    "none": ("image", {}),
    "box": ("box", {}),
    "scaled box": ("box", {"margin": 0.25}),
    "aligned by the eyes": ("box", {"margin": 0.1, "alignment": "eyes"}),
}
WITH_BOXES = ["affectnet_csv", "expw", "own_csv"]
TILTED = ((12.0, 18.0), (28.0, 26.0), (18.0, 28.0), (12.0, 32.0), (24.0, 36.0))


def prepare(name, root, mode, **more):
    crop, values = MODES[mode]
    options = {"processes": 1, "packs": root.parent / "packs", "crop": crop} | more
    return Source(root, name, **options).prepare(Preprocessing(size=24, **values))[0]


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, mode) for name in WITH_BOXES for mode in list(MODES)[:3]), ("affectnet_csv", "aligned by the eyes")],
)
def test_packed_crops_equal_those_of_preprocessing(name, mode, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    crop, values = MODES[mode]
    pack = prepare(name, made.root, mode)
    reader = open_reader(made.root, name, **({"landmarks": True} if "alignment" in values else {}))
    faces = {record.key: record for record in reader.read().samples}
    for row, key in enumerate(pack.table.key.tolist()):
        stored, box = decode_rgb(reader.encoded(faces[key])), None if crop == "image" else faces[key].box
        wanted = Preprocessing(size=24, **values).crop(stored, box, faces[key].landmarks)
        assert np.array_equal(pack.images([row])[0], wanted)


BOX, EYES = r"data\.crop=box: {0} of {0} faces have no box", r"preprocessing\.alignment=eyes: {0} of {0} faces have no"


@pytest.mark.parametrize(
    ("name", "mode", "options", "said"),
    [
        *((name, "box", {}, BOX) for name in RELEASES if name not in WITH_BOXES),
        *((name, "aligned by the eyes", {}, EYES) for name in ("expw", "own_csv")),
        ("affectnet_csv", "aligned by the eyes", {"reader_options": {"landmarks": False}}, EYES),
    ],
)
def test_missing_boxes_and_landmarks_are_refused(name, mode, options, said, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    with pytest.raises(EmodetError, match=said.format(made.faces)):
        prepare(name, made.root, mode, **options)
    assert not list((tmp_path / "packs").glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("lacking", "values", "said"),
    [("box", {}, "no box, which data.crop=box needs"), ("landmarks", {"alignment": "eyes"}, "no landmarks, which")],
)
def test_few_faces_without_a_box_or_landmarks_are_listed(lacking, values, said, tmp_path):
    faces = records(20, emotion=0, box=(5, 5, 40, 40), landmarks=TILTED)
    object.__setattr__(faces[7], lacking, None)
    options = {"crop": "box", "processes": 1, "progress": False}
    reader, preprocessing = MadeReader(tmp_path, faces), Preprocessing(size=24, **values)
    with pytest.raises(EmodetError, match=r"max_unreadable=0\.05 leaves them out"):
        Packing(reader, preprocessing, tmp_path / "packs", max_unreadable=0.01, **options).make()
    pack = Packing(reader, preprocessing, tmp_path / "packs", max_unreadable=0.05, **options).make()
    assert len(pack) == 19
    (entry,) = pack.manifest["unreadable"]
    assert entry["key"] == faces[7].key
    assert said in entry["reason"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("affectnet_csv", "5,5,30,30", "500,5,30,30"),
        ("expw", "4 6 36 34", "4 500 530 34"),
        ("own_csv", "5,5,35,35", "5,500,35,535"),
    ],
)
def test_boxes_outside_their_picture_are_listed(name, old, new, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    made.said_in.write_text(made.said_in.read_text().replace(old, new, 1))
    pack = prepare(name, made.root, "box", max_unreadable=0.2)
    assert len(pack) == 7
    (entry,) = pack.manifest["unreadable"]
    assert "is outside the 40×40 picture" in entry["reason"]


# ``data.crop=detect``: photographs become the crops that live recognition would cut; what has no face is listed.


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
        put(root / f"{name}.png", encoded(photograph(*faces)))
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


def test_photographs_packed_whole_get_a_warning_and_those_without_any_face_are_refused(photos, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Source(photos, "class_folders", packs=tmp_path, processes=1).prepare(CROP)
    assert "data.crop=detect" in caplog.text
    assert "3 of 4" in caplog.text
    for name in ("bored", "engaged"):
        put(tmp_path / name / "0.png", encoded(photograph()))
    with pytest.raises(EmodetError, match=r"data\.crop=detect.*data\.crop=image"):
        Source(tmp_path, "class_folders", packs=tmp_path / "packs", crop="detect", processes=1).prepare(CROP)
