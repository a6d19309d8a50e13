"""Lists of ``path label`` lines, and RAF-DB's and ExpW's own kinds of them."""

import contextlib
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.expw import ExpW
from emodet.datasets.list_files import ListFiles
from emodet.datasets.rafdb import RafDb
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

RAFDB_LIST = "EmoLabel/list_patition_label.txt"


def put_pictures(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def put_text(root, name, *lines, encoding="utf-8"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([*lines, ""]), encoding=encoding)


def faces(listing):
    return {record.key: (record.split, EMOTIONS[record.emotion]) for record in listing.samples}


def test_lists_of_paths_and_labels(tmp_path):
    put_text(
        tmp_path, "affectnet_train.txt", "1/a b.jpg 6", "# mine", "", "2\\c.JPG 0", "2/n.jpg 8", encoding="utf-8-sig"
    )
    put_text(tmp_path, "val_list.txt", "3/d.jpg\t7", "3/e.jpg   3")
    put_pictures(tmp_path, *(f"images/{name}.jpg" for name in ("1/a b", "2/c", "2/n", "3/d", "3/e")))
    reader = open_reader(tmp_path)
    assert type(reader) is ListFiles
    listing = reader.read()
    assert faces(listing) == {
        "images/1/a b.jpg": ("train", "anger"),
        "images/2/c.jpg": ("train", "neutral"),
        "images/3/d.jpg": ("val", "contempt"),
        "images/3/e.jpg": ("val", "surprise"),
    }
    assert listing.left_out == {"none": 1}
    record = listing.samples[1]
    assert pickle.loads(pickle.dumps(reader)).encoded(record) == b"images/2/c.jpg"


def test_labels_are_understood_over_all_lists_together(tmp_path):
    # 1 to 7 in the validation list alone would be RAF-DB's.
    put_text(tmp_path, "train.txt", "t.jpg 0")
    put_text(tmp_path, "val.txt", *(f"v{number}.jpg {number}" for number in range(1, 8)))
    put_pictures(tmp_path, "t.jpg", *(f"v{number}.jpg" for number in range(1, 8)))
    assert faces(open_reader(tmp_path).read())["v1.jpg"] == ("val", "happiness")
    (tmp_path / "train.txt").unlink()
    listing = open_reader(tmp_path).read()
    assert faces(listing)["v1.jpg"] == ("val", "surprise")
    assert any("rafdb's" in note for note in listing.notes)
    assert faces(open_reader(tmp_path, order="affectnet").read())["v1.jpg"] == ("val", "happiness")


def test_names_as_labels_and_a_single_list_is_training(tmp_path):
    put_text(tmp_path, "labels/all.txt", "a.jpg Happy", "b.jpg 3_sad")
    put_pictures(tmp_path, "pictures/a.jpg", "pictures/b.jpg")
    assert faces(open_reader(tmp_path).read()) == {
        "pictures/a.jpg": ("train", "happiness"),
        "pictures/b.jpg": ("train", "sadness"),
    }
    listing = open_reader(tmp_path / "labels/all.txt", "list_files")
    assert listing.base == tmp_path / "labels"


def test_each_list_finds_its_own_folder(tmp_path):
    put_text(tmp_path, "train.txt", "1.jpg 0")
    put_text(tmp_path, "test.txt", "1.jpg 1")
    put_text(tmp_path, "val.txt", "1.jpg 2")
    put_pictures(tmp_path, "pictures/test/1.jpg", "pictures/train/1.jpg", "pictures/valid/1.jpg")
    # Every path fits in every folder.
    assert faces(ListFiles(tmp_path).read()) == {
        "pictures/test/1.jpg": ("test", "happiness"),
        "pictures/train/1.jpg": ("train", "neutral"),
        "pictures/valid/1.jpg": ("val", "sadness"),
    }


@pytest.mark.parametrize("name", ["part1.txt", "train_val.txt"])
def test_lists_whose_names_say_no_split(tmp_path, name):
    put_text(tmp_path, "val.txt", "a.jpg 0")
    put_text(tmp_path, name, "a.jpg 0")
    with pytest.raises(EmodetError, match=rf"the list {name} says no split"):
        open_reader(tmp_path)


def test_a_picture_in_two_lists_stays_in_the_one_that_is_evaluated(tmp_path):
    put_text(tmp_path, "train.txt", "a.jpg 0", "b.jpg 1", "b.jpg 1")
    put_text(tmp_path, "val.txt", "a.jpg 0")
    put_pictures(tmp_path, "a.jpg", "b.jpg")
    listing = open_reader(tmp_path).read()
    assert faces(listing) == {"a.jpg": ("val", "neutral"), "b.jpg": ("train", "happiness")}
    assert listing.left_out == {"listed more than once": 2}


def test_two_labels_for_one_picture_stop_with_both_places(tmp_path):
    put_text(tmp_path, "train.txt", "a.jpg 0", "b.jpg 1", "a.jpg 2")
    put_pictures(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(
        EmodetError, match=r"train.txt, line 3: a.jpg is sadness here and neutral in .*train.txt, line 1"
    ):
        open_reader(tmp_path).read()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.jpg 0", "b.jpg"], "line 2: 'b.jpg' is not 'path label'"),
        (["a.jpg 0", "../b.jpg 1"], "line 2: the path '../b.jpg' leaves the folder"),
        (["a.jpg 0", "/b.jpg 1"], "line 2: the path '/b.jpg' leaves the folder"),
        (["a.jpg happy", "a.jpg person"], "class name 'person' is not known"),
        (["a.jpg 0", "a.jpg 12"], "numbered 0, 12, which does not fit"),
        (["a.jpg 0", "b.jpg 1"], "of a sample of 2 listed pictures 1 are below"),
        (["a.jpg 8"], "does not fit order=auto"),
    ],
)
def test_a_list_that_does_not_fit(tmp_path, lines, message):
    put_text(tmp_path, "train.txt", *lines)
    put_pictures(tmp_path, "a.jpg")
    with pytest.raises(EmodetError) as caught:
        ListFiles(tmp_path).read()
    assert message in str(caught.value)
    assert "train.txt" in str(caught.value)


