"""Bad input, over all readers: each fault is an error of ours that names it, or is counted and listed."""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_releases import RELEASES, Made

from emodet.data.packing import prepare_pack
from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.samples import Listing
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

WITH_PICTURES = [name for name in RELEASES if name not in ("ferplus", "image_label_parquet", "fer2013", "ferplus_csv")]
# One file says nothing about the faces here: names of folders and pictures do.
WITH_A_FILE = [name for name in RELEASES if name not in ("jaffe", "ckplus", "class_folders")]


def read(made: Made, name: str) -> Listing:
    return open_reader(made.root, name).read()


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 9,000 × 9,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_there_is_a_made_release_for_every_reader(tmp_path: Path) -> None:
    assert set(RELEASES) == set(READERS)
    for name, make in RELEASES.items():
        made = make(tmp_path / name)
        assert type(open_reader(made.root)) is READERS[name]
        listing = read(made, name)
        assert len(listing.samples) == made.faces
        assert listing.left_out == {}
        assert made.said_in.is_file()


PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "bomb": (lambda file: file.write_bytes(bomb()), "9000"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "damaged or cut off"),
    "empty": (lambda file: file.write_bytes(b""), "the file is empty"),
    "no picture": (lambda file: file.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "supported"),
    "link to itself": (lambda file: (file.unlink(), file.symlink_to(file)), "symbolic links"),
}


