"""What is particular to one family: missing pictures, links, published counts, and files that bring code.

The majority of FER+'s votes, and other variants, are in the golden results of the readers.
"""

import contextlib
import os
import pickle
from itertools import product

import numpy as np
import pytest
from made_files import put_text
from made_reader import picture
from made_releases import RELEASES
from on_disk import error_of, has_note, put_files, read

from emodet.datasets.affectnet_npy import read_numbers
from emodet.datasets.class_folders import CkPlus48, ClassFolders
from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.list_files import ListFiles, RafDb
from emodet.datasets.readers import open_reader
from emodet.datasets.summary import listing_summary
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.images import decode_rgb

# AffectNet's lists.


def list_again(made, faces):
    """Replace the training list: path, emotion, valence and arousal of each face; its picture is put there."""
    header = made.said_in.read_text().splitlines()[0]
    put_text(made.said_in, header, *(f"{path},5,5,30,30,,{emotion},{mood}" for path, emotion, mood in faces))
    put_files(made.root / "Manually_Annotated/Manually_Annotated_Images", *(path for path, *_ in faces))


@pytest.mark.parametrize(("landmarks", "said"), [(True, "landmarks all"), (False, "landmarks not read (")])
def test_a_listing_says_whether_landmarks_were_read(tmp_path, landmarks, said):
    reader = open_reader(RELEASES["affectnet_csv"](tmp_path).root, landmarks=landmarks)
    assert said in listing_summary(reader, reader.read())
    assert reader.options() == {"automatic": False, "keep_none": False, "landmarks": landmarks}


def test_few_missing_pictures_are_counted_and_named_and_many_stop(tmp_path):
    made = RELEASES["affectnet_csv"](tmp_path)
    list_again(made, [(f"7/{number:04}.jpg", number % 8, "0.5,-0.25") for number in range(2000)])
    folder = made.picture.parents[1] / "7"
    (folder / "0011.jpg").unlink()
    listing = read(tmp_path)
    assert (listing.left_out, len(listing.samples)) == ({"picture is not there": 1}, 2001)
    assert has_note(listing, "7/0011.jpg")
    for number in range(1, 602, 2):  # the sample that finds the folder takes every second row
        (folder / f"{number:04}.jpg").unlink(missing_ok=True)
    assert all(part in error_of(tmp_path) for part in ("training.csv", "301 of 2,000", "7/0001.jpg"))
    for number in range(0, 602, 2):
        (folder / f"{number:04}.jpg").unlink()
    assert "7/0000.jpg" in error_of(tmp_path)


def test_labels_in_another_order_raise_a_doubt(tmp_path):
    made = RELEASES["affectnet_csv"](tmp_path)
    happy = [(f"1/h{number}.jpg", 1, "0.7,0.1") for number in range(60)]
    for sad, doubts in ((2, False), (3, True)):
        list_again(made, [*happy, *((f"1/s{number}.jpg", sad, "-0.6,-0.3") for number in range(60))])
        assert has_note(read(tmp_path), "order", "surprise") == doubts


def test_control_characters_that_an_error_quotes_are_escaped(tmp_path):
    RELEASES["affectnet_csv"](tmp_path).said_in.write_bytes(b"\x1b[31mpath\x07,\xc2\x9bx\n")
    error = error_of(tmp_path)
    assert error.isprintable()
    assert all(part in error for part in ("training.csv", r"\x1b[31mpath\x07", r"\x9bx"))


# Annotations in files of their own.


@pytest.mark.parametrize(
    ("name", "annotation", "noun"),
    [
        ("affectnet_npy", "annotations/{}_exp.npy", "an annotation"),
        ("affectnet_plus", "annotations/{}.json", "an annotation"),
        ("yolo", "labels/{}.txt", "a label file"),
    ],
)
def test_what_only_one_folder_holds_is_counted_and_named_and_much_of_it_stops(name, annotation, noun, tmp_path):
    made = RELEASES[name](tmp_path, 30)
    folder = made.picture.parents[1]
    put_files(folder, "images/Thumbs.db", "labels/classes.txt")
    (folder / "images/9.jpg").unlink()
    (folder / annotation.format(10)).unlink()
    listing = read(tmp_path)
    assert listing.left_out == {f"{noun.split(' ', 1)[1]} without a picture": 1, f"picture without {noun}": 1}
    assert has_note(listing, "10.jpg")
    assert [key for sample in listing.samples if (key := sample.key.rpartition("/")[2]) in ("9.jpg", "10.jpg")] == []
    for number in range(11, 14):
        (folder / f"images/{number}.jpg").unlink()
    assert all(part in error_of(tmp_path) for part in (folder.name, "4 of 27", "11"))


def test_a_face_of_affectnet_2021_without_its_file_of_valence_has_none(tmp_path):
    made = RELEASES["affectnet_npy"](tmp_path)
    made.said_in.with_name("0_val.npy").unlink()
    assert [sample.valence for sample in read(tmp_path).samples[:2]] == [None, 0.5]


def test_the_first_line_of_a_label_file_counts(tmp_path):
    folder = RELEASES["yolo"](tmp_path, 30).picture.parents[1]
    for number, label in ((3, "\n6 0.5 0.5 1 1\n0 0.1 0.1 0.2 0.2\n"), (4, ""), (5, " \n\n")):
        (folder / f"labels/{number}.txt").write_text(label)
    listing = read(tmp_path)
    emotions = {sample.key: EMOTIONS[sample.emotion] for sample in listing.samples}
    assert emotions["train/images/3.jpg"] == "sadness"
    assert listing.left_out == {"label file is empty": 2}
    assert has_note(listing, "images/4.jpg, images/5.jpg")
    assert has_note(listing, "1 files with several lines")


