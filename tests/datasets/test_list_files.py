"""Lists of ``path label`` lines, and RAF-DB's and ExpW's own kinds of them."""

import pytest
from on_disk import faces, has_note, put_files, put_lines, read

from emodet.datasets.list_files import ListFiles, RafDb
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, RAFDB_ORDER


class TestListFiles:
    def test_paths_and_labels(self, tmp_path):
        lines = ["1/a b.jpg 6", "# mine", "", "2\\c.JPG 0", "2/n.jpg 8"]
        put_lines(tmp_path / "affectnet_train.txt", *lines)
        put_lines(tmp_path / "val_list.txt", "3/d.jpg\t7", "3/e.jpg   3")
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

    def test_numbers_are_understood_over_all_lists_together(self, tmp_path):
        # 1 to 7 in the validation list alone would be RAF-DB's.
        put_lines(tmp_path / "train.txt", "t.jpg 0")
        put_lines(tmp_path / "val.txt", *(f"v{number}.jpg {number}" for number in range(1, 8)))
        put_files(tmp_path, "t.jpg", *(f"v{number}.jpg" for number in range(1, 8)))
        assert faces(read(tmp_path))["v1.jpg"] == ("val", "happiness")
        (tmp_path / "train.txt").unlink()
        assert faces(read(tmp_path))["v1.jpg"] == ("val", "surprise")
        assert has_note(read(tmp_path), "rafdb")
        assert faces(read(tmp_path, order="affectnet"))["v1.jpg"] == ("val", "happiness")

    @pytest.mark.parametrize("text", ["hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person", "a.jpg 99"])
    def test_other_texts_are_no_lists(self, tmp_path, text):
        put_lines(tmp_path / "train.txt", text)
        assert not ListFiles.recognises(tmp_path)


def test_rafdb_counts_from_1_in_its_own_order(tmp_path):
    lines = ["test_0001.jpg 7", *(f"train_0000{number}.jpg {number}" for number in range(1, 8))]
    put_lines(tmp_path / "EmoLabel/list_patition_label.txt", *lines)
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
    put_lines(tmp_path / "label/label.lst", *lines)
    put_files(tmp_path, one := "image/origin/a b.jpg", other := "image/origin/c.jpg")
    reader = open_reader(tmp_path)
    samples = reader.read().samples
    assert [(s.key, EMOTIONS[s.emotion], s.box, s.subject, s.split) for s in samples] == [
        (f"{one}#0", "anger", (113, 28, 226, 141), one, "train"),
        (f"{one}#1", "happiness", (10, 30, 60, 80), one, "train"),
        (f"{other}#0", "neutral", (-5, 0, 60, 60), other, "train"),
    ]
    assert reader.encoded(samples[1]) == one.encode()