@pytest.mark.parametrize("text", ["hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person", "a.jpg 99"])
def test_other_texts_are_no_lists(tmp_path, text):
    put_text(tmp_path, "train.txt", text)
    assert not ListFiles.recognises(tmp_path)


def rafdb(root, lines=("train_00001.jpg 5", "train_00002.jpg 1", "test_0001.jpg 7"), folder="basic/Image/aligned"):
    put_text(root / "basic", RAFDB_LIST, *lines)
    put_pictures(root, *(f"{folder}/{line.split('.')[0]}_aligned.jpg" for line in lines))
    return root


@pytest.mark.parametrize("folder", ["basic/Image/aligned", "basic/Image/aligned/aligned", "basic/aligned"])
def test_rafdb_counts_from_1_in_its_own_order(tmp_path, folder):
    reader = open_reader(rafdb(tmp_path, folder=folder))
    assert type(reader) is RafDb
    inner = folder.removeprefix("basic/")
    listing = reader.read()
    assert faces(listing) == {
        f"{inner}/test_0001_aligned.jpg": ("test", "neutral"),
        f"{inner}/train_00001_aligned.jpg": ("train", "sadness"),
        f"{inner}/train_00002_aligned.jpg": ("train", "surprise"),
    }
    assert reader.encoded(listing.samples[0]) == f"{folder}/test_0001_aligned.jpg".encode()


def test_rafdb_all_seven(tmp_path):
    rafdb(tmp_path, [f"train_0000{number}.jpg {number}" for number in range(1, 8)])
    names = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    assert [name for _, name in faces(open_reader(tmp_path).read()).values()] == names
    assert [sum(RafDb.expected[split].values()) for split in ("train", "test")] == [12_271, 3_068]


def test_rafdb_put_right(tmp_path):
    rafdb(tmp_path)
    (tmp_path / "basic" / RAFDB_LIST).rename(tmp_path / "basic/EmoLabel/list_partition_label.txt")
    assert len(open_reader(tmp_path, "rafdb").read().samples) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train_00003.jpg 0", "line 4: '0' is not a class from 1 to 7"),
        ("train_00003.jpg 8", "line 4: '8' is not a class from 1 to 7"),
        ("train_00003.jpg ²", "line 4: '²' is not a class"),
        ("valid_00003.jpg 1", "line 4: 'valid_00003.jpg' begins with neither"),
        ("train_00003.jpg", "line 4: 'train_00003.jpg' is not 'path label'"),
        ("train_/../../x.jpg 1", "line 4: the path 'train_/../../x.jpg' leaves"),
        ("train_00001.jpg 4", "line 4: train_00001.jpg is happiness here and sadness in"),
    ],
)
def test_a_rafdb_line_that_does_not_fit(tmp_path, line, message):
    rafdb(tmp_path)
    with (tmp_path / "basic" / RAFDB_LIST).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(EmodetError) as caught:
        open_reader(tmp_path).read()
    assert message in str(caught.value)