@pytest.mark.parametrize(
    ("name", "fault"), [*((name, "bomb") for name in WITH_PICTURES), *(("class_folders", fault) for fault in PICTURES)]
)
def test_a_picture_that_cannot_be_read_is_listed_and_the_rest_is_packed(name: str, fault: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    spoil, said = PICTURES[fault]
    assert made.picture is not None
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
def test_a_loop_of_links_ends(name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    expected = read(made, name)
    for folder in {made.root, made.said_in.parent, *([made.picture.parent] if made.picture else [])}:
        (folder / "loop").symlink_to(made.root, target_is_directory=True)
        (folder / "itself").symlink_to(folder / "itself")
    with contextlib.suppress(EmodetError):
        # Where folders are classes, one that is called loop is none; else nothing has changed.
        assert {record.emotion for record in read(made, name).samples} == {each.emotion for each in expected.samples}
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "only").symlink_to(outer, target_is_directory=True)
    with pytest.raises(EmodetError):
        open_reader(outer, name).read()


FILES: dict[str, Callable[[Path], object]] = {
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
def test_a_damaged_file_is_an_error_of_ours_or_changes_no_other_face(name: str, fault: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    before = {record.key: record for record in read(made, name).samples}
    FILES[fault](made.said_in)
    for reader in READERS.values():
        reader.recognises(made.root)
    listing, refusal = attempt(made, name)
    if listing is None:
        assert str(made.root) in refusal
        return
    for record in listing.samples:
        assert before[record.key].emotion == record.emotion
        assert before[record.key].split == record.split


def attempt(made: Made, name: str) -> tuple[Listing | None, str]:
    """What is listed, or what is said instead."""
    try:
        return read(made, name), ""
    except EmodetError as problem:
        return None, str(problem)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", WITH_A_FILE)
def test_whatever_is_changed_in_a_file_only_an_error_of_ours_comes_out(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = unspoilt(name, tmp_path_factory)
    whole = made.said_in.read_bytes()
    place = data.draw(st.integers(0, len(whole)))
    gone = data.draw(st.integers(0, 40))
    new = data.draw(
        st.one_of(st.binary(max_size=12), st.sampled_from([b"\n", b",", b'"', b"\0", b"nan", b"-1", b"1e999", b"../"]))
    )
    try:
        made.said_in.write_bytes(whole[:place] + new + whole[place + gone :])
        with contextlib.suppress(EmodetError):
            reader = open_reader(made.root, name)
            for record in reader.read().samples:
                with contextlib.suppress(EmodetError, OSError):
                    reader.encoded(record)
    finally:
        made.said_in.write_bytes(whole)


_UNSPOILT: dict[str, Made] = {}


def unspoilt(name: str, factory: pytest.TempPathFactory) -> Made:
    """One release for all examples: making it takes longer than reading it."""
    if name not in _UNSPOILT:
        _UNSPOILT[name] = RELEASES[name](factory.mktemp("unspoilt") / name)
    return _UNSPOILT[name]


def replaced(old: str, new: str) -> Callable[[Made], object]:
    def change(made: Made) -> None:
        text = made.said_in.read_text()
        assert old in text
        made.said_in.write_text(text.replace(old, new, 1))

    return change


def added(line: str) -> Callable[[Made], object]:
    return lambda made: made.said_in.write_text(made.said_in.read_text() + line + "\n")


def pickled(made: Made) -> None:
    np.save(made.said_in, np.array([{"a": 1}], dtype=object), allow_pickle=True)


REFUSED: list[tuple[str, str, Callable[[Made], object], tuple[str, ...]]] = [
    ("unknown class", "affectnet_csv", replaced(",3,0.5", ",11,0.5"), ("training.csv, line 5", "'11'", "0 to 10")),
    ("unknown class", "affectnet_npy", lambda m: np.save(m.said_in, np.array("11")), ("0_exp.npy", "11", "0 to 10")),
    ("unknown class", "affectnet_plus", replaced('"human-label": 0', '"human-label": 12'), ("0.json", "12", "0 to 10")),
    ("unknown class", "labels_csv", replaced("happy,0.8", "glee,0.8"), ("labels.csv, line 3", "'glee'", "Known names")),
    ("unknown class", "yolo", replaced("sad", "gloomy"), ("data.yaml", "'gloomy'", "Known names")),
    ("unknown class", "fer2013", replaced("\n3,", "\n7,"), ("fer2013.csv, row 3", "'7'", "0 to 6")),
    ("unknown class", "rafdb", replaced(".jpg 3", ".jpg 8"), ("list_patition_label.txt, line 3", "'8'", "1 to 7")),
    ("unknown class", "expw", replaced("9.9 3", "9.9 7"), ("label.lst, line 4", "'7'", "0 to 6")),
    ("unknown class", "own_csv", replaced("sad", "gloomy"), ("mine.csv, line 2", "'gloomy'", "Known names")),
    ("unknown class", "list_files", replaced(".jpg 3", ".jpg 77"), ("train.txt", "77", "order")),
    (
        "unknown class",
        "class_folders",
        lambda m: (m.root / "train/glee").mkdir(),
        ("class folders in", "'glee'", "Known names"),
    ),
    ("unknown class", "ckplus", lambda m: (m.root / "glee").mkdir(), ("class folders in", "'glee'", "Known names")),
    ("missing column", "affectnet_csv", replaced("expression", "label"), ("training.csv", "lacks expression")),
    ("missing column", "affectnet_csv", replaced("face_width,", "width,"), ("training.csv", "lacks face_width")),
    ("missing column", "fer2013", replaced("pixels", "image"), ("fer2013.csv", "emotion, pixels and Usage")),
    ("missing column", "ferplus_csv", replaced("contempt", "scorn"), ("fer2013new.csv", "lacks contempt")),
    ("missing column", "labels_csv", replaced("pth", "path"), ("Expected labels.csv", "pth and label")),
    ("missing column", "own_csv", replaced("y2", "bottom"), ("mine.csv", "belong together", "lacks y2")),
    ("missing column", "own_csv", replaced("emotion", "mood"), ("mine.csv", "lacks emotion", "mood")),
    ("row cut off", "affectnet_csv", added("1/5.jpg,5,5,30"), ("training.csv, line 8", "4 columns", "9")),
    ("row cut off", "labels_csv", added("8,anger/0.jpg"), ("labels.csv, line 10", "is the file cut off?")),
    ("row cut off", "fer2013", added("3,1 2 3"), ("fer2013.csv, line 10", "is it cut off?")),
    ("row cut off", "ferplus_csv", added("Training,fer9.png,1,2"), ("fer2013new.csv, line 10", "is the file cut off?")),
    ("row cut off", "rafdb", added("train_00009.jpg"), ("list_patition_label.txt, line 9", "is the file cut off?")),
    ("row cut off", "expw", added("3.jpg 2 5 5"), ("label.lst, line 9", "is the file cut off?")),
    ("row cut off", "own_csv", added("7.jpg,happy,train"), ("mine.csv, line 10", "is the file cut off?")),
    ("row cut off", "list_files", added("5.jpg"), ("train.txt, line 7", "is the file cut off?")),
    ("row cut off", "affectnet_plus", lambda m: m.said_in.write_text('{"human-label": 1'), ("0.json", "JSON")),
    (
        "row cut off",
        "yolo",
        lambda m: (m.root / "train/labels/0.txt").write_text("3 0.5"),
        ("0.txt", "class cx cy w h"),
    ),
    ("pickle", "affectnet_npy", pickled, ("0_exp.npy", "Python objects", "run code")),
    ("soft labels", "affectnet_plus", replaced("[0.3, 0.1", "[-0.3, 0.1"), ("0.json", "soft-label", "-0.3")),
    ("soft labels", "affectnet_plus", replaced("[0.3, ", "["), ("0.json", "soft-label", "8 numbers")),
    ("soft labels", "ferplus_csv", replaced(",10,", ",-1,"), ("fer2013new.csv, line 2", "whole numbers from 0")),
    (
        "path leaves",
        "affectnet_csv",
        replaced("1/0.jpg", "../0.jpg"),
        ("training.csv, line 2", "'../0.jpg'", "without .."),
    ),
    ("path leaves", "affectnet_csv", replaced("1/0.jpg", "C:\\x.jpg"), ("training.csv, line 2", "leaves")),
    ("path leaves", "labels_csv", replaced("anger/0.jpg", "anger/../../0.jpg"), ("labels.csv, line 2", "without ..")),
    ("path leaves", "rafdb", replaced("train_00000", "train_/../../0"), ("line 1", "without ..")),
    ("path leaves", "expw", replaced("0.jpg", "/etc/0.jpg"), ("label.lst, line 1", "'/etc/0.jpg'", "without ..")),
    ("path leaves", "own_csv", replaced("0.jpg", "..\\0.jpg"), ("mine.csv, line 2", "without ..")),
    ("path leaves", "list_files", replaced("0.jpg", "../0.jpg"), ("train.txt, line 1", "without ..")),
    ("two labels", "labels_csv", added("8,anger/0.jpg,happy,0.8"), ("labels.csv, line 10", "anger/0.jpg", "line 2")),
    ("two labels", "rafdb", added("train_00000.jpg 4"), ("line 9", "train_00000.jpg", "line 1", "delete it")),
    ("two labels", "expw", added("0.jpg 0 5 5 35 35 9.9 6"), ("label.lst, line 9", "0.jpg#0", "line 1")),
    ("two labels", "own_csv", added("0.jpg,happy,train,5,5,35,35"), ("mine.csv, line 10", "0.jpg", "line 2")),
    ("two labels", "list_files", added("0.jpg 5"), ("train.txt, line 7", "0.jpg", "line 1", "delete it")),
]


@pytest.mark.parametrize(
    ("fault", "name", "change", "told"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_right_is_refused_with_its_place(
    fault: str, name: str, change: Callable[[Made], object], told: tuple[str, ...], tmp_path: Path
) -> None:
    made = RELEASES[name](tmp_path / "release")
    change(made)
    with pytest.raises(EmodetError) as caught:
        read(made, name)
    message = str(caught.value)
    assert str(made.root) in message
    for part in told:
        assert part in message


COUNTED: list[tuple[str, Callable[[Made], object], str, int]] = [
    ("affectnet_csv", added("1/0.jpg,5,5,30,30,,0,0.5,-0.25"), "listed more than once", 8),
    ("labels_csv", added("8,anger/0.jpg,anger,0.8"), "listed more than once", 8),
    ("rafdb", added("train_00000.jpg 1"), "listed more than once", 8),
    ("expw", added("0.jpg 0 5 5 35 35 9.9 0"), "listed more than once", 8),
    ("own_csv", added("0.jpg,sad,train,5,5,35,35"), "listed more than once", 8),
    ("list_files", added("0.jpg 0"), "listed more than once", 8),
    ("jaffe", lambda m: (m.root / "x").mkdir() or os.link(m.said_in, m.root / "x" / m.said_in.name), "same name", 4),
    ("affectnet_csv", replaced("5,5,30,30", "NULL,NULL,NULL,NULL"), "box is NULL", 7),
    ("affectnet_csv", replaced("5,5,30,30", "5,5,3,30"), "box under 10 pixels", 7),
    ("expw", replaced("5 5 35 35", "5 35 5 35"), "box is empty or outside the picture", 7),
    ("expw", replaced("5 5 35 35", "-30 -30 -5 -5"), "box is empty or outside the picture", 7),
]


@pytest.mark.parametrize(("name", "change", "reason", "left"), COUNTED)
def test_what_can_be_left_out_is_counted(
    name: str, change: Callable[[Made], object], reason: str, left: int, tmp_path: Path
) -> None:
    made = RELEASES[name](tmp_path / "release")
    change(made)
    listing = read(made, name)
    assert len(listing.samples) == left
    assert [count for said, count in listing.left_out.items() if reason in said] == [1]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("affectnet_csv", "5,5,30,30", "500,5,30,30"),
        ("expw", "5 5 35 35", "5 500 530 35"),
        ("own_csv", "5,5,35,35", "5,500,35,535"),
    ],
)
def test_a_box_outside_its_picture_is_listed(name: str, old: str, new: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    replaced(old, new)(made)
    options = {"crop": "box", "max_unreadable": 0.2, "processes": 1, "progress": False}
    pack = prepare_pack(open_reader(made.root, name), Preprocessing(size=16), tmp_path / "packs", **options)
    assert len(pack) == 7
    (entry,) = pack.manifest["unreadable"]
    assert "is outside the 40×40 picture" in entry["reason"]


def test_soft_labels_that_do_not_add_up_are_scaled_and_counted(tmp_path: Path) -> None:
    made = RELEASES["affectnet_plus"](tmp_path / "release")
    replaced("[0.3, ", "[1.3, ")(made)
    listing = read(made, "affectnet_plus")
    for record in listing.samples:
        assert sum(record.soft_label or ()) == pytest.approx(1)
    assert any("1 soft labels" in note and "scaled" in note for note in listing.notes)
