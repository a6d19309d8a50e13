"""The pack: contents, fingerprint, and damage that is refused."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_files import encoded, put
from made_reader import MadeReader, picture, records

from emodet.data.pack import Pack, Table
from emodet.data.packing import Packing
from emodet.datasets.samples import Sample
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

SIZE = 48
SOFT = (0.5, 0.25, 0, 0, 0, 0, 0, 0.25)
RECORDS = [
    Sample("a/Ä ö.jpg", "train", 3, valence=0.25, arousal=-1.0, subject="p1"),
    Sample("b/0001", "train", None, soft_label=SOFT),
    Sample("b/0002", "val", 7, valence=0.0),
    Sample("b/0003", "test", 0, subject="p2"),
    *records(20, "train", 10, emotion=[number % 8 for number in range(20)]),
]


def prepared(folder, **crop):
    reader = MadeReader(folder, RECORDS, {RECORDS[0].key: encoded(picture(0))})
    return Packing(reader, Preprocessing(size=SIZE, **crop), folder / "packs", processes=1, progress=False).make()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("pack"))


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole.folder, tmp_path / "copy"))


def expected_pictures():
    return np.stack([picture(number) for number in (0, 1, 2, 3, *range(10, 30))])


class TestRoundTrip:
    def test_pictures_table_and_manifest(self, whole):
        assert np.array_equal(whole.images(range(24)), expected_pictures())
        table = whole.table
        assert table.emotion.dtype == np.int64
        assert table.soft_label.dtype == np.float32
        unknown = {"emotion": -1, "soft_label": [np.nan] * 8, "valence": np.nan, "arousal": np.nan, "subject": ""}
        for row, record in enumerate(RECORDS):
            for name in ("key", "split", *unknown):
                value = getattr(record, name)
                found, expected = getattr(table, name)[row], unknown[name] if value is None else value
                np.testing.assert_array_equal(found, expected)
        assert len(set(table.pixel_hash.tolist())) == len(whole) == 24
        names = pq.read_table(whole.folder / "table.parquet").column_names
        assert names == ["key", "split", "emotion", "soft_label", "valence", "arousal", "subject", "pixel_hash"]
        again = Table.from_arrow(whole.table.to_arrow())
        assert again.digest() == whole.table.digest()
        manifest = json.loads((whole.folder / "manifest.json").read_text())
        assert manifest["counts"]["val"] == {"contempt": 1}
        assert manifest["counts"]["train"]["without emotion"] == 1
        assert manifest["preprocessing"] == Preprocessing(size=SIZE).to_dict()
        assert manifest["unreadable"] == []
        assert str(whole.folder.parent) not in json.dumps(manifest)

    def test_grey_is_stored_once_and_read_thrice(self, tmp_path):
        pack = prepared(tmp_path, colour="grey")
        assert np.load(pack.folder / "images.npy").shape == (24, SIZE, SIZE, 1)
        crops = pack.images([3, 0])
        assert crops.shape == (2, SIZE, SIZE, 3)
        expected = [Preprocessing(size=SIZE, colour="grey").crop(picture(number)) for number in (3, 0)]
        assert np.array_equal(crops, np.stack(expected))


def test_images_in_any_order_and_positions_outside(whole):
    assert np.array_equal(whole.images(rows := [23, 0, 7, 0]), expected_pictures()[rows])
    assert whole.images([]).shape == (0, SIZE, SIZE, 3)
    for outside in (-1, 24):
        with pytest.raises(IndexError, match="24 faces"):
            whole.images([0, outside])


@pytest.mark.parametrize("flipped", [0, 1])
@pytest.mark.parametrize(
    "changed", [{}, {"split": "val"}, {"emotion": 4}, {"valence": 0.5}, {"subject": "p2"}, {"soft_label": SOFT}]
)
def test_any_annotation_and_any_pixel_change_the_fingerprint(whole, tmp_path, changed, flipped):
    pixels = picture(0)
    pixels[20, 20, 1] ^= flipped
    first = replace(RECORDS[0], **changed)
    reader = MadeReader(tmp_path, [first, *RECORDS[1:]], {first.key: encoded(pixels)})
    other = Packing(reader, Preprocessing(size=SIZE), tmp_path / "packs", processes=1, progress=False).make()
    assert len(other.fingerprint) == 64
    assert (other.fingerprint == whole.fingerprint) == (not changed and not flipped)


def flip_a_byte(file, place):
    data = np.memmap(file, mode="r+")
    data[place] ^= 1
    data.flush()


def truncated(by):
    return lambda folder: os.truncate(folder / "images.npy", max(0, (folder / "images.npy").stat().st_size + by))


def manifest_with(**values):
    """Change the manifest; `...` removes a key."""

    def change(folder):
        file = folder / "manifest.json"
        manifest = json.loads(file.read_text()) | values
        file.write_text(json.dumps({key: value for key, value in manifest.items() if value is not ...}))

    return change


AGAIN = r"missing, damaged or changed; .* prepare it again"
REFUSED = [
    (lambda folder: (folder / "manifest.json").unlink(), r"not a pack .*manifest\.json.*emodet\.prepare"),
    *(
        (lambda folder, it=data: put(folder / "manifest.json", it), r"manifest\.json: unreadable.*delete")
        for data in (b"", b"{", b"[]", b'{"format": "other"}', b"\xff")
    ),
    *((manifest_with(version=it), f"version {it}, expected version 3.*delete") for it in (0, 2, 4, "3", None)),
    *(
        (manifest_with(**{key: ...}), f"{key} is missing")
        for key in ("preprocessing", "faces", "table_sha256", "fingerprint", "counts")
    ),
    *((manifest_with(faces=faces), "prepare it again") for faces in ("24", 0, 23)),
    *((manifest_with(preprocessing=it), "prepare it again") for it in ({"size": 4}, 3)),
    *((lambda folder, at=at: flip_a_byte(folder / "images.npy", at), rf"images\.npy is {AGAIN}") for at in (200, -1)),
    *((truncated(by), rf"images\.npy is {AGAIN}") for by in (-1, -5000, 1, -(10**9))),
    (lambda folder: flip_a_byte(folder / "table.parquet", 100), rf"table\.parquet is {AGAIN}"),
    *((lambda folder, it=it: (folder / it).unlink(), f"{it} is {AGAIN}") for it in ("images.npy", "table.parquet")),
    # It would run code.
    (lambda folder: np.save(folder / "images.npy", [print], allow_pickle=True), rf"images\.npy is {AGAIN}"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED, ids=range(len(REFUSED)))
def test_damaged_packs_are_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(EmodetError, match=message):
        Pack(copy)


def test_another_fingerprint_is_found_by_verifying(copy):
    manifest_with(fingerprint="0" * 64)(copy)
    with pytest.raises(EmodetError, match=r"manifest\.json"):
        Pack(copy).verify()


def test_large_packs_are_sampled_on_opening_and_verified_whole(tmp_path):
    """Of 130 crops every second or third is looked at on opening, but not the second; always the last."""
    reader, side = MadeReader(tmp_path, records(130, emotion=1)), 16
    folder = Packing(reader, Preprocessing(size=side), tmp_path, processes=1, progress=False).make().folder
    for rows_from_end in (129, 1):
        pack = Pack(folder)
        flip_a_byte(folder / "images.npy", 7 - rows_from_end * side * side * 3)
        with pytest.raises(EmodetError, match=r"images\.npy"):
            pack.verify()
    with pytest.raises(EmodetError, match=r"images\.npy"):
        Pack(folder)
