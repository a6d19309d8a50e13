"""Lists of ``path label`` lines, RAF-DB's and ExpW's own kinds of them, and CSV files of the user's own."""

import pytest
from made_files import put_text
from on_disk import faces, has_note, put_files

from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.list_files import ListFiles, RafDb
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError


class TestListFiles:
    def test_paths_and_labels(self, tmp_path):
        lines = ["1/a b.jpg 6", "# mine", "", "2\\c.JPG 0", "2/n.jpg 8"]
        put_text(tmp_path / "affectnet_train.txt", *lines)
        put_text(tmp_path / "val_list.txt", "3/d.jpg\t7", "3/e.jpg   3")
        put_files(tmp_path, *(f"images/{name}.jpg" for name in ("1/a b", "2/c", "2/n", "3/d", "3/e")))
        reader = open_reader(tmp_path)
        listing = reader.read()
        assert faces(listing) == {
            "images/1/a b.jpg": ("train", "anger"),
            "images/2/c.jpg": ("train", "neutral"),
            "images/3/d.jpg": ("val", "contempt"),
            "images/3/e.jpg": ("val", "surprise"),
        }
        assert listing.left_out == {"none": 1}
        assert reader.encoded(listing.samples[1]) == b"images/2/c.jpg"

    @pytest.mark.parametrize("text", ["hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person", "a.jpg 99"])
    def test_other_texts_are_no_lists(self, tmp_path, text):
        put_text(tmp_path / "train.txt", text)
        assert not ListFiles.base_of(tmp_path)


def test_rafdb_counts_from_1_in_its_own_order(tmp_path):
    lines = ["test_0001.jpg 7", *(f"train_0000{number}.jpg {number}" for number in range(1, 8))]
    put_text(tmp_path / "EmoLabel/list_patition_label.txt", *lines)
    names = [f"Image/aligned/{line.split('.')[0]}_aligned.jpg" for line in lines]
    put_files(tmp_path, *names)
    reader = open_reader(tmp_path)
    expected = [("test", "neutral"), *(("train", name) for name in RAFDB_ORDER)]
    assert faces(reader.read()) == dict(zip(names, expected, strict=True))
    assert reader.encoded(reader.read().samples[0]) == names[0].encode()
    assert [sum(RafDb.expected[split].values()) for split in ("train", "test")] == [12_271, 3_068]


def test_in_expw_top_comes_before_left_and_faces_of_a_picture_stay_together(tmp_path):
    # name face_id top left right bottom confidence label
    lines = ["a b.jpg 0 28 113 226 141 22.9362 0", "a b.jpg 1 30 10 60 80 9.5 3", "c.jpg 0 0 -5 60 60 1 6"]
    put_text(tmp_path / "label/label.lst", *lines)
    put_files(tmp_path, one := "image/origin/a b.jpg", other := "image/origin/c.jpg")
    reader = open_reader(tmp_path)
    samples = reader.read().samples
    assert [(s.key, EMOTIONS[s.emotion], s.box, s.subject, s.split) for s in samples] == [
        (f"{one}#0", "anger", (113, 28, 226, 141), one, "train"),
        (f"{one}#1", "happiness", (10, 30, 60, 80), one, "train"),
        (f"{other}#0", "neutral", (-5, 0, 60, 60), other, "train"),
    ]
    assert reader.encoded(samples[1]) == one.encode()


# A CSV file of the user's own, as any program saves it; and how rows of any CSV file are read.


def test_every_column_of_a_csv(tmp_path):
    put_files(tmp_path, "p/a.jpg", "p/b.jpg", "p/c.png")
    put_text(
        tmp_path / "faces.csv",
        "path,emotion,split,subject,x1,y1,x2,y2,valence,arousal",
        "p/a.jpg,happy,train,ann,10,20,110,120,0.5,-0.25",
        "p/b.jpg,Sadness,val,ben,,,,,-2,-2",
        "p/c.png,anger,test,,0,0,64.5,64,,",
    )
    reader = open_reader(tmp_path)
    a, b, c = reader.read().samples
    assert (a.key, a.split, EMOTIONS[a.emotion], a.subject) == ("p/a.jpg", "train", "happiness", "ann")
    assert (a.box, a.valence, a.arousal) == ((10, 20, 110, 120), 0.5, -0.25)
    assert (b.key, b.split, EMOTIONS[b.emotion], b.subject) == ("p/b.jpg", "val", "sadness", "ben")
    assert (b.box, b.valence, b.arousal) == (None, None, None)
    assert (c.split, c.subject, c.box, c.valence) == ("test", None, (0, 0, 64.5, 64), None)
    assert has_note(reader.read(), "2 faces have no valence and arousal")
    assert reader.encoded(a) == b"p/a.jpg"
    (tmp_path / "link").symlink_to(tmp_path)
    for written in (tmp_path, tmp_path / "link"):  # absolute paths, with the link or without
        put_text(tmp_path / "faces.csv", "path,emotion", f"{written}/p/a.jpg,happy")
        assert open_reader(tmp_path / "link").read().samples[0].key == "p/a.jpg"


def test_header_of_what_is_no_csv(tmp_path):
    assert header_of(tmp_path / "nothing.csv") == header_of(tmp_path) == ()
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf# Path; EMOTION\r1;2")
    assert header_of(tmp_path / "x.csv") == ("path", "emotion")
    with pytest.raises(EmodetError, match=r"nothing\.csv"):
        CsvRows(tmp_path / "nothing.csv", ("path",))
