"""Readers: which one reads a root, what changes no face, and that bad input is refused or listed by name.

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
from made_files import png_bomb, put, put_text
from made_reader import picture
from made_releases import RELEASES

from emodet.data.packing import Packing
from emodet.datasets.class_folders import CkPlus48, ClassFolders
from emodet.datasets.list_files import ListFiles, RafDb
from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.summary import listing_summary
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing


def put_files(root, *paths):
    """Files that hold their own path, so that a test sees which one was read."""
    for path in paths:
        put(root / path, path.encode())


def read(root, reader="auto", **options):
    return open_reader(root, reader, **options).read()


def error_of(root, reader="auto", **options):
    with pytest.raises(EmodetError) as caught:
        read(root, reader, **options)
    return str(caught.value)


def has_note(listing, *parts):
    return any(all(part in note for part in parts) for note in listing.notes)


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


def recognised(root):
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
def test_each_face_has_its_label_split_and_annotations(name, tmp_path):
    order, splits, known = DISTRIBUTED[name]
    reader = open_reader(RELEASES[name](tmp_path / "release").root)
    faces = {number_of(reader, sample): sample for sample in reader.read().samples}
    for number, face in faces.items():
        assert (EMOTIONS[face.emotion], face.split) == (order[number % len(order)], splits[number])
    fields = {name: getattr(faces[0], name) for name in ("box", "soft_label", "valence", "arousal", "subject")}
    assert {name: value for name, value in fields.items() if value is not None} == known
    assert len(pickle.dumps(reader)) < 5000  # workers receive no pictures


@pytest.mark.parametrize("name", RELEASES)
def test_each_release_is_recognised_by_its_own_reader_and_packed(name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    assert next(reader.name for reader in READERS.values() if reader.base_of(made.root)) == name
    reader = open_reader(made.root)
    listing = reader.read()
    assert (type(reader), len(listing.samples), listing.left_out) == (READERS[name], made.faces, {})
    again = pickle.loads(pickle.dumps(reader))
    assert [again.encoded(sample) for sample in listing.samples] == [reader.encoded(each) for each in listing.samples]
    pack = Packing(reader, Preprocessing(size=48), tmp_path / "packs", processes=1, progress=False).make()
    assert (len(pack), pack.manifest["reader"]) == (made.faces, name)
    assert json.loads(json.dumps(pack.manifest)) == pack.manifest
    pack.verify()
    assert READERS[name].title
    assert READERS[name].signs
    put_files(tmp_path, "other/holiday.jpg")
    assert all(part in error_of(tmp_path / "other", name) for part in (str(tmp_path / "other"), READERS[name].title))
    (tmp_path / "empty").mkdir()
    assert "empty" in error_of(tmp_path / "empty", name)


def test_the_more_specific_reader_wins(tmp_path, monkeypatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for name in ("affectnet_csv", "affectnet_npy"):
        RELEASES[name](tmp_path / "release")
    reader = open_reader(Path("~/release"))
    assert (reader.name, reader.root) == ("affectnet_npy", tmp_path / "release")
    assert has_note(reader.read(), "also holds", "data.reader=affectnet_csv")
    assert open_reader(tmp_path / "release", "affectnet_csv").name == "affectnet_csv"


def test_a_root_of_no_known_release_lists_the_known_ones(tmp_path):
    assert "nowhere" in error_of(tmp_path / "nowhere")
    for name in ("holiday.jpg", "data.yaml", "train_set", "faces.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"\xff\x00")
    message = error_of(tmp_path)
    for part in (str(tmp_path), "holiday.jpg", *READERS, *(reader.signs for reader in READERS.values())):
        assert part in message
    assert str(tmp_path / "notes.txt") in error_of(tmp_path / "notes.txt")


def test_options_are_in_the_listing_and_unknown_readers_and_options_name_the_known_ones(tmp_path):
    RELEASES["affectnet_csv"](tmp_path / "csv")
    for landmarks, said in ((True, "landmarks all"), (False, "landmarks not read (")):
        reader = open_reader(tmp_path / "csv", landmarks=landmarks)
        assert said in listing_summary(reader, reader.read())
        assert reader.options() == {"automatic": False, "keep_none": False, "landmarks": landmarks}
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
def test_encoding_marks_and_line_ends_change_nothing(change, name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    before = recognised(made.root)
    for file in made.root.rglob("*"):
        if file.suffix in {".csv", ".txt", ".lst", ".yaml", ".json"}:
            file.write_bytes(CHANGES[change](file.read_bytes()))
    assert recognised(made.root) == before
    assert before[0] == name


@pytest.mark.parametrize("name", RELEASES)
def test_folders_around_a_release_and_links_to_it_change_nothing(name, tmp_path):
    made = RELEASES[name](tmp_path / "downloads/archive/release")
    before = recognised(made.root)
    put_files(tmp_path / "downloads/archive", "__MACOSX/x", ".hidden/x")
    assert recognised(tmp_path / "downloads")[1].samples == before[1].samples
    (tmp_path / "link").symlink_to(made.root)
    assert recognised(tmp_path / "link") == before


PICTURES = {
    "bomb": (lambda file: file.write_bytes(png_bomb(9_000, 9_000)), "9000"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "damaged or cut off"),
    "empty": (lambda file: file.write_bytes(b""), "the file is empty"),
    "no picture": (lambda file: file.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image"),
    "link to itself": (lambda file: (file.unlink(), file.symlink_to(file)), "symbolic links"),
    "pipe": (lambda file: (file.unlink(), os.mkfifo(file)), "not a regular file"),
    "device": (lambda file: (file.unlink(), file.symlink_to("/dev/zero")), "not a regular file"),
    "folder": (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
    "giant": (lambda file: os.truncate(file, 2**40), "more than 268,435,456"),
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
        Packing(reader, Preprocessing(size=16), tmp_path / "packs", max_unreadable=0, **options).make()
    assert made.picture.name in str(caught.value)
    assert said in str(caught.value)
    pack = Packing(reader, Preprocessing(size=16), tmp_path / "packs", max_unreadable=0.5, **options).make()
    lost = 2 if name == "expw" else 1
    assert len(pack) == made.faces - lost
    assert len(pack.manifest["unreadable"]) == lost
    for entry in pack.manifest["unreadable"]:
        assert made.picture.name in entry["key"]
        assert said in entry["reason"]


@pytest.mark.parametrize("name", RELEASES)
def test_a_loop_of_links_ends(name, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    expected = {each.emotion for each in read(made.root, name).samples}
    for folder in {made.root, made.said_in.parent, (made.picture or made.said_in).parent}:
        (folder / "loop").symlink_to(made.root, target_is_directory=True)
        (folder / "itself").symlink_to(folder / "itself")
    with contextlib.suppress(EmodetError):  # where folders are classes, "loop" is not one
        assert {each.emotion for each in read(made.root, name).samples} == expected
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/only").symlink_to(tmp_path / "outer", target_is_directory=True)
    error_of(tmp_path / "outer", name)


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
def test_a_damaged_list_is_refused_by_name_or_changes_no_other_face(name, fault, tmp_path):
    made = RELEASES[name](tmp_path / "release")
    before = {record.key: record for record in read(made.root, name).samples}
    FILES[fault](made.said_in)
    for reader in READERS.values():
        reader.base_of(made.root)
    said, samples = str(made.root), []
    try:
        samples = read(made.root, name).samples
    except EmodetError as problem:
        said = str(problem)
    assert str(made.root) in said
    for record in samples:
        assert (before[record.key].emotion, before[record.key].split) == (record.emotion, record.split)


@pytest.mark.parametrize("name", [name for name in RELEASES if name not in NAMES_ALONE])
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_list_with_any_changed_bytes_is_read_or_refused(name, tmp_path, data):
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
            read(root, reader)


def test_few_missing_pictures_are_counted_and_named_and_many_stop(tmp_path):
    made = RELEASES["affectnet_csv"](tmp_path)
    header, paths = made.said_in.read_text().splitlines()[0], [f"7/{number:04}.jpg" for number in range(2000)]
    put_text(made.said_in, header, *(f"{path},5,5,30,30,,{n % 8},0.5,-0.25" for n, path in enumerate(paths)))
    put_files(made.picture.parents[1], *paths)
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


def test_control_characters_in_errors_are_escaped(tmp_path):
    RELEASES["affectnet_csv"](tmp_path).said_in.write_bytes(b"\x1b[31mpath\x07,\xc2\x9bx\n")
    error = error_of(tmp_path)
    assert error.isprintable()
    assert all(part in error for part in ("training.csv", r"\x1b[31mpath\x07", r"\x9bx"))


class Dangerous:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_annotations_run_no_code(tmp_path, capsys):
    file = RELEASES["affectnet_npy"](tmp_path / "npy").said_in
    np.save(file, np.array([Dangerous()], dtype=object), allow_pickle=True)
    assert all(part in error_of(tmp_path / "npy") for part in (file.name, "not an npy file of numbers"))
    code = "names: [anger]\nx: !!python/object/apply:builtins.print [this must not be printed]"
    RELEASES["yolo"](tmp_path / "yolo").said_in.write_text(code)
    with contextlib.suppress(EmodetError):
        read(tmp_path / "yolo")
    assert "must not be printed" not in capsys.readouterr().out


def test_links_are_followed(tmp_path):
    put_files(tmp_path, "data/train/happy/a.jpg", "data/train/sad/b.jpg", "album/c.jpg", "album/sub/d.jpg", "e/e.jpg")
    train = tmp_path / "data/train"
    for link, target in (("sad/more", "album"), ("fear", "e"), ("happy/again", "data/train/happy"), ("anger", "gone")):
        (train / link).symlink_to(tmp_path / target)
    listing = read(tmp_path / "data")
    keys = {f"train/{name}.jpg" for name in ("happy/a", "sad/b", "sad/more/c", "sad/more/sub/d", "fear/e")}
    assert {sample.key for sample in listing.samples} == keys
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
        *((ListFiles, {"train.txt": text}) for text in ("hello world", "1 0.5 0.5 1 1", "a.jpg", "a.jpg person")),
        (ListFiles, {"train.txt": "a.jpg 99"}),
    ],
)
def test_other_folders_and_texts_are_not_recognised(reader, files, tmp_path):
    for name in files:
        put_text(tmp_path / name, files[name] if isinstance(files, dict) else name)
    assert not reader.base_of(tmp_path)


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
