"""Class folders: named or numbered, in splits or not; CK+48 and JAFFE, whose names say who it is."""

import os
import pickle

import pytest

from emodet.datasets.ckplus import CkPlus48
from emodet.datasets.class_folders import ClassFolders
from emodet.datasets.jaffe import Jaffe
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError


def put(root, *paths):
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())


def faces(listing):
    return {r.key: (r.split, None if r.emotion is None else EMOTIONS[r.emotion]) for r in listing.samples}


def test_named_folders_in_splits(tmp_path):
    put(
        tmp_path,
        "train/Happy/a.jpg",
        "train/SUPRISE/b.png",
        "valid/sad/c.jpeg",
        "Test/Anger/d.BMP",
        "Test/fearful/e.tif",
    )
    put(tmp_path, "train/Happy/Thumbs.db", "train/Happy/._a.jpg", "notes.txt", ".cache/happy/x.jpg")
    reader = open_reader(tmp_path)
    assert type(reader) is ClassFolders
    assert faces(reader.read()) == {
        "train/Happy/a.jpg": ("train", "happiness"),
        "train/SUPRISE/b.png": ("train", "surprise"),
        "valid/sad/c.jpeg": ("val", "sadness"),
        "Test/Anger/d.BMP": ("test", "anger"),
        "Test/fearful/e.tif": ("test", "fear"),
    }
    record = reader.read().samples[0]
    assert pickle.loads(pickle.dumps(reader)).encoded(record) == record.key.encode()


def test_names_with_a_number_before_them_go_by_the_name(tmp_path):
    # The numbers are FER2013's: taken for AffectNet's ids they would be wrong.
    put(tmp_path, "train/0_angry/a.jpg", "train/3_happy/b.jpg", "val/6_neutral/c.jpg")
    listing = open_reader(tmp_path).read()
    assert [name for _, name in faces(listing).values()] == ["anger", "happiness", "neutral"]
    assert not any("numbered" in note for note in listing.notes)


def test_folders_that_belong_to_no_split_are_all_training(tmp_path):
    put(tmp_path, "neutral/a.jpg", "contempt/b.jpg")
    listing = open_reader(tmp_path).read()
    assert faces(listing) == {"contempt/b.jpg": ("train", "contempt"), "neutral/a.jpg": ("train", "neutral")}
    assert any("no split" in note for note in listing.notes)


def test_numbers_from_0_are_affectnets_and_10_comes_after_2(tmp_path):
    put(tmp_path, *(f"train/{number}/x{number}.jpg" for number in range(11)))
    put(tmp_path, "train/10/y.jpg", "val/7/z.jpg")
    listing = open_reader(tmp_path).read()
    assert faces(listing) == {
        **{f"train/{number}/x{number}.jpg": ("train", name) for number, name in enumerate(EMOTIONS)},
        "val/7/z.jpg": ("val", "contempt"),
    }
    assert listing.left_out == {"none": 1, "uncertain": 1, "no-face": 2}
    (note,) = [note for note in listing.notes if "numbered" in note]
    assert "affectnet's: 0 neutral, 1 happiness, 2 sadness" in note
    assert note.index("2 sadness") < note.index("9 uncertain") < note.index("10 no-face")


def test_numbers_1_to_7_without_0_are_rafdbs(tmp_path):
    put(tmp_path, *(f"train/{number}/x.jpg" for number in range(1, 8)), "test/4/y.jpg")
    listing = open_reader(tmp_path).read()
    assert faces(listing) == {
        **{f"train/{number}/x.jpg": ("train", name) for number, name in enumerate(RAFDB_ORDER, start=1)},
        "test/4/y.jpg": ("test", "happiness"),
    }
    assert any("rafdb's: 1 surprise" in note for note in listing.notes)


def test_an_order_can_be_named(tmp_path):
    put(tmp_path, *(f"train/{number}/x.jpg" for number in range(7)))
    assert faces(open_reader(tmp_path).read())["train/0/x.jpg"] == ("train", "neutral")
    reader = open_reader(tmp_path, order="fer2013")
    assert faces(reader.read())["train/0/x.jpg"] == ("train", "anger")
    assert reader.options() == {"order": "fer2013"}
    with pytest.raises(EmodetError, match=r"order='ck': there are auto, affectnet, alphabetical"):
        open_reader(tmp_path, order="ck")


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (["2", "3"], {}, "numbered 2, 3, which does not fit order=auto"),
        (["0", "1", "11"], {}, "numbered 0, 1, 11, which does not fit order=affectnet"),
        (["1", "8"], {"order": "rafdb"}, "numbered 1, 8, which does not fit order=rafdb"),
        (["1", "happy"], {}, "classes are numbered (1) and named (happy) at once"),
        (["happy", "sad", "person"], {}, "class name 'person' is not known"),
        (["happy", "sad"], {"order": "rafdb"}, "order=rafdb is for numbered classes, but these have names"),
    ],
)
def test_folders_that_fit_no_order_stop(tmp_path, folders, options, message):
    put(tmp_path, *(f"train/{folder}/x.jpg" for folder in folders))
    with pytest.raises(EmodetError) as caught:
        ClassFolders(tmp_path, **options).read()
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_one_release_folder_around_it_and_pictures_further_down(tmp_path):
    put(tmp_path, "DATASET/train/happy/s1/a.jpg", "DATASET/train/sad/s1/t/a.jpg", "__MACOSX/train/x.jpg")
    reader = open_reader(tmp_path)
    assert set(faces(reader.read())) == {"train/happy/s1/a.jpg", "train/sad/s1/t/a.jpg"}
    assert reader.encoded(reader.read().samples[1]) == b"DATASET/train/sad/s1/t/a.jpg"


