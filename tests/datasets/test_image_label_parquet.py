"""Parquet with a picture and a class a row: the names come from the file's own metadata."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from on_disk import error_of, faces, has_note, read

from emodet.datasets.fer import FerPlus
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

HQ_NAMES = ["anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
AS_EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
FILE = "data/train-00000-of-00001.parquet"


def put(root, labels, name=FILE, names=HQ_NAMES, label_type=None, group=None, image=None):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": f"{name} {row}".encode() * 50, "path": f"{row}.png"} for row in range(len(labels))]
    table = pa.table({"image": image or pictures, "label": pa.array(labels, label_type or pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, root / name, row_group_size=group)
    return root


def names_of(listing):
    return [EMOTIONS[sample.emotion] for sample in listing.samples]


def test_names_come_from_the_metadata(tmp_path):
    reader = open_reader(put(tmp_path, range(7)))
    listing = reader.read()
    assert faces(listing) == {f"{FILE}:{row:07d}": ("train", name) for row, name in enumerate(AS_EMOTIONS)}
    assert has_note(listing, "7 (27,823)")
    assert not FerPlus.recognises(tmp_path)
    by_number = {str(number): name for number, name in reversed(list(enumerate(HQ_NAMES)))}
    assert names_of(read(put(tmp_path, range(7), names=by_number))) == AS_EMOTIONS
    another = read(put(tmp_path, [0, 1, 2, None, -1], names=["Sad", "none", "Joy"]))
    assert names_of(another) == ["sadness", "happiness"]
    assert another.left_out == {"none": 1, "row without a label": 2}


def test_text_is_its_own_name(tmp_path):
    assert names_of(read(put(tmp_path, ["happy", "Anger"], names=None, label_type=pa.string()))) == [
        "happiness",
        "anger",
    ]


@pytest.mark.parametrize(
    "metadata", [None, b"{", b"[]", b'{"info": 1}', b'{"info": {"features": {"label": {"names": [1]}}}}']
)
def test_numbers_without_names_stop_and_names_can_be_given(tmp_path, metadata):
    put(tmp_path, [0, 1], names=None)
    if metadata is not None:
        pq.write_table(
            pq.read_table(tmp_path / FILE).replace_schema_metadata({"huggingface": metadata}), tmp_path / FILE
        )
    assert all(part in error_of(tmp_path) for part in ("train-00000", "names"))
    reader = open_reader(tmp_path, names=["fear", "sad"])
    assert names_of(reader.read()) == ["fear", "sadness"]
    assert reader.options() == {"names": ["fear", "sad"]}


def test_several_files_and_splits(tmp_path):
    for labels, name in (
        ([0, 1], "data/train-00000-of-00002.parquet"),
        ([2], "data/train-00001-of-00002.parquet"),
        ([3], "data/validation-00000-of-00001.parquet"),
        ([4], "test.parquet"),
    ):
        put(tmp_path, labels, name)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "statistics.parquet")
    listing = read(tmp_path)
    assert list(faces(listing).values()) == [
        *(("train", name) for name in AS_EMOTIONS[:3]),
        ("val", "happiness"),
        ("test", "neutral"),
    ]
    assert has_note(listing, "statistics.parquet")
    # Another part of the release is not dropped because it is damaged.
    (tmp_path / "data/train-00001-of-00002.parquet").write_bytes(b"PAR1")
    assert "train-00001-of-00002.parquet" in error_of(tmp_path)


@pytest.mark.parametrize("group", [None, 1, 7, 100])
def test_pictures_of_any_row_in_any_order(tmp_path, group):
    put(tmp_path, [number % 7 for number in range(300)], group=group)
    put(tmp_path, [0, 1], "data/test-0.parquet")
    reader = open_reader(tmp_path)
    samples = reader.read().samples
    expected = {s.key: f"{s.key[:-8]} {int(s.key[-7:])}".encode() * 50 for s in samples}
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        for index in [*range(0, 302, 3), 0, 301, 299, 64, 63, 65, 2, 2]:
            assert copy.encoded(samples[index]) == expected[samples[index].key]
    assert len(pickle.dumps(reader)) < 2000


def test_encoded_pictures_without_a_path_beside_them(tmp_path):
    put(tmp_path, [3, 4], image=pa.array([b"one", None], pa.binary()))
    reader = open_reader(tmp_path / FILE)
    one, nothing = reader.read().samples
    assert reader.encoded(one) == b"one"
    with pytest.raises(EmodetError, match="row 1"):
        reader.encoded(nothing)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"labels": [0, 7]}, "label 7"),
        ({"labels": [0], "names": ["person"]}, "person"),
        ({"labels": ["person"], "names": None, "label_type": pa.string()}, "person"),
        ({"labels": [0.5], "label_type": pa.float64()}, "double"),
        ({"labels": [None]}, "no face"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, arguments, value):
    assert value in error_of(put(tmp_path, **arguments))


def test_pictures_that_lie_elsewhere_are_not_this(tmp_path):
    put(tmp_path, [0], image=pa.array(["a.jpg"]))
    assert ".parquet files with the columns image and label" in error_of(tmp_path, "image_label_parquet")
