"""A CSV file of the user's own, and how rows of any CSV file are read."""

import contextlib
import csv
import io
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.own_csv import OwnCsv
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

HEADER = "path,emotion,split,subject,x1,y1,x2,y2,valence,arousal"
ROWS = [
    "p/a.jpg,happy,train,ann,10,20,110,120,0.5,-0.25",
    "p/b.jpg,Sadness,val,ben,,,,,-2,-2",
    "p/c.png,anger,test,,0,0,64.5,64,,",
]


def put(root, *rows, header=HEADER, name="faces.csv", encoding="utf-8", pictures=("p/a.jpg", "p/b.jpg", "p/c.png")):
    for path in pictures:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    (root / name).write_text("\n".join([header, *rows, ""]), encoding=encoding)
    return root


def test_every_column(tmp_path):
    reader = open_reader(put(tmp_path, *ROWS))
    assert type(reader) is OwnCsv
    a, b, c = reader.read().samples
    assert (a.key, a.split, EMOTIONS[a.emotion], a.subject) == ("p/a.jpg", "train", "happiness", "ann")
    assert (a.box, a.valence, a.arousal) == ((10, 20, 110, 120), 0.5, -0.25)
    assert (b.key, b.split, EMOTIONS[b.emotion], b.subject) == ("p/b.jpg", "val", "sadness", "ben")
    assert (b.box, b.valence, b.arousal) == (None, None, None)
    assert (c.split, c.subject, c.box, c.valence) == ("test", None, (0, 0, 64.5, 64), None)
    assert "2 faces have no valence and arousal (-2 or empty)." in reader.read().notes
    assert pickle.loads(pickle.dumps(reader)).encoded(a) == b"p/a.jpg"


