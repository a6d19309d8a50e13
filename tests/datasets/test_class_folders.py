"""Class folders: named or numbered, in splits or not; CK+48 and JAFFE, whose file names have the person."""

import os

import pytest
from on_disk import error_of, faces, has_note, put_files, read

from emodet.datasets.class_folders import CkPlus48, ClassFolders
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS


def test_named_folders_in_splits(tmp_path):
    put_files(tmp_path, "train/Happy/a.jpg", "train/SUPRISE/b.png", "valid/sad/c.jpeg", "Test/fearful/s1/t/e.tif")
    put_files(tmp_path, "train/Happy/Thumbs.db", "train/Happy/._a.jpg", "notes.txt", ".cache/happy/x.jpg")
    reader = open_reader(tmp_path)
    listing = reader.read()
    assert faces(listing) == {
        "train/Happy/a.jpg": ("train", "happiness"),
        "train/SUPRISE/b.png": ("train", "surprise"),
        "valid/sad/c.jpeg": ("val", "sadness"),
        "Test/fearful/s1/t/e.tif": ("test", "fear"),
    }
    assert not listing.left_out
    assert reader.encoded(listing.samples[0]) == b"Test/fearful/s1/t/e.tif"


def test_from_0_they_are_affectnets_and_10_comes_after_2(tmp_path):
    put_files(tmp_path, *(f"train/{number}/x{number}.jpg" for number in range(11)), "train/10/y.jpg", "val/7/z.jpg")
    listing = read(tmp_path)
    assert faces(listing) == {
        **{f"train/{number}/x{number}.jpg": ("train", name) for number, name in enumerate(EMOTIONS)},
        "val/7/z.jpg": ("val", "contempt"),
    }
    assert listing.left_out == {"none": 1, "uncertain": 1, "no-face": 2}
    assert has_note(listing, "affectnet", "2 sadness, 3 surprise", "9 uncertain, 10 no-face")


class TestNothingIsLostSilently:
    def test_links_are_followed_and_a_loop_ends(self, tmp_path):
        put_files(
            tmp_path, "data/train/happy/a.jpg", "data/train/sad/b.jpg", "album/c.jpg", "album/sub/d.jpg", "e/e.jpg"
        )
        train = tmp_path / "data/train"
        for link, target in (
            (train / "happy/again", train / "happy"),
            (train / "sad/up", train),
            (train / "sad/more", tmp_path / "album"),
            (train / "fear", tmp_path / "e"),
            (train / "happy/self", "self"),
            (train / "anger", tmp_path / "gone"),
        ):
            link.symlink_to(target)
        listing = read(tmp_path / "data")
        keys = set(faces(listing))
        assert {"train/sad/more/c.jpg", "train/sad/more/sub/d.jpg", "train/fear/e.jpg"} <= keys
        assert len([key for key in keys if key.endswith("a.jpg")]) == 2  # itself, and below sad/up/
        assert has_note(listing, "happy/self")
        assert has_note(listing, "train/anger")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every folder can be read by root")
    @pytest.mark.parametrize("folder", ["val/sad", "val"])
    def test_a_folder_that_cannot_be_read_is_named(self, folder, tmp_path):
        put_files(tmp_path, "train/happy/a.jpg", "train/sad/b.jpg", "val/happy/c.jpg", "val/sad/d.jpg")
        (tmp_path / folder).chmod(0)
        try:
            assert f"{folder}: cannot be read" in error_of(tmp_path)
        finally:
            (tmp_path / folder).chmod(0o755)


@pytest.mark.parametrize("folders", [["happy"], ["images", "labels"], ["12", "13", "104"]])
def test_other_folders_are_no_class_folders(tmp_path, folders):
    put_files(tmp_path, *(f"{folder}/x.jpg" for folder in folders))
    assert not ClassFolders.base_of(tmp_path)


def test_ckplus_knows_persons(tmp_path):
    put_files(tmp_path, "CK+48/anger/S010_004_00000017.png", "CK+48/anger/S010_004_00000018.png")
    put_files(tmp_path, "CK+48/happy/S010_006_00000013.png", "CK+48/contempt/S138_008_00000007.png")
    reader = open_reader(tmp_path)
    assert [(EMOTIONS[s.emotion], s.subject, s.split) for s in reader.read().samples] == [
        ("anger", "S010", "train"),
        ("anger", "S010", "train"),
        ("contempt", "S138", "train"),
        ("happiness", "S010", "train"),
    ]
    assert sum(CkPlus48.expected["train"].values()) == 981
    put_files(tmp_path / "other", "anger/S1_2.png", "happy/x.png")
    assert not CkPlus48.base_of(tmp_path / "other")


@pytest.mark.parametrize("folders", ["{}", "jaffe/{}", "images/KA/{}", "class/{}"])
def test_jaffe_by_the_code_in_the_name(tmp_path, folders):
    names = ["KA.AN1.39.tiff", "KA.HA2.30.tiff", "YM.NE3.51.tiff", "tm.su1.180.tiff.png", "README.txt", "logo.png"]
    put_files(tmp_path, *(folders.format(name) for name in names))
    reader = open_reader(tmp_path / "images" if "KA/" in folders else tmp_path)
    listing = reader.read()
    assert [(EMOTIONS[s.emotion], s.subject) for s in listing.samples] == [
        ("anger", "KA"),
        ("happiness", "KA"),
        ("neutral", "YM"),
        ("surprise", "TM"),
    ]
    assert listing.left_out == {"picture without a code in its name": 1}
    assert has_note(listing, "4 (213)")
    assert reader.encoded(listing.samples[0]).endswith(b"KA.AN1.39.tiff")
