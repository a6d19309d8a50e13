"""All readers: which one reads a root, what changes no face, and that bad input is refused or listed by name.

The variants that people hold of each family (littered folders, extensions in capitals, and many more), and what is
refused, are releases in `tests/golden/releases.tar.xz`, with the results of each in `readers.json`.
"""

import contextlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_files import png_bomb
from made_reader import picture
from made_releases import RELEASES
from on_disk import error_of, put_files
from on_disk import read as listing_of

from emodet.data.packing import prepare_pack
from emodet.datasets.readers import READERS, open_reader
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing

BINARY = ("affectnet_npy", "ferplus", "image_label_parquet")
NAMES_ALONE = ("jaffe", "ckplus", "class_folders")  # no file says anything about the faces
WITH_TEXT = [name for name in RELEASES if name not in (*BINARY, *NAMES_ALONE)]
WITH_PICTURES = [name for name in RELEASES if name not in (*BINARY[1:], "fer2013", "ferplus_csv")]
TRAIN, LAST_VAL, LAST_TEST = ["train"] * 8, ["train"] * 6 + ["val"] * 2, ["train"] * 6 + ["test"] * 2
USAGES, TWO, BOX = ["train", "train", "val", "test"] * 2, ("anger", "happiness"), (5, 5, 35, 35)
MOOD, VOTES = {"valence": 0.5, "arousal": -0.25}, {"soft_label": (1, 0, 0, 0, 0, 0, 0, 0)}
# What number n of a family's order means, the split of each picture, and what else is known of the first face.
DISTRIBUTED = {
    "affectnet_csv": (EMOTIONS, LAST_VAL, {"box": BOX, **MOOD}),
    "affectnet_npy": (EMOTIONS, LAST_VAL, MOOD),
    "affectnet_plus": (EMOTIONS, LAST_VAL, {"soft_label": (0.5, 0.25, 0.25, 0, 0, 0, 0, 0), **MOOD}),
    "labels_csv": (TWO, TRAIN, {}),
    "yolo": (ALPHABETICAL_ORDER, LAST_VAL, {}),
    "ferplus": (FERPLUS_ORDER, LAST_VAL, VOTES),
    "image_label_parquet": (TWO, TRAIN, {}),
    "fer2013": (FER2013_ORDER, USAGES, {}),
    "ferplus_csv": (FERPLUS_ORDER, USAGES, VOTES),
    "rafdb": (RAFDB_ORDER, LAST_TEST, {}),
    # The files have top before left; faces of one picture stay together.
    "expw": (FER2013_ORDER, TRAIN, {"box": (6, 4, 36, 34), "subject": "image/origin/0.jpg"}),
    "jaffe": (TWO, TRAIN, {"subject": "KA"}),
    "ckplus": (TWO, TRAIN, {"subject": "S000"}),
    "own_csv": (("sadness", "happiness"), TRAIN, {"box": BOX, "subject": "ann", **MOOD}),
    "list_files": (EMOTIONS, LAST_VAL, {}),
    "class_folders": (TWO, TRAIN, {}),
}
assert set(RELEASES) == set(READERS) == set(DISTRIBUTED)


def read(root):
    reader = open_reader(root)
    listing = reader.read()
    assert all(reader.encoded(sample) for sample in listing.samples)
    return reader.name, listing


def number_of(reader, sample):
    """The number of a face in its release, by its pixels."""
    rgb = decode_rgb(reader.encoded(sample))
    if not rgb.std():  # of FER2013
        return int(rgb[0, 0, 0])
    number = next(number for number in range(8) if np.array_equal(rgb, picture(number, len(rgb))))
    return 2 * number + int(sample.key[-1]) if reader.name == "expw" else number


@pytest.mark.parametrize("name", RELEASES)
def test_each_face_has_its_own_label_split_and_annotation_beside_its_picture(name, tmp_path):
    order, splits, known = DISTRIBUTED[name]
    reader = open_reader(RELEASES[name](tmp_path / "release").root)
    faces = {number_of(reader, sample): sample for sample in reader.read().samples}
    for number, face in faces.items():
        assert (EMOTIONS[face.emotion], face.split) == (order[number % len(order)], splits[number])
    fields = {name: getattr(faces[0], name) for name in ("box", "soft_label", "valence", "arousal", "subject")}
    assert {name: value for name, value in fields.items() if value is not None} == known
    assert len(pickle.dumps(reader)) < 5000  # workers receive no pictures


