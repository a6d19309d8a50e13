"""A CSV file of the user's own, as any program saves it; and how rows of any CSV file are read."""

import pytest
from on_disk import faces, has_note, put_files, put_lines, read

from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

HEADER = "path,emotion,split,subject,x1,y1,x2,y2,valence,arousal"
ROWS = [
    "p/a.jpg,happy,train,ann,10,20,110,120,0.5,-0.25",
    "p/b.jpg,Sadness,val,ben,,,,,-2,-2",
    "p/c.png,anger,test,,0,0,64.5,64,,",
]


def put(root, *rows, header=HEADER):
    put_files(root, "p/a.jpg", "p/b.jpg", "p/c.png")
    put_lines(root / "faces.csv", header, *rows)
    return root


def test_every_column(tmp_path):
    reader = open_reader(put(tmp_path, *ROWS))
    a, b, c = reader.read().samples
    assert (a.key, a.split, EMOTIONS[a.emotion], a.subject) == ("p/a.jpg", "train", "happiness", "ann")
    assert (a.box, a.valence, a.arousal) == ((10, 20, 110, 120), 0.5, -0.25)
    assert (b.key, b.split, EMOTIONS[b.emotion], b.subject) == ("p/b.jpg", "val", "sadness", "ben")
    assert (b.box, b.valence, b.arousal) == (None, None, None)
    assert (c.split, c.subject, c.box, c.valence) == ("test", None, (0, 0, 64.5, 64), None)
    assert has_note(reader.read(), "2 faces have no valence and arousal")
    assert reader.encoded(a) == b"p/a.jpg"


@pytest.mark.parametrize(
    "header", ["path,emotion", "image,label", "Filename,Class", "file_name,Expression", "source,emotion"]
)
def test_two_columns_are_enough_under_any_usual_name(tmp_path, header):
    put(tmp_path, "p/a.jpg,joy", "p/b.jpg,NE", header=header)
    for root in (tmp_path, tmp_path / "faces.csv"):
        assert faces(read(root)) == {"p/a.jpg": ("train", "happiness"), "p/b.jpg": ("train", "neutral")}
    assert has_note(read(tmp_path), "no column split")


def test_several_faces_of_one_picture_are_one_subject(tmp_path):
    header = "path,emotion,x1,y1,x2,y2"
    put(tmp_path, "p/a.jpg,happy,0,0,50,50", "p/b.jpg,sad,0,0,9,9", "p/a.jpg,sad,60,0,99.5,50", header=header)
    reader = open_reader(tmp_path)
    samples = reader.read().samples
    assert [(s.key, s.subject, s.emotion) for s in samples] == [
        ("p/a.jpg#0,0,50,50", "p/a.jpg", 1),
        ("p/a.jpg#60,0,99.5,50", "p/a.jpg", 2),
        ("p/b.jpg", None, 2),
    ]
    assert [reader.encoded(sample) for sample in samples] == [b"p/a.jpg", b"p/a.jpg", b"p/b.jpg"]


def test_header_of_what_is_no_csv(tmp_path):
    assert header_of(tmp_path / "nothing.csv") == header_of(tmp_path) == ()
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf# Path; EMOTION\r1;2")
    assert header_of(tmp_path / "x.csv") == ("path", "emotion")
    with pytest.raises(EmodetError, match=r"nothing\.csv"):
        CsvRows(tmp_path / "nothing.csv", ("path",))