class Dangerous:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_annotations_run_no_code(tmp_path, capsys):
    file = RELEASES["affectnet_npy"](tmp_path / "npy").said_in
    np.save(file, np.array([Dangerous()], dtype=object), allow_pickle=True)
    assert all(part in error_of(tmp_path / "npy") for part in (file.name, "Python objects"))
    code = "names: [anger]\nx: !!python/object/apply:builtins.print [this must not be printed]"
    RELEASES["yolo"](tmp_path / "yolo").said_in.write_text(code)
    with contextlib.suppress(EmodetError):
        read(tmp_path / "yolo")
    assert "must not be printed" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_headers_of_any_type_and_shape_give_numbers_or_an_emodet_error():
    """Any bytes in the place of others are tried by the test of all readers."""
    kinds = ("<U0", "|O", "V8", "<f99", "M8[s]", "<f8", "<f4", ">U1", "<U1", "(2,)f4", "", "no type", "ü")
    shapes = ("()", "(1,)", "(-1,)", "(0,)", "(1e3,)", "(136,)", "(999999999999999999999,)", "[1]", "None", "(")
    contents = (b"", b"\0" * 4, b"\0\x11\0\0", b"\xff" * 8)  # the third is a code point above U+10FFFF
    for kind, shape, cells, count in product(kinds, shapes, contents, (1, 136)):
        header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode("latin-1")
        with contextlib.suppress(EmodetError):
            data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + cells * count
            numbers = read_numbers(data, count, "file.npy")
            assert len(numbers) == count
            assert all(isinstance(number, float) for number in numbers)


# Parquet files, folders, lists and CSV files.


@pytest.mark.parametrize("group", [None, 1, 7, 100])
def test_pictures_of_any_row_in_any_order(tmp_path, group):
    reader = open_reader(RELEASES["image_label_parquet"](tmp_path / "data", 120, group).root)
    samples = reader.read().samples
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        for row in [*range(0, 120, 9), 0, 119, 118, 64, 63, 65, 2, 2]:
            assert np.array_equal(decode_rgb(copy.encoded(samples[row])), picture(row))


def test_links_are_followed_and_a_loop_ends(tmp_path):
    put_files(tmp_path, "data/train/happy/a.jpg", "data/train/sad/b.jpg", "album/c.jpg", "album/sub/d.jpg", "e/e.jpg")
    train = tmp_path / "data/train"
    for link, target in (
        (train / "happy/again", train / "happy"),
        (train / "sad/up", train),
        (train / "sad/more", tmp_path / "album"),
        (train / "fear", tmp_path / "e"),
        (train / "happy/self", "self"),
        (train / "anger", tmp_path / "gone"),
    ):
        link.symlink_to(target)
    listing = read(tmp_path / "data")
    keys = {sample.key for sample in listing.samples}
    assert {"train/sad/more/c.jpg", "train/sad/more/sub/d.jpg", "train/fear/e.jpg"} <= keys
    assert len([key for key in keys if key.endswith("a.jpg")]) == 2  # itself, and below sad/up/
    assert has_note(listing, "happy/self")
    assert has_note(listing, "train/anger")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every folder can be read by root")
@pytest.mark.parametrize("folder", ["val/sad", "val"])
def test_a_folder_that_cannot_be_read_is_named(folder, tmp_path):
    put_files(tmp_path, "train/happy/a.jpg", "train/sad/b.jpg", "val/happy/c.jpg", "val/sad/d.jpg")
    (tmp_path / folder).chmod(0)
    try:
        assert f"{folder}: cannot be read" in error_of(tmp_path)
    finally:
        (tmp_path / folder).chmod(0o755)


@pytest.mark.parametrize(
    ("reader", "files"),
    [
        *((ClassFolders, [f"{name}/x.jpg" for name in names]) for names in (["happy"], ["images", "labels"])),
        (ClassFolders, ["12/x.jpg", "13/x.jpg", "104/x.jpg"]),
        (CkPlus48, ["anger/S1_2.png", "happy/x.png"]),
    ],
)
def test_other_folders_are_not_recognised(reader, files, tmp_path):
    put_files(tmp_path, *files)
    assert not reader.base_of(tmp_path)


@pytest.mark.parametrize("text", ["hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person", "a.jpg 99"])
def test_other_texts_are_no_lists(tmp_path, text):
    put_text(tmp_path / "train.txt", text)
    assert not ListFiles.base_of(tmp_path)


def test_absolute_paths_with_a_link_or_without(tmp_path):
    put_files(tmp_path, "p/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path)
    for written in (tmp_path, tmp_path / "link"):
        put_text(tmp_path / "faces.csv", "path,emotion", f"{written}/p/a.jpg,happy")
        assert read(tmp_path / "link").samples[0].key == "p/a.jpg"


def test_published_counts(tmp_path):
    for reader, counts in ((RafDb, {"train": 12_271, "test": 3_068}), (CkPlus48, {"train": 981})):
        assert {split: sum(of_class.values()) for split, of_class in reader.expected.items()} == counts
    root = RELEASES["affectnet_csv"](tmp_path).root
    for automatic, fear in ((False, 6_378), (True, 3_799)):
        assert open_reader(root, automatic=automatic).expected["train"]["fear"] == fear


def test_header_of_what_is_no_csv(tmp_path):
    assert header_of(tmp_path / "nothing.csv") == header_of(tmp_path) == ()
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf# Path; EMOTION\r1;2")
    assert header_of(tmp_path / "x.csv") == ("path", "emotion")
    with pytest.raises(EmodetError, match=r"nothing\.csv"):
        CsvRows(tmp_path / "nothing.csv", ("path",))
