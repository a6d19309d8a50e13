"""Lists of ``path label`` lines, and RAF-DB's and ExpW's own kinds of them."""

import pytest
from on_disk import faces, has_note, put_files, put_lines, read

from emodet.datasets.list_files import ListFiles, RafDb
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, RAFDB_ORDER


class TestListFiles:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_paths_and_labels(self, tmp_path, encoding):
        lines = ["1/a b.jpg 6", "# mine", "", "2\\c.JPG 0", "2/n.jpg 8"]
        put_lines(tmp_path / "affectnet_train.txt", *lines, encoding=encoding)
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

    def test_each_list_finds_its_own_folder(self, tmp_path):
        for number, split in enumerate(("train", "test", "val")):
            put_lines(tmp_path / f"{split}.txt", f"1.jpg {number}")
        put_files(tmp_path, "pictures/test/1.jpg", "pictures/train/1.jpg", "pictures/valid/1.jpg")
        # Every path fits in every folder.
        assert faces(read(tmp_path)) == {
            "pictures/test/1.jpg": ("test", "happiness"),
            "pictures/train/1.jpg": ("train", "neutral"),
            "pictures/valid/1.jpg": ("val", "sadness"),
        }

    @pytest.mark.parametrize("text", ["hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person", "a.jpg 99"])
    def test_other_texts_are_no_lists(self, tmp_path, text):
        put_lines(tmp_path / "train.txt", text)
        assert not ListFiles.recognises(tmp_path)


RAFDB_LIST = "EmoLabel/list_patition_label.txt"


def rafdb(root, *lines, folder="Image/aligned", name=RAFDB_LIST):
    lines = lines or ("train_00001.jpg 5", "train_00002.jpg 1", "test_0001.jpg 7")
    put_lines(root / name, *lines)
    put_files(root, *(f"{folder}/{line.split('.')[0]}_aligned.jpg" for line in lines if "/" not in line))
    return root


class TestRafDb:
    @pytest.mark.parametrize("folder", ["Image/aligned", "Image/aligned/aligned", "aligned"])
    @pytest.mark.parametrize("name", [RAFDB_LIST, "EmoLabel/list_partition_label.txt"])
    def test_counts_from_1_in_its_own_order(self, tmp_path, folder, name):
        rafdb(tmp_path / "basic", folder=folder, name=name)
        reader = open_reader(tmp_path)
        assert faces(reader.read()) == {
            f"{folder}/test_0001_aligned.jpg": ("test", "neutral"),
            f"{folder}/train_00001_aligned.jpg": ("train", "sadness"),
            f"{folder}/train_00002_aligned.jpg": ("train", "surprise"),
        }
        assert reader.encoded(reader.read().samples[0]) == f"{folder}/test_0001_aligned.jpg".encode()

    def test_all_seven(self, tmp_path):
        rafdb(tmp_path, *(f"train_0000{number}.jpg {number}" for number in range(1, 8)))
        assert [name for _, name in faces(read(tmp_path)).values()] == list(RAFDB_ORDER)
        assert [sum(RafDb.expected[split].values()) for split in ("train", "test")] == [12_271, 3_068]


# name face_id top left right bottom confidence label
EXPW = ["angry boy_1.jpg 0 28 113 226 141 22.9362 0", "angry boy_1.jpg 1 30 10 60 80 9.5 3", "b.jpg 0 0 -5 60 60 1 6"]


def expw(root, *more, folder="image/origin"):
    put_lines(root / "label/label.lst", *EXPW, *more)
    put_files(root, f"{folder}/angry boy_1.jpg", f"{folder}/b.jpg")
    return root


class TestExpW:
    @pytest.mark.parametrize("folder", ["image/origin", "origin", "data/image/origin"])
    def test_top_comes_before_left_and_faces_of_a_picture_stay_together(self, tmp_path, folder):
        reader = open_reader(expw(tmp_path, folder=folder))
        samples = reader.read().samples
        boy, b = f"{folder}/angry boy_1.jpg", f"{folder}/b.jpg"
        assert [(s.key, EMOTIONS[s.emotion], s.box, s.subject, s.split) for s in samples] == [
            (f"{boy}#0", "anger", (113, 28, 226, 141), boy, "train"),
            (f"{boy}#1", "happiness", (10, 30, 60, 80), boy, "train"),
            (f"{b}#0", "neutral", (-5, 0, 60, 60), b, "train"),
        ]
        assert reader.encoded(samples[1]) == boy.encode()
