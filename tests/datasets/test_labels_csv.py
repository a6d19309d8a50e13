"""The export with labels.csv: two sources of labels that do not always agree."""

import contextlib
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.labels_csv import LabelsCsv
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

HEADER = ",pth,label,relFCs"


def put(root, *rows, pictures=None, header=HEADER):
    """Each row is ``path,label``; its picture is put below `root` unless others are given."""
    for path in pictures if pictures is not None else [row.split(",")[0] for row in rows]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    lines = [header, *(f"{number},{row},0.87" for number, row in enumerate(rows))]
    (root / "labels.csv").write_text("\n".join([*lines, ""]))
    return root


def faces(listing):
    return {record.key: (record.split, EMOTIONS[record.emotion]) for record in listing.samples}


ROWS = ["anger/image0000006.jpg,surprise", "anger/image0000007.jpg,anger", "contempt/image0000006.jpg,contempt"]


def test_the_label_source_decides_and_agreement_is_reported(tmp_path):
    reader = open_reader(put(tmp_path, *ROWS))
    assert type(reader) is LabelsCsv
    listing = reader.read()
    # One base name in two folders: the key is the whole path.
    assert faces(listing) == {
        "anger/image0000006.jpg": ("train", "surprise"),
        "anger/image0000007.jpg": ("train", "anger"),
        "contempt/image0000006.jpg": ("train", "contempt"),
    }
    assert "Labels are taken from the csv; csv and folder agree on 2 of 3 faces (66.7%)." in listing.notes
    assert "Faces found (in the published export): all 3 (29,042)." in listing.notes
    other = open_reader(tmp_path, label_source="folder")
    assert faces(other.read())["anger/image0000006.jpg"] == ("train", "anger")
    assert any("taken from the folder; csv and folder agree on 2 of 3" in note for note in other.read().notes)
    assert reader.options() != other.options()
    assert pickle.loads(pickle.dumps(reader)).encoded(listing.samples[0]) == b"anger/image0000006.jpg"
    with pytest.raises(EmodetError, match="label_source='both': there are csv and folder"):
        open_reader(tmp_path, label_source="both")


def test_train_and_test_around_with_capitalised_folders(tmp_path):
    rows = ["anger/image1.jpg,anger", "happy/image2.jpg,happy", "anger/image3.png,sad"]
    put(tmp_path, *rows, pictures=["Train/anger/image1.jpg", "Test/Happy/image2.jpg", "Test/Anger/image3.png"])
    assert faces(open_reader(tmp_path).read()) == {
        "Train/anger/image1.jpg": ("train", "anger"),
        "Test/Happy/image2.jpg": ("test", "happiness"),
        "Test/Anger/image3.png": ("test", "sadness"),
    }


def test_paths_with_the_split_and_with_back_slashes(tmp_path):
    pictures = ["Train/anger/image1.jpg", "Test/Anger/image1.jpg"]
    put(tmp_path, "Train\\anger\\image1.jpg,anger", "Test/anger/image1.jpg,sad", pictures=pictures)
    assert faces(open_reader(tmp_path).read()) == {
        "Test/Anger/image1.jpg": ("test", "sadness"),
        "Train/anger/image1.jpg": ("train", "anger"),
    }


def test_a_path_that_fits_in_two_splits_is_left_out(tmp_path):
    pictures = ["Train/anger/image1.jpg", "Test/anger/image1.jpg", "Train/anger/image2.jpg"]
    listing = open_reader(put(tmp_path, "anger/image1.jpg,anger", "anger/image2.jpg,anger", pictures=pictures)).read()
    assert list(faces(listing)) == ["Train/anger/image2.jpg"]
    assert listing.left_out["path fits a picture in two splits"] == 1


def test_paths_that_differ_only_in_case_go_by_their_spelling(tmp_path):
    pictures = ["Train/anger/image1.jpg", "Test/Anger/image1.jpg"]
    put(tmp_path, "anger/image1.jpg,anger", "Anger/image1.jpg,sad", pictures=pictures)
    assert faces(open_reader(tmp_path).read()) == {
        "Test/Anger/image1.jpg": ("test", "sadness"),
        "Train/anger/image1.jpg": ("train", "anger"),
    }


def test_pictures_that_are_not_listed_or_not_there(tmp_path):
    rows = [f"anger/image{number}.jpg,anger" for number in range(20)]
    put(tmp_path, *rows, pictures=[f"anger/image{number}.jpg" for number in range(1, 22)])
    (tmp_path / "anger/Thumbs.db").write_bytes(b"")
    listing = open_reader(tmp_path).read()
    assert listing.left_out == {"picture is not there": 1, "picture that labels.csv does not list": 2}
    assert any("anger/image20.jpg, anger/image21.jpg" in note for note in listing.notes)
    for number in range(1, 4):
        (tmp_path / f"anger/image{number}.jpg").unlink()
    with pytest.raises(EmodetError, match=r"4 of 20 listed pictures are not below .*image0.jpg"):
        open_reader(tmp_path).read()


def test_rows_twice_and_rows_of_no_emotion(tmp_path):
    listing = open_reader(put(tmp_path, *ROWS, ROWS[1], "anger/x.jpg,none")).read()
    assert listing.left_out == {"listed more than once": 1, "none": 1}
    put(tmp_path, *ROWS, "anger/image0000007.jpg,sad")
    with pytest.raises(EmodetError, match=r"line 5: anger/image0000007.jpg is sadness here and anger in .*line 3"):
        open_reader(tmp_path).read()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("anger/x.jpg,person", "labels.csv, line 3: class name 'person' is not known"),
        ("anger/x.jpg,", "labels.csv, line 3: class name '' is not known"),
        ("odd/x.jpg,anger", "odd): class name 'odd' is not known"),
        ("../x.jpg,anger", "labels.csv, line 3: the path '../x.jpg' leaves"),
        ("anger/x.jpg", "line 3: 3 columns where the header has 4"),
        ("anger/x.jpg,anger,1,2", "line 3: 6 columns where the header has 4"),
    ],
)
def test_a_row_that_does_not_fit(tmp_path, row, message):
    put(tmp_path, ROWS[0], row, pictures=["anger/image0000006.jpg", "anger/x.jpg", "odd/x.jpg"])
    with pytest.raises(EmodetError) as caught:
        open_reader(tmp_path).read()
    assert message in str(caught.value)


@pytest.mark.parametrize("header", [",path,label,relFCs", "pth,lable", ""])
def test_other_labels_are_not_this_export(tmp_path, header):
    put(tmp_path, *ROWS, header=header)
    assert not LabelsCsv.recognises(tmp_path)
    with pytest.raises(EmodetError, match="with the columns pth and label"):
        LabelsCsv(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.one_of(st.text(max_size=20), st.sampled_from([*ROWS, "anger/\0.jpg,anger", "/,anger", ".jpg,anger"])),
        max_size=4,
    ),
    tail=st.binary(max_size=10),
)
def test_whatever_the_csv_holds_only_an_emodet_error_comes_out(tmp_path, rows, tail):
    put(tmp_path, *ROWS)
    body = "\n".join([HEADER, *(f"0,{row},1" for row in rows)])
    (tmp_path / "labels.csv").write_bytes(body.encode(errors="replace") + tail)
    for source in ("csv", "folder"):
        with contextlib.suppress(EmodetError):
            LabelsCsv(tmp_path, label_source=source).read()