@pytest.mark.parametrize("name", RELEASES)
def test_each_release_is_recognised_by_its_own_reader_first_and_packed(name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    assert next(reader.name for reader in READERS.values() if reader.base_of(made.root)) == name
    reader = open_reader(made.root)
    listing = reader.read()
    assert (type(reader), len(listing.samples), listing.left_out) == (READERS[name], made.faces, {})
    again = pickle.loads(pickle.dumps(reader))
    assert [again.encoded(sample) for sample in listing.samples] == [reader.encoded(each) for each in listing.samples]
    pack = prepare_pack(reader, Preprocessing(size=48), tmp_path / "packs", processes=1, progress=False)
    assert (len(pack), pack.manifest["reader"]) == (made.faces, name)
    assert json.loads(json.dumps(pack.manifest)) == pack.manifest
    pack.verify()
    assert READERS[name].title
    assert READERS[name].signs
    put_files(tmp_path, "other/holiday.jpg")
    assert all(part in error_of(tmp_path / "other", name) for part in (str(tmp_path / "other"), READERS[name].title))
    (tmp_path / "empty").mkdir()
    assert "empty" in error_of(tmp_path / "empty", name)


def test_the_more_particular_sign_wins_also_below_the_home_folder(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for name in ("affectnet_csv", "affectnet_npy"):
        RELEASES[name](tmp_path / "release")
    reader = open_reader(Path("~/release"))
    assert (reader.name, reader.root) == ("affectnet_npy", tmp_path / "release")
    assert open_reader(tmp_path / "release", "affectnet_csv").name == "affectnet_csv"


def test_a_root_of_no_known_release_lists_the_known_ones(tmp_path):
    assert "nowhere" in error_of(tmp_path / "nowhere")
    for name in ("holiday.jpg", "data.yaml", "train_set", "faces.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"\xff\x00")
    message = error_of(tmp_path)
    for part in (str(tmp_path), "holiday.jpg", *READERS, *(reader.signs for reader in READERS.values())):
        assert part in message
    assert str(tmp_path / "notes.txt") in error_of(tmp_path / "notes.txt")


def test_unknown_readers_and_options_name_the_known_ones(tmp_path):
    RELEASES["affectnet_csv"](tmp_path / "csv")
    assert open_reader(tmp_path / "csv", landmarks=True).options()["landmarks"] is True
    for reader, options, parts in (
        ("affectnet", {}, ("data.reader='affectnet'", "affectnet_plus, affectnet_npy")),
        ("auto", {"landmark": True}, ("data.reader_options.landmark:", "landmarks=False")),
        ("auto", {"landmarks": "yes"}, ("landmarks='yes'", "true or false")),
    ):
        assert all(part in error_of(tmp_path / "csv", reader, **options) for part in parts)
    RELEASES["yolo"](tmp_path / "yolo")
    assert all(part in error_of(tmp_path / "yolo", landmarks=True) for part in ("reader_options.landmarks:", "none"))


CHANGES = {
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "other line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "no last line end": lambda data: data.rstrip(b"\n"),
    "blank lines at the end": lambda data: data + b"\n\n",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", WITH_TEXT)
def test_it_changes_nothing(change, name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    before = read(made.root)
    for file in made.root.rglob("*"):
        if file.suffix in {".csv", ".txt", ".lst", ".yaml", ".json"}:
            file.write_bytes(CHANGES[change](file.read_bytes()))
    assert read(made.root) == before
    assert before[0] == name


@pytest.mark.parametrize("name", RELEASES)
def test_folders_around_it_and_links_to_it_change_nothing(name, tmp_path):
    made = RELEASES[name](tmp_path / "downloads/archive/release")
    before = read(made.root)
    put_files(tmp_path / "downloads/archive", "__MACOSX/x", ".hidden/x")
    assert read(tmp_path / "downloads")[1].samples == before[1].samples
    (tmp_path / "link").symlink_to(made.root)
    assert read(tmp_path / "link") == before


PICTURES = {
    "bomb": (lambda file: file.write_bytes(png_bomb(9_000, 9_000)), "9000"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "damaged or cut off"),
    "empty": (lambda file: file.write_bytes(b""), "the file is empty"),
    "no picture": (lambda file: file.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "supported"),
    "link to itself": (lambda file: (file.unlink(), file.symlink_to(file)), "symbolic links"),
    "pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "a pipe or a device"),
    "device": (lambda file: (file.unlink(), file.symlink_to("/dev/zero")), "a pipe or a device"),
    "folder": (lambda file: (file.unlink(), file.mkdir()), "not a file but a folder"),
    "giant": (lambda file: os.truncate(file, 2**40), "are more than 268,435,456"),
}


@pytest.mark.parametrize(
    ("name", "fault"), [*((name, "bomb") for name in WITH_PICTURES), *(("own_csv", fault) for fault in PICTURES)]
)
def test_a_picture_that_cannot_be_read_is_listed_and_the_rest_is_packed(name, fault, tmp_path):
    """Nothing of it is waited for, or read into memory as a whole."""
    made = RELEASES[name](tmp_path / "release")
    spoil, said = PICTURES[fault]
    spoil(made.picture)
    reader, options = open_reader(made.root, name), {"processes": 1, "progress": False}
    with pytest.raises(EmodetError) as caught:
        prepare_pack(reader, Preprocessing(size=16), tmp_path / "packs", max_unreadable=0, **options)
    assert made.picture.name in str(caught.value)
    assert said in str(caught.value)
    pack = prepare_pack(reader, Preprocessing(size=16), tmp_path / "packs", max_unreadable=0.5, **options)
    lost = 2 if name == "expw" else 1
    assert len(pack) == made.faces - lost
    assert len(pack.manifest["unreadable"]) == lost
    for entry in pack.manifest["unreadable"]:
        assert made.picture.name in entry["key"]
        assert said in entry["reason"]


@pytest.mark.parametrize("name", RELEASES)
def test_a_loop_of_links_ends(name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    expected = listing_of(made.root, name)
    for folder in {made.root, made.said_in.parent, *([made.picture.parent] if made.picture else [])}:
        (folder / "loop").symlink_to(made.root, target_is_directory=True)
        (folder / "itself").symlink_to(folder / "itself")
    with contextlib.suppress(EmodetError):
        # Where folders are classes, one that is called loop is none; else nothing has changed.
        assert {record.emotion for record in listing_of(made.root, name).samples} == {
            each.emotion for each in expected.samples
        }
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "only").symlink_to(outer, target_is_directory=True)
    with pytest.raises(EmodetError):
        open_reader(outer, name).read()


FILES = {
    "gone": lambda file: file.unlink(),
    "a folder in its place": lambda file: (file.unlink(), file.mkdir()),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file)),
    "empty": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(4096)),
    "half of it": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "without its last byte but one": lambda file: file.write_bytes(file.read_bytes()[:-2]),
    "another encoding": lambda file: file.write_bytes(
        file.read_bytes()[:40] + b"\xff\xfe\xe4" + file.read_bytes()[40:]
    ),
    "one endless line": lambda file: file.write_bytes(b"a," * 100_000),
}


@pytest.mark.parametrize("fault", FILES)
@pytest.mark.parametrize("name", RELEASES)
def test_a_damaged_file_is_an_error_of_ours_or_changes_no_other_face(name, fault, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    before = {record.key: record for record in listing_of(made.root, name).samples}
    FILES[fault](made.said_in)
    for reader in READERS.values():
        reader.base_of(made.root)
    said, samples = str(made.root), []
    try:
        samples = listing_of(made.root, name).samples
    except EmodetError as problem:
        said = str(problem)
    assert str(made.root) in said
    for record in samples:
        assert (before[record.key].emotion, before[record.key].split) == (record.emotion, record.split)


@pytest.mark.parametrize("name", [name for name in RELEASES if name not in NAMES_ALONE])
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_only_an_emodet_error_comes_out(name, tmp_path, data):
    root = tmp_path / "release"
    if not root.exists():
        made = RELEASES[name](root)
        made.said_in.rename(tmp_path / "whole")
        (tmp_path / "place").write_text(str(made.said_in))
    whole = (tmp_path / "whole").read_bytes()
    at, new = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=12))
    rest = b"" if data.draw(st.booleans()) else whole[at + len(new) :]
    Path((tmp_path / "place").read_text()).write_bytes(whole[:at] + new + rest)
    for reader in ("auto", name):
        with contextlib.suppress(EmodetError):
            listing_of(root, reader)