def test_a_second_folder_for_one_split_is_named(tmp_path):
    put(tmp_path, "train/happy/a.jpg", "train/sad/a.jpg", "val/happy/b.jpg", "valid/happy/c.jpg")
    listing = ClassFolders(tmp_path).read()
    assert "valid/happy/c.jpg" not in faces(listing)
    assert "Read train, val; passed over valid." in listing.notes


def test_a_loop_of_links_ends(tmp_path):
    put(tmp_path, "train/happy/a.jpg", "train/sad/b.jpg", "elsewhere/c.jpg")
    try:
        (tmp_path / "train/happy/again").symlink_to(tmp_path / "train/happy", target_is_directory=True)
        (tmp_path / "train/sad/up").symlink_to(tmp_path / "train", target_is_directory=True)
        (tmp_path / "train/happy/self").symlink_to("self")
        (tmp_path / "train/sad/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    listing = open_reader(tmp_path).read()
    names = [key.rpartition("/")[2] for key in faces(listing)]
    assert names.count("a.jpg") == 1 + 1  # once as itself, once below sad/up/
    assert "train/sad/more/c.jpg" in faces(listing)
    (tmp_path / "self").symlink_to("self")
    assert type(open_reader(tmp_path)) is ClassFolders


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every folder can be read by root")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    put(tmp_path, "train/happy/a.jpg", "train/sad/b.jpg")
    (tmp_path / "train/sad").chmod(0)
    try:
        with pytest.raises(EmodetError, match="sad: cannot be read"):
            ClassFolders(tmp_path).read()
    finally:
        (tmp_path / "train/sad").chmod(0o755)


def test_classes_without_a_picture_stop(tmp_path):
    put(tmp_path, "train/happy/readme.md", "train/sad/readme.md")
    with pytest.raises(EmodetError, match="no picture lies in the class folders"):
        ClassFolders(tmp_path).read()


@pytest.mark.parametrize("folders", [["happy"], ["images", "labels"], ["12", "13", "104"]])
def test_other_folders_are_no_class_folders(tmp_path, folders):
    put(tmp_path, *(f"{folder}/x.jpg" for folder in folders))
    assert not ClassFolders.recognises(tmp_path)


def test_fer2013_as_class_folders_has_one_test(tmp_path):
    put(tmp_path, "train/angry/Training_1.jpg", "train/happy/Training_2.jpg")
    put(tmp_path, "test/angry/PublicTest_3.jpg", "test/surprise/PrivateTest_4.jpg")
    assert sorted(split for split, _ in faces(open_reader(tmp_path).read()).values()) == [
        "test",
        "test",
        "train",
        "train",
    ]


def test_ckplus_knows_persons(tmp_path):
    put(tmp_path, "CK+48/anger/S010_004_00000017.png", "CK+48/anger/S010_004_00000018.png")
    put(tmp_path, "CK+48/happy/S010_006_00000013.png", "CK+48/contempt/S138_008_00000007.png")
    reader = open_reader(tmp_path)
    assert type(reader) is CkPlus48
    listing = reader.read()
    assert [(r.emotion, r.subject, r.split) for r in listing.samples] == [
        (6, "S010", "train"),
        (6, "S010", "train"),
        (7, "S138", "train"),
        (1, "S010", "train"),
    ]
    assert sum(CkPlus48.expected["train"].values()) == 981


def test_other_class_folders_are_not_ckplus(tmp_path):
    put(tmp_path, "anger/S1_2.png", "happy/x.png")
    assert not CkPlus48.recognises(tmp_path)
    assert not CkPlus48.recognises(tmp_path / "nothing")


@pytest.mark.parametrize("folders", ["{}", "jaffe/{}", "images/KA/{}", "class/{}"])
def test_jaffe_by_the_code_in_the_name(tmp_path, folders):
    names = ["KA.AN1.39.tiff", "KA.HA2.30.tiff", "YM.NE3.51.tiff", "tm.su1.180.tiff.png"]
    put(tmp_path, *(folders.format(name) for name in names), folders.format("README.txt"), folders.format("logo.png"))
    root = tmp_path / "images" if "KA/" in folders else tmp_path
    reader = open_reader(root)
    assert type(reader) is Jaffe
    listing = reader.read()
    assert [(EMOTIONS[r.emotion], r.subject) for r in listing.samples] == [
        ("anger", "KA"),
        ("happiness", "KA"),
        ("neutral", "YM"),
        ("surprise", "TM"),
    ]
    assert listing.left_out == {"picture without a code in its name": 1}
    assert "Faces found (published): 4 (213)." in listing.notes
    assert reader.encoded(listing.samples[0]).endswith(b"KA.AN1.39.tiff")


def test_jaffe_twice_in_one_root_counts_once(tmp_path):
    put(tmp_path, "KA.AN1.39.tiff", "angry/KA.AN1.39.tiff", "happy/KA.HA1.29.tiff")
    listing = open_reader(tmp_path).read()
    assert [r.key for r in listing.samples] == ["KA.AN1.39.tiff", "happy/KA.HA1.29.tiff"]
    assert listing.left_out == {"same name as another picture": 1}
