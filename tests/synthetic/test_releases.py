"""Drawn faces as a release on disk: labels and boxes, the balance, and that a half-written one never looks complete."""

import json
from collections import Counter

import pytest

from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.synthetic.releases import STAMP, write_release

FACES = {"train": 60, "val": 16, "test": 8}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("releases") / "yolo", FACES, seed=4, size=48)


def test_its_reader_recognises_it_and_finds_every_face(release):
    reader = open_reader(release)
    assert reader.name == "yolo"
    samples = reader.read().samples
    assert Counter(sample.split for sample in samples) == Counter(FACES)
    assert Counter(sample.emotion for sample in samples if sample.split == "val") == dict.fromkeys(range(8), 2)
    for sample in samples[::9]:
        assert decode_rgb(reader.encoded(sample), name=sample.key).shape == (48, 48, 3)


def test_training_classes_are_as_uneven_as_affectnets_or_uniform(tmp_path):
    def per_class(name, balance):
        write_release(tmp_path / name, {"train": 80}, size=32, balance=balance)
        found = Counter(sample.emotion for sample in open_reader(tmp_path / name).read().samples)
        return [found[k] for k in range(8)]

    uneven = per_class("uneven", "affectnet")
    assert uneven[1] == max(uneven) >= 30
    assert uneven[0] == sorted(uneven)[-2]
    assert min(uneven) >= 1
    assert per_class("even", "uniform") == [10] * 8


def test_what_exists_is_left_alone_and_something_else_is_refused(tmp_path):
    root = tmp_path / "faces"
    write_release(root, {"train": 8}, size=32)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_release(root, {"train": 8, "val": 0}, size=32)
    with pytest.raises(EmodetError, match=r"seed 0 instead of 1"):
        write_release(root, {"train": 8}, seed=1, size=32)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert json.loads((root / STAMP).read_text())["layout"] == "yolo"
    file = tmp_path / "holiday.jpg"
    file.write_bytes(b"mine")
    for root in (tmp_path, file):
        with pytest.raises(EmodetError, match="something else"):
            write_release(root, {"train": 8})
    assert file.read_bytes() == b"mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    write_release(empty, {"train": 8}, size=32)
    assert (empty / STAMP).is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("faces", {}), ("faces", {"train": -1}), ("faces", {"dev": 5, "train": 8})),
        *(("size", 8), ("seed", -1), ("balance", "even")),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, name, value):
    with pytest.raises(EmodetError, match=f"{name}=" + ("" if name == "faces" else repr(value))):
        write_release(**({"root": tmp_path / "faces", "faces": {"train": 8}} | {name: value}))
    assert list(tmp_path.iterdir()) == []