def test_two_columns_are_enough(tmp_path):
    put(tmp_path, "p/a.jpg,joy", "p/b.jpg,NE", header="path,emotion")
    listing = open_reader(tmp_path / "faces.csv").read()
    assert [(r.key, r.split, EMOTIONS[r.emotion]) for r in listing.samples] == [
        ("p/a.jpg", "train", "happiness"),
        ("p/b.jpg", "train", "neutral"),
    ]
    assert any("no column split" in note for note in listing.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_as_other_programs_save_it(tmp_path, encoding, end, delimiter):
    header = ["", "Emotion", " PATH ", "split", "Unnamed: 3"]
    rows = [["0", "happy", " p/a.jpg ", "TRAIN", "x, y"], ["1", "sad", "p\\b.jpg", "validation", ""]]
    put(tmp_path)
    with (tmp_path / "faces.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=end).writerows([header, *rows, []])
    listing = open_reader(tmp_path).read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == [("p/a.jpg", "train", 1), ("p/b.jpg", "val", 2)]
    assert "Columns that are not read: unnamed: 3." in listing.notes


def test_pictures_in_another_folder_and_with_another_case_of_the_extension(tmp_path):
    put(tmp_path, "a.JPG,happy", "b.jpg,sad", header="path,emotion", pictures=("x/pictures/a.jpg", "x/pictures/b.jpg"))
    reader = open_reader(tmp_path)
    listing = reader.read()
    assert [r.key for r in listing.samples] == ["x/pictures/a.jpg", "x/pictures/b.jpg"]
    assert reader.encoded(listing.samples[0]) == b"x/pictures/a.jpg"


def test_several_faces_of_one_picture_are_one_subject(tmp_path):
    header = "path,emotion,x1,y1,x2,y2"
    put(tmp_path, "p/a.jpg,happy,0,0,50,50", "p/b.jpg,sad,0,0,9,9", "p/a.jpg,sad,60,0,99.5,50", header=header)
    reader = open_reader(tmp_path)
    listing = reader.read()
    assert [(r.key, r.subject, r.emotion) for r in listing.samples] == [
        ("p/a.jpg#0,0,50,50", "p/a.jpg", 1),
        ("p/a.jpg#60,0,99.5,50", "p/a.jpg", 2),
        ("p/b.jpg", None, 2),
    ]
    assert [reader.encoded(r) for r in listing.samples] == [b"p/a.jpg", b"p/a.jpg", b"p/b.jpg"]


def test_valence_without_an_emotion_and_rows_that_say_nothing(tmp_path):
    rows = ["p/a.jpg,,0.5,0.5", "p/b.jpg,,,", "p/c.png,none,0.1,0.1"]
    listing = open_reader(put(tmp_path, *rows, header="path,emotion,valence,arousal")).read()
    assert [(r.key, r.emotion, r.valence) for r in listing.samples] == [("p/a.jpg", None, 0.5)]
    assert listing.left_out == {"neither emotion nor valence and arousal": 1, "none": 1}


def test_a_row_twice_is_counted_and_contradictions_stop(tmp_path):
    listing = open_reader(put(tmp_path, *ROWS, ROWS[0], ROWS[0].replace("a.jpg", "a.JPG"))).read()
    assert listing.left_out == {"listed more than once": 2}
    put(tmp_path, *ROWS, ROWS[0].replace("happy", "sad"))
    with pytest.raises(
        EmodetError, match=r"line 5: .*a.jpg.* is sadness in train here and happiness in train in .*line 2"
    ):
        open_reader(tmp_path).read()
    put(tmp_path, *ROWS, ROWS[0].replace("train", "test"))
    with pytest.raises(EmodetError, match=r"is happiness in test here and happiness in train"):
        open_reader(tmp_path).read()


def test_several_files_are_asked_about(tmp_path):
    put(tmp_path, *ROWS)
    put(tmp_path, *ROWS, name="more.csv")
    put(tmp_path, "1,2", header="a,b", name="other.csv")
    with pytest.raises(EmodetError, match=r"faces.csv, more.csv have the columns path and emotion, and one file was"):
        open_reader(tmp_path)
    assert len(open_reader(tmp_path / "more.csv").read().samples) == 3
    with pytest.raises(EmodetError, match=r"Expected one \.csv"):
        open_reader(tmp_path / "other.csv", "own_csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p/a.jpg,person,train,,,,,,,", "line 3: class name 'person' is not known"),
        ("p/a.jpg,3,train,,,,,,,", "line 3: emotion='3' is a number"),
        ("p/a.jpg,3.0,train,,,,,,,", "line 3: emotion='3.0' is a number"),
        ("p/a.jpg,happy,holdout,,,,,,,", "line 3: split='holdout' is not train, val or test"),
        ("p/a.jpg,happy,,,,,,,,", "line 3: split='' is not train, val or test"),
        ("../a.jpg,happy,train,,,,,,,", "line 3: the path '../a.jpg' leaves the folder"),
        ("/etc/a.jpg,happy,train,,,,,,,", "line 3: the path '/etc/a.jpg' leaves"),
        (",happy,train,,,,,,,", "line 3: '' is not the path of a picture"),
        ("p/a.jpg,happy,train,,10,10,5,50,,", "line 3: the box 10, 10, 5, 50 is empty or outside the picture"),
        ("p/a.jpg,happy,train,,-50,0,-5,50,,", "line 3: the box -50, 0, -5, 50 is empty or outside the picture"),
        ("p/a.jpg,happy,train,,0.1,0.1,0.9,0.9,,", "boxes are in pixels of the picture, not in fractions of it"),
        ("p/a.jpg,happy,train,,10,10,,50,,", "line 3: x2='' is not a number"),
        ("p/a.jpg,happy,train,,0,0,inf,50,,", "is not finite"),
        ("p/a.jpg,happy,train,,,,,,5,0", "line 3: valence=5 is outside -1 to 1"),
        ("p/a.jpg,happy,train,,,,,,high,0", "line 3: valence='high' is not a number"),
        ("p/a.jpg,happy,train", "line 3: 3 columns where the header has 10; is the file cut off?"),
        ('"p/a.jpg,happy,train', "not CSV"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, row, message):
    put(tmp_path, ROWS[1], row)
    with pytest.raises(EmodetError) as caught:
        open_reader(tmp_path).read()
    assert message in str(caught.value)
    assert "faces.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,label", "Expected one .csv with the columns path and emotion"),
        ("path,emotion,x1,y1,x2", "x1, y1, x2, y2 belong together; y2 is missing"),
        ("path,emotion,valence", "valence, arousal belong together; arousal is missing"),
        ("path,emotion,path", "the header has path more than once"),
        ("path,emotion", "there are no rows"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, header, message):
    put(tmp_path, header=header)
    with pytest.raises(EmodetError) as caught:
        OwnCsv(tmp_path).read()
    assert message in str(caught.value)


def test_a_file_that_was_cut_off_anywhere_is_never_read_as_something_else(tmp_path):
    put(tmp_path, *ROWS)
    whole = (tmp_path / "faces.csv").read_bytes()
    read = {record.key: record for record in open_reader(tmp_path).read().samples}
    for length in range(len(whole)):
        (tmp_path / "faces.csv").write_bytes(whole[:length])
        try:
            listing = OwnCsv(tmp_path).read()
        except EmodetError:
            continue
        # Only in the middle of the last cell can a cut not be seen.
        for record in listing.samples:
            whole_one = read[record.key]
            assert (record.emotion, record.split, record.box) == (whole_one.emotion, whole_one.split, whole_one.box)


def test_missing_pictures(tmp_path):
    with pytest.raises(EmodetError, match=r"faces.csv: of a sample of 3 listed pictures 2 are below"):
        open_reader(put(tmp_path, *ROWS, pictures=("p/a.jpg", "p/b.jpg"))).read()
    rows = [f"p/{number}.jpg,happy" for number in range(20)]
    put(tmp_path, *rows, header="path,emotion", pictures=[f"p/{number}.jpg" for number in range(19)])
    listing = open_reader(tmp_path).read()
    assert listing.left_out == {"picture is not there": 1}
    assert any("p/19.jpg" in note for note in listing.notes)


def test_a_file_in_another_encoding(tmp_path):
    put(tmp_path, "p/ä.jpg,happy", header="path,emotion", encoding="latin-1")
    with pytest.raises(EmodetError, match="not UTF-8"):
        open_reader(tmp_path).read()


def test_header_of_what_is_no_csv(tmp_path):
    assert header_of(tmp_path / "nothing.csv") == ()
    assert header_of(tmp_path) == ()
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf# Path; EMOTION\r1;2")
    assert header_of(tmp_path / "x.csv") == ("path", "emotion")
    with pytest.raises(EmodetError, match="cannot be read"):
        CsvRows(tmp_path / "nothing.csv", ("path",))


cells = st.one_of(
    st.text(max_size=10),
    st.sampled_from(
        ["p/a.jpg", "happy", "none", "", "-2", "train", "1e999", "nan", "..", '"', "\0", "a" * 300, "0.5", "7"]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.one_of(st.just(HEADER), st.just("path;emotion"), st.just("path,emotion"), st.text(max_size=30)),
    rows=st.lists(st.lists(cells, min_size=2, max_size=10), max_size=3),
    tail=st.binary(max_size=20),
    well_written=st.booleans(),
)
def test_whatever_the_file_holds_only_an_emodet_error_comes_out(tmp_path, header, rows, tail, well_written):
    put(tmp_path)
    body = io.StringIO()
    if well_written:
        csv.writer(body).writerows([(*row, *[""] * 10)[: header.count(",") + 1] for row in rows])
    else:
        body.write("\n".join(",".join(row) for row in rows))
    (tmp_path / "faces.csv").write_bytes(f"{header}\n{body.getvalue()}".encode(errors="replace") + tail)
    with contextlib.suppress(EmodetError):
        OwnCsv(tmp_path).read()
