"""The export with labels.csv: two sources of labels that do not always agree."""

import pytest
from on_disk import error_of, faces, has_note, put_files, put_lines, read

from emodet.datasets.readers import open_reader

HEADER = ",pth,label,relFCs"
ROWS = ["anger/image0000006.jpg,surprise", "anger/image0000007.jpg,anger", "contempt/image0000006.jpg,contempt"]


def put(root, *rows, pictures=None, header=HEADER):
    """Each row is ``path,label``; its picture is put below `root` unless others are given."""
    put_files(root, *(pictures if pictures is not None else [row.split(",")[0] for row in rows]))
    put_lines(root / "labels.csv", header, *(f"{number},{row},0.87" for number, row in enumerate(rows)))
    return root


def test_the_label_source_decides_and_agreement_is_reported(tmp_path):
    reader = open_reader(put(tmp_path, *ROWS))
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


@pytest.mark.parametrize(
    ("rows", "pictures", "expected"),
    [
        (  # Train and Test around, with capitalised folders
            ["anger/1.jpg,anger", "happy/2.jpg,happy", "anger/3.png,sad"],
            ["Train/anger/1.jpg", "Test/Happy/2.jpg", "Test/Anger/3.png"],
            [("train", "anger"), ("test", "happiness"), ("test", "sadness")],
        ),
        (  # paths with the split, and with back-slashes
            ["Train\\anger\\1.jpg,anger", "Test/anger/1.jpg,sad"],
            ["Train/anger/1.jpg", "Test/Anger/1.jpg"],
            [("train", "anger"), ("test", "sadness")],
        ),
        (  # paths that differ only in case go by their spelling
            ["anger/1.jpg,anger", "Anger/1.jpg,sad"],
            ["Train/anger/1.jpg", "Test/Anger/1.jpg"],
            [("train", "anger"), ("test", "sadness")],
        ),
    ],
)
def test_splits_around_the_class_folders(tmp_path, rows, pictures, expected):
    assert faces(read(put(tmp_path, *rows, pictures=pictures))) == dict(zip(pictures, expected, strict=True))


def test_a_path_that_fits_in_two_splits_is_left_out(tmp_path):
    pictures = ["Train/anger/image1.jpg", "Test/anger/image1.jpg", "Train/anger/image2.jpg"]
    listing = read(put(tmp_path, "anger/image1.jpg,anger", "anger/image2.jpg,anger", pictures=pictures))
    assert list(faces(listing)) == ["Train/anger/image2.jpg"]
    assert listing.left_out["path fits a picture in two splits"] == 1


def test_pictures_that_are_not_listed_or_not_there(tmp_path):
    rows = [f"anger/image{number}.jpg,anger" for number in range(20)]
    put(tmp_path, *rows, pictures=[f"anger/image{number}.jpg" for number in range(1, 22)])
    listing = read(tmp_path)
    assert listing.left_out == {"picture is not there": 1, "picture that labels.csv does not list": 2}
    assert has_note(listing, "anger/image20.jpg, anger/image21.jpg")
    for number in range(1, 4):
        (tmp_path / f"anger/image{number}.jpg").unlink()
    assert all(part in error_of(tmp_path) for part in ("labels.csv", "4 of 20", "image0.jpg"))


def test_rows_twice_and_rows_of_no_emotion(tmp_path):
    listing = read(put(tmp_path, *ROWS, ROWS[1], "anger/x.jpg,none"))
    assert listing.left_out == {"listed more than once": 1, "none": 1}
    put(tmp_path, *ROWS, "anger/image0000007.jpg,sad")
    assert all(part in error_of(tmp_path) for part in ("line 5", "line 3", "anger/image0000007.jpg"))


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("anger/x.jpg,person", "'person'"),
        ("anger/x.jpg,", "''"),
        ("odd/x.jpg,anger", "'odd'"),
        ("../x.jpg,anger", "'../x.jpg'"),
        ("anger/x.jpg", "3 columns"),
        ("anger/x.jpg,anger,1,2", "6 columns"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, row, value):
    put(tmp_path, ROWS[0], row, pictures=["anger/image0000006.jpg", "anger/x.jpg", "odd/x.jpg"])
    assert all(part in error_of(tmp_path) for part in ("labels.csv, line 3", value))


@pytest.mark.parametrize("header", [',"pth,label,relFCs', ',pth",label,relFCs', ",pth,lab", "", "\0,\0p\0t\0h"])
def test_a_header_that_is_not_understood_is_an_error_and_no_other_reader_takes_over(tmp_path, header):
    put(tmp_path, *ROWS, header=header)
    assert "labels.csv" in error_of(tmp_path)


def test_the_labels_of_another_data_set_are_no_sign(tmp_path):
    put(tmp_path, *ROWS, header="index,name,kind,x")
    assert open_reader(tmp_path).name == "class_folders"
    assert "pth and label" in error_of(tmp_path, "labels_csv")
