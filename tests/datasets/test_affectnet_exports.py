"""Exports of AffectNet: YOLO, with classes by name and pairs by stem; labels.csv, whose two sources may not agree."""

import contextlib

import pytest
from made_files import put_text
from on_disk import error_of, faces, has_note, put_files, read

from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError

ALPHABETICAL = ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
YAML = f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: {ALPHABETICAL}\n"


def put_face(root, split, stem, label, suffix=".jpg"):
    put_files(root / split, f"images/{stem}{suffix}")
    (root / split / "labels").mkdir(exist_ok=True)
    if label is not None:
        (root / split / "labels" / f"{stem}.txt").write_text(label)


@pytest.fixture
def release(tmp_path):
    (tmp_path / "data.yaml").write_text(YAML)
    for number in range(8):
        put_face(tmp_path, "train", f"b{number}_png.rf.0123", f"{number} 0.5 0.5 1 1\n", suffix=".png")
    put_face(tmp_path, "valid", "v1", "4 0.5 0.5 1 1")
    put_face(tmp_path, "test", "t1", "0 0.5 0.5 0.9 0.8\n")
    return tmp_path


def test_maps_classes_by_name(release):
    reader = open_reader(release)
    listing = reader.read()
    names = ["anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert list(faces(listing).items()) == [
        ("test/images/t1.jpg", ("test", "anger")),
        *((f"train/images/b{number}_png.rf.0123.png", ("train", name)) for number, name in enumerate(names)),
        ("valid/images/v1.jpg", ("val", "happiness")),
    ]
    assert all(sample.box is None for sample in listing.samples)
    assert has_note(listing, "boxes")
    assert reader.encoded(listing.samples[-1]) == b"images/v1.jpg"


def test_the_first_line_counts_and_stems_pair(release):
    put_face(release, "train", "more", "\n6 0.5 0.5 1 1\n0 0.1 0.1 0.2 0.2\n")
    put_face(release, "train", "empty", "")
    put_face(release, "train", "blank", " \n\n")
    for number in range(20):
        put_face(release, "train", f"c{number}", "1 0.5 0.5 1 1")
    put_face(release, "train", "a_first_without_label", None)
    put_files(release / "train", "images/Thumbs.db", "labels/classes.txt")
    (release / "train/images/c3.jpg").unlink()
    listing = read(release)
    assert faces(listing)["train/images/more.jpg"] == ("train", "sadness")
    assert faces(listing)["train/images/c19.jpg"] == ("train", "contempt")
    assert listing.left_out == {
        "label file is empty": 2,
        "picture without a label file": 1,
        "label file without a picture": 1,
    }
    assert has_note(listing, "images/blank.jpg, images/empty.jpg")
    assert has_note(listing, "1 files with several lines")


def test_data_yaml_runs_no_code(release, capsys):
    (release / "data.yaml").write_text(
        "names: [anger]\nx: !!python/object/apply:builtins.print [this must not be printed]"
    )
    with contextlib.suppress(EmodetError):
        read(release)
    assert "must not be printed" not in capsys.readouterr().out


def test_the_source_of_labels_csv_decides_and_agreement_is_reported(tmp_path):
    rows = ["anger/image0000006.jpg,surprise", "anger/image0000007.jpg,anger", "contempt/image0000006.jpg,contempt"]
    put_files(tmp_path, *(row.split(",")[0] for row in rows))
    put_text(tmp_path / "labels.csv", ",pth,label,relFCs", *(f"{number},{row},0.87" for number, row in enumerate(rows)))
    reader = open_reader(tmp_path)
    listing = reader.read()
    # One base name in two folders: the key is the whole path.
    assert faces(listing) == {
        "anger/image0000006.jpg": ("train", "surprise"),
        "anger/image0000007.jpg": ("train", "anger"),
        "contempt/image0000006.jpg": ("train", "contempt"),
    }
    assert has_note(listing, "the csv", "2 of 3", "66.7%")
    assert has_note(listing, "3 (29,042)")
    other = open_reader(tmp_path, label_source="folder")
    assert faces(other.read())["anger/image0000006.jpg"] == ("train", "anger")
    assert has_note(other.read(), "the folder", "2 of 3")
    assert reader.options() != other.options()
    assert reader.encoded(listing.samples[0]) == b"anger/image0000006.jpg"
    assert all(part in error_of(tmp_path, label_source="both") for part in ("label_source='both'", "csv, folder"))
