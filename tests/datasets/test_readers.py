"""Which reader reads a root, and what a user is told when none does."""

import numpy as np
import pytest

from emodet.datasets.affectnet_csv import AffectNetCsv
from emodet.datasets.affectnet_npy import AffectNetNpy
from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.yolo import Yolo
from emodet.errors import EmodetError


def make_csv(root):
    root.mkdir(exist_ok=True)
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    (root / "training.csv").write_text(f"{header}\n1/a.jpg,0,0,50,50,,1,0.5,0.1\n")
    (root / "1").mkdir()
    (root / "1/a.jpg").write_bytes(b"")


def make_npy(root):
    for name in ("images", "annotations"):
        (root / "train_set" / name).mkdir(parents=True)
    (root / "train_set/images/4.jpg").write_bytes(b"")
    np.save(root / "train_set/annotations/4_exp.npy", np.array("1"))


def make_yolo(root):
    for name in ("images", "labels"):
        (root / "train" / name).mkdir(parents=True)
    (root / "data.yaml").write_text("names: [anger, happy]")
    (root / "train/images/a.jpg").write_bytes(b"")
    (root / "train/labels/a.txt").write_text("1 0.5 0.5 1 1")


RELEASES = [(make_csv, AffectNetCsv), (make_npy, AffectNetNpy), (make_yolo, Yolo)]


@pytest.mark.parametrize(("make", "reader"), RELEASES)
def test_a_release_is_recognised_by_its_signs(tmp_path, make, reader):
    make(tmp_path)
    found = open_reader(tmp_path)
    assert type(found) is reader
    assert [record.emotion for record in found.read().samples] == [1]
    assert [name for name, it in READERS.items() if it.recognises(tmp_path)] == [reader.name]


@pytest.mark.parametrize(("make", "reader"), RELEASES)
def test_a_reader_can_be_named_and_given_options(tmp_path, make, reader):
    make(tmp_path)
    assert type(open_reader(tmp_path, reader.name)) is reader
    if reader is not Yolo:
        assert open_reader(tmp_path, landmarks=True).options()["landmarks"] is True


def test_npy_comes_before_csv(tmp_path):
    make_csv(tmp_path)
    make_npy(tmp_path)
    assert type(open_reader(tmp_path)) is AffectNetNpy
    assert type(open_reader(tmp_path, "affectnet_csv")) is AffectNetCsv


def test_a_root_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make_csv(tmp_path / "release")
    assert open_reader("~/release").root == tmp_path / "release"


def test_every_reader_says_how_it_is_called_and_recognised():
    for name, reader in READERS.items():
        assert reader.name == name
        assert reader.title
        assert reader.signs


def test_a_missing_root(tmp_path):
    with pytest.raises(EmodetError, match=r"data.root=.*nowhere does not exist"):
        open_reader(tmp_path / "nowhere")


@pytest.mark.parametrize("reader", ["auto", *READERS])
def test_an_empty_root(tmp_path, reader):
    with pytest.raises(EmodetError, match=r"data.root=.* is empty"):
        open_reader(tmp_path, reader)


@pytest.mark.parametrize("name", ["holiday.jpg", "data.yaml", "training.csv", "train_set", "faces.parquet"])
def test_a_root_of_no_known_release_lists_the_known_ones(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\x00")
    with pytest.raises(EmodetError) as caught:
        open_reader(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert name in message
    assert "data.reader=NAME" in message
    for reader in READERS.values():
        assert reader.name in message
        assert reader.signs in message


def test_a_file_as_root_is_no_known_release(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(EmodetError, match="it is a file"):
        open_reader(tmp_path / "notes.txt")


def test_an_unknown_reader(tmp_path):
    with pytest.raises(
        EmodetError, match=r"data.reader='affectnet' is not known; there are auto, affectnet_plus, affectnet_npy"
    ):
        open_reader(tmp_path, "affectnet")


@pytest.mark.parametrize("reader", list(READERS))
def test_a_reader_that_is_named_for_another_release_says_what_it_expects(tmp_path, reader):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(EmodetError, match=r"data.root=.*[Ee]xpected"):
        open_reader(tmp_path, reader)


def test_an_unknown_option_names_the_known_ones(tmp_path):
    make_csv(tmp_path)
    with pytest.raises(EmodetError, match=r"affectnet_csv: 'landmark' is no option.*landmarks=False"):
        open_reader(tmp_path, landmark=True)
    with pytest.raises(EmodetError, match=r"landmarks='yes' must be true or false"):
        open_reader(tmp_path, landmarks="yes")
    make_yolo(tmp_path / "yolo")
    with pytest.raises(EmodetError, match=r"yolo: 'landmarks' is no option of it.*none"):
        open_reader(tmp_path / "yolo", landmarks=True)
