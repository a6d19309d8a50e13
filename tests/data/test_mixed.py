"""Several data sets as one: each keeps its pack, labels and splits, and no picture is in two splits."""

import pickle
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import put_text
from made_reader import MadeReader, put_picture, random_table, ready, records

from emodet.data.datamodule import build_datamodule
from emodet.data.faces import BatchIndices, FaceDataset
from emodet.data.mixed import MixedPack
from emodet.data.pack import Table
from emodet.data.packing import Packing
from emodet.data.splits import assign_splits, mix_splits
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

SIDE = 24
CROP = Preprocessing(size=SIDE).to_dict()


def class_folders(root, faces):
    """Write `faces`: by split, pairs of a picture's number and its class name."""
    for split, here in faces.items():
        for number, name in here:
            put_picture(root / split / name / f"{number}.png", number, SIDE)
    return root


def rafdb(root, faces):
    lines = []
    for split, here in faces.items():
        for number, name in here:
            put_picture(root / f"Image/aligned/{split}_{number:05d}_aligned.jpg", number, SIDE)
            lines.append(f"{split}_{number:05d}.jpg {RAFDB_ORDER.index(name) + 1}")
    put_text(root / "EmoLabel/list_patition_label.txt", *lines)
    return root


def every(names, count, start):
    return [(start + number, names[number % len(names)]) for number in range(count)]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Eight classes with train and val, and RAF-DB with train and test; no picture in common."""
    base = tmp_path_factory.mktemp("mixed")
    first = {"train": every(EMOTIONS, 80, 0), "val": every(EMOTIONS, 16, 100)}
    second = {"train": every(RAFDB_ORDER, 70, 200), "test": every(RAFDB_ORDER, 14, 300)}
    return {"first": class_folders(base / "first", first), "rafdb": rafdb(base / "rafdb", second)}


@pytest.fixture
def mix(tmp_path):
    """Makes data modules of a mix that are set up."""

    def make(sources, **options):
        given = {name: {"root": value} if isinstance(value, Path) else value for name, value in sources.items()}
        values = {"batch_size": 4, "num_workers": 0, "processes": 1} | options
        return ready(build_datamodule({"packs": str(tmp_path / "packs"), "sources": given, **values}, CROP))

    return make


def keys(data, split):
    return data.pack.table.key[getattr(data.splits, split)].tolist()


def numbers_of(data, split):
    """Data set and number of the picture of each face."""
    return [(key.partition(":")[0], int(Path(key).stem)) for key in keys(data, split)]


def test_faces_keep_their_pixels_and_labels_and_nothing_is_copied(roots, mix, tmp_path):
    data = mix(roots)
    table = data.pack.table
    assert len(data.pack) == len(table) == 80 + 16 + 70 + 14
    for number, (name, pack) in enumerate(zip(data.source_names, data.pack.packs, strict=True)):
        rows = np.flatnonzero(data.pack.source_of(np.arange(len(table))) == number)
        assert [key.removeprefix(f"{name}:") for key in table.key[rows].tolist()] == pack.table.key.tolist()
        assert np.array_equal(data.pack.images(rows), pack.images(np.arange(len(pack))))
        assert np.array_equal(table.emotion[rows], pack.table.emotion)
        assert {int(each) for each in pack.table.emotion} == set(range(8 if name == "first" else 7))
    seen = Counter()
    for batch in data.train_dataloader():
        for row, source, image in zip(batch["index"].tolist(), batch["source"].tolist(), batch["image"], strict=True):
            assert data.pack.table.key[row].startswith(f"{data.source_names[source]}:")
            assert np.array_equal(image.numpy(), data.pack.images([row])[0])
            seen[source] += 1
    assert seen[0] > 50
    assert seen[1] > 50
    before = {folder.name for folder in (tmp_path / "packs").iterdir()}
    assert len(before) == 2
    assert {pack.folder.name for pack in data.pack.packs} == before
    assert len(pickle.dumps(data.pack)) < 10_000
    copy = pickle.loads(pickle.dumps(data.pack))
    assert np.array_equal(copy.images([5, 150]), data.pack.images([5, 150]))
    assert np.array_equal(copy.source_of([0, 95, 96, 179]), [0, 0, 1, 1])


def test_soft_labels_are_an_option_of_each_data_set(tmp_path):
    shares = (0.5, 0.5, *[0.0] * 6)
    packs = {}
    for name in ("a", "b"):
        faces = records(4, emotion=[0, 1, 0, None], soft_label=[shares, shares, None, shares])
        reader = MadeReader(tmp_path / name, faces)
        packs[name] = Packing(reader, Preprocessing(size=SIDE), tmp_path / name, progress=False).make()
    faces = FaceDataset(MixedPack(packs), [False, True], None)
    batch = faces.__getitems__(BatchIndices(np.arange(8), 0))
    assert batch["target"][:3, :2].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert batch["target"][4:, :2].tolist() == [[0.5, 0.5], [0.5, 0.5], [1, 0], [0.5, 0.5]]


class TestSplits:
    def test_each_data_set_is_split_as_alone_and_may_drop_a_class(self, roots, mix, tmp_path):
        data = mix(roots)
        for name, root in roots.items():
            values = {"root": root, "packs": tmp_path / "packs", "batch_size": 4, "num_workers": 0, "processes": 1}
            own = ready(build_datamodule(values, CROP))
            assert own.source_names == ()
            for split in ("train", "val", "test"):
                here = [key.partition(":")[2] for key in keys(data, split) if key.startswith(f"{name}:")]
                assert here == keys(own, split)
        assert data.splits.val_name == "10 % of train"
        assert data.splits.test_name == "first val + rafdb test"
        data = mix({"first": {"root": roots["first"], "classes": 7}, "second": roots["first"].parent / "rafdb"})
        assert len(data.class_names) == 8
        assert 7 not in data.pack.table.emotion[data.splits.train]

    def test_people_of_two_data_sets_are_not_one(self, mix, tmp_path):
        roots = {}
        for start, name in enumerate(("one", "two")):
            for person, (frame, emotion) in product(range(8), enumerate(("happy", "sad"))):
                number = 1000 * start + 10 * person + frame
                put_picture(tmp_path / name / emotion / f"S{person:03d}_001_{number:08d}.png", number, SIDE)
            roots[name] = {"root": tmp_path / name, "val_from": 0.5}
        data = mix(roots)
        subject = data.pack.table.subject
        assert len(set(subject.tolist())) == 16
        for part in ("one", "two"):
            of = [set(subject[getattr(data.splits, split)].tolist()) for split in ("train", "val")]
            own = [{each for each in names if each.startswith(part)} for names in of]
            assert all(own)
            assert not own[0] & own[1]


def test_a_picture_of_two_trains_once_with_the_first_one_s_label(mix, tmp_path):
    left = {"train": every(("happy", "sad"), 20, 0), "val": every(("happy", "sad"), 4, 100)}
    right = {"train": every(("sad", "happy"), 40, 10), "val": every(("happy", "sad"), 4, 200)}
    sides = {"left": class_folders(tmp_path / "l", left), "right": class_folders(tmp_path / "r", right)}
    given = {name: {"root": root, "val_from": "val"} for name, root in sides.items()}
    data = mix(given)
    trained = numbers_of(data, "train")
    assert Counter(number for _, number in trained) == Counter(range(50))
    assert {source for source, number in trained if 10 <= number < 20} == {"left"}
    reason = "same picture as a training face of a data set that is named before"
    assert data.splits.dropped == {reason: 10}
    turned = mix(dict(reversed(given.items())))
    assert {source for source, number in numbers_of(turned, "train") if 10 <= number < 20} == {"right"}


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from(["auto", "val", 0.3]))
@settings(max_examples=60)
def test_splits_share_no_picture(seed, count, val_from):
    random = np.random.default_rng(seed)
    tables = [random_table(random, random.integers(12, 40), ("train", "val", "test"), 60) for _ in range(count)]
    columns = {name: np.concatenate([getattr(each, name) for each in tables]) for name in Table.__slots__}
    table, starts = replace(tables[0], **columns), np.cumsum([0, *map(len, tables)])[:-1].tolist()
    try:
        own = [assign_splits(table, np.ones(len(table), bool), val_from, seed) for table in tables]
        splits = mix_splits([f"set{number}" for number in range(count)], table, starts, own)
    except EmodetError:
        return
    source = np.repeat(range(count), [len(table) for table in tables])

    def pictures(rows):
        return set(zip(table.pixel_hash[rows].tolist(), source[rows].tolist(), strict=True))

    trained = {picture for picture, _ in pictures(splits.train)}
    assert len(trained) == len(pictures(splits.train))  # a picture trains with one data set
    assert not trained & {picture for picture, _ in pictures(splits.val) | pictures(splits.test)}
    pairs = product(pictures(splits.val), pictures(splits.test))
    assert all(one[0] != other[0] or one[1] == other[1] for one, other in pairs)
    # What is reported is what each reports alone, and every data set still trains.
    assert len(splits.test) == sum(len(each.test) for each in own)
    assert set(source[splits.train].tolist()) == set(range(count))


def test_a_weight_draws_a_data_set_more_often_and_classes_stay_balanced(roots, mix):
    weighted = {"first": roots["first"], "rafdb": {"root": roots["rafdb"], "weight": 4}}
    data = mix(weighted, batch_size=1)
    drawn = Counter(int(source) for batch in data.train_dataloader() for source in batch["source"])
    faces = Counter(data.pack.source_of(data.splits.train).tolist())
    assert sum(drawn.values()) == sum(faces.values())
    assert drawn[1] / drawn[0] == pytest.approx(4 * faces[1] / faces[0], rel=0.5)
    data = mix(weighted, sampling="balanced")
    weights = data.train_dataloader().batch_sampler.weights
    emotion, source = data.pack.table.emotion[data.splits.train], data.pack.source_of(data.splits.train)
    shares = np.bincount(emotion, weights=weights, minlength=8)
    assert shares == pytest.approx(np.full(8, 1 / 8))
    of = [weights[(emotion == EMOTIONS.index("happiness")) & (source == number)] for number in range(2)]
    assert of[1][0] == pytest.approx(4 * of[0][0])


class TestIdentity:
    def test_fingerprint_and_manifest(self, roots, mix, tmp_path):
        data = mix(roots)
        one, manifest = data.fingerprint, data.pack.manifest
        elsewhere = mix({name: {"root": root, "packs": tmp_path / "elsewhere"} for name, root in roots.items()})
        assert one == elsewhere.fingerprint
        assert mix(dict(reversed(roots.items()))).fingerprint != one
        assert mix({"first": roots["first"], "other": roots["rafdb"]}).fingerprint != one
        assert [manifest[key] for key in ("title", "reader", "redistributable")] == ["first + rafdb", "mixed", False]
        assert [manifest["counts"]["train"][name] for name in ("contempt", "happiness")] == [10, 20]
        assert [values["reader"] for values in manifest["sources"].values()] == ["class_folders", "rafdb"]
        assert manifest["sources"]["rafdb"]["title"] == "RAF-DB (basic)"
        images = np.load(data.pack.packs[1].folder / "images.npy", mmap_mode="r+")
        images[3, 2, 1, 0] ^= 1
        images.flush()
        with pytest.raises(EmodetError, match=r"images\.npy"):
            data.pack.verify()

    def test_corrections_name_the_data_set(self, roots, mix, tmp_path):
        file = tmp_path / "corrections.csv"
        key = "rafdb:Image/aligned/train_00203_aligned.jpg"
        file.write_text(f"key,action,emotion\n{key},exclude,\nfirst:train/sadness/2.png,relabel,fear\n")
        plain, corrected = mix(roots), mix(roots, corrections=file)
        assert key in {*keys(plain, "train"), *keys(plain, "val")}
        assert key not in {*keys(corrected, "train"), *keys(corrected, "val")}
        table = corrected.pack.table
        assert EMOTIONS[table.emotion[table.key.tolist().index("first:train/sadness/2.png")]] == "fear"
        assert corrected.fingerprint != plain.fingerprint


@pytest.mark.parametrize("fault", ["no root", "absent", "crop", "picture", "val"])
def test_an_error_names_the_data_set(roots, mix, tmp_path, fault):
    root = {"root": roots["rafdb"]}
    if fault == "picture":
        root["root"] = rafdb(tmp_path / "copy", {"train": every(RAFDB_ORDER, 14, 0)})
        next((tmp_path / "copy/Image/aligned").iterdir()).write_bytes(b"no picture")
    given = {"no root": {}, "absent": {"root": tmp_path / "absent"}, "picture": root}
    values = given | {"crop": root | {"crop": "box"}, "val": root | {"val_from": "val"}}
    with pytest.raises(EmodetError, match=r"^data\.sources: second: "):
        mix({"first": roots["first"], "second": values[fault]})