def test_rafdb_without_its_pictures(tmp_path):
    put_text(tmp_path, RAFDB_LIST, "train_00001.jpg 5")
    with pytest.raises(EmodetError, match=r"not there: train_00001_aligned\.jpg"):
        open_reader(tmp_path).read()


# name face_id top left right bottom confidence label
EXPW = ["angry boy_1.jpg 0 28 113 226 141 22.9362 0", "angry boy_1.jpg 1 30 10 60 80 9.5 3", "b.jpg 0 0 -5 60 60 1 6"]


def expw(root, lines=EXPW, folder="image/origin"):
    put_text(root, "label/label.lst", *lines)
    put_pictures(root, f"{folder}/angry boy_1.jpg", f"{folder}/b.jpg")
    return root


@pytest.mark.parametrize("folder", ["image/origin", "origin", "data/image/origin"])
def test_expw_has_top_before_left_and_faces_of_a_picture_stay_together(tmp_path, folder):
    reader = open_reader(expw(tmp_path, folder=folder))
    assert type(reader) is ExpW
    listing = reader.read()
    assert [(r.key, EMOTIONS[r.emotion], r.box, r.subject, r.split) for r in listing.samples] == [
        (f"{folder}/angry boy_1.jpg#0", "anger", (113, 28, 226, 141), f"{folder}/angry boy_1.jpg", "train"),
        (f"{folder}/angry boy_1.jpg#1", "happiness", (10, 30, 60, 80), f"{folder}/angry boy_1.jpg", "train"),
        (f"{folder}/b.jpg#0", "neutral", (-5, 0, 60, 60), f"{folder}/b.jpg", "train"),
    ]
    assert reader.encoded(listing.samples[1]) == f"{folder}/angry boy_1.jpg".encode()


def test_expw_boxes_without_area_and_faces_listed_twice_are_counted(tmp_path):
    lines = [*EXPW, "b.jpg 1 50 10 60 40 1 1", "b.jpg 2 -9 -9 -1 40 1 1", EXPW[0]]
    listing = open_reader(expw(tmp_path, lines)).read()
    assert listing.left_out == {"box is empty or outside the picture": 2, "listed more than once": 1}
    assert len(listing.samples) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg 1 0 0 9 9 1", "is not 'name face_id top left right bottom confidence label'"),
        ("b.jpg 1 0 0 9 9 1 7", "label '7' is not a number from 0 to 6"),
        ("b.jpg 1 0 0 9 wide 1 1", "are not five numbers"),
        ("b.jpg 1 0 0 nan 9 1 1", "is not finite"),
        ("../b.jpg 1 0 0 9 9 1 1", "leaves the folder"),
        ("b.jpg 0 0 -5 60 60 1 5", "b.jpg#0 is surprise here and neutral in"),
    ],
)
def test_an_expw_line_that_does_not_fit(tmp_path, line, message):
    with pytest.raises(EmodetError) as caught:
        open_reader(expw(tmp_path, [*EXPW, line])).read()
    assert message in str(caught.value)
    assert "label.lst, line 4" in str(caught.value)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(
                [
                    "t.jpg 3",
                    "train_1.jpg 2",
                    "t.jpg 0 1 2 9 9 1 3",
                    "train_\0.jpg 1",
                    "t.jpg 0 1e999 2 9 9 1 3",
                    "a" * 300 + ".jpg 1",
                ]
            ),
        ),
        max_size=4,
    ),
    binary=st.binary(max_size=8),
)
def test_whatever_a_list_holds_only_an_emodet_error_comes_out(tmp_path, lines, binary):
    put_pictures(tmp_path, "t.jpg", "train_1_aligned.jpg")
    for name, start, reader in (("train.txt", "t.jpg 0", ListFiles), (RAFDB_LIST, "", RafDb), ("label.lst", "", ExpW)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes("\n".join([start, *lines]).encode(errors="replace") + b"\n" + binary)
        with contextlib.suppress(EmodetError):
            reader(tmp_path).read()
        (tmp_path / name).unlink()
