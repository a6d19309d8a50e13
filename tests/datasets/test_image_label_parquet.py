"""Parquet with a picture and a class a row: the names come from the file's own metadata."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emodet.datasets.ferplus import FerPlus
from emodet.datasets.image_label_parquet import ImageLabelParquet
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

HQ_NAMES = ["anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
AS_EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]


def put(
    root, labels, name="data/train-00000-of-00001.parquet", names=HQ_NAMES, label_type=None, group=None, image=None
):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": f"{name} {row}".encode() * 50, "path": f"{row}.png"} for row in range(len(labels))]
    table = pa.table({"image": image or pictures, "label": pa.array(labels, label_type or pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return root


def names_of(listing):
    return [EMOTIONS[record.emotion] for record in listing.samples]


def test_names_come_from_the_metadata(tmp_path):
    reader = open_reader(put(tmp_path, range(7)))
    assert type(reader) is ImageLabelParquet
    listing = reader.read()
    assert names_of(listing) == AS_EMOTIONS
    assert {record.split for record in listing.samples} == {"train"}
    assert "Faces found (in the published export): HQ export 7 (27,823)." in listing.notes
    assert not FerPlus.recognises(tmp_path)


def test_another_order_in_the_metadata_is_followed(tmp_path):
    listing = open_reader(put(tmp_path, [0, 1, 2], names=["Sad", "none", "Joy"])).read()
    assert names_of(listing) == ["sadness", "happiness"]
    assert listing.left_out == {"none": 1}


def test_names_by_number(tmp_path):
    names = {str(number): name for number, name in reversed(list(enumerate(HQ_NAMES)))}
    assert names_of(open_reader(put(tmp_path, range(7), names=names)).read()) == AS_EMOTIONS


def test_text_is_its_own_name(tmp_path):
    listing = open_reader(put(tmp_path, ["happy", "Anger"], names=None, label_type=pa.string())).read()
    assert names_of(listing) == ["happiness", "anger"]


def test_numbers_without_names_stop_and_names_can_be_given(tmp_path):
    put(tmp_path, [0, 1], names=None)
    with pytest.raises(
        EmodetError, match=r"train-00000.*no class names, and numbers alone mean nothing. Give .* names"
    ):
        open_reader(tmp_path).read()
    reader = open_reader(tmp_path, names=["fear", "sad"])
    assert names_of(reader.read()) == ["fear", "sadness"]
    assert reader.options() == {"names": ["fear", "sad"]}


def test_several_files_and_splits(tmp_path):
    put(tmp_path, [0, 1], "data/train-00000-of-00002.parquet")
    put(tmp_path, [2], "data/train-00001-of-00002.parquet")
    put(tmp_path, [3], "data/validation-00000-of-00001.parquet")
    put(tmp_path, [4], "test.parquet")
    listing = open_reader(tmp_path).read()
    assert [(r.split, EMOTIONS[r.emotion]) for r in listing.samples] == [
        ("train", "anger"),
        ("train", "disgust"),
        ("train", "fear"),
        ("val", "happiness"),
        ("test", "neutral"),
    ]
    assert len({record.key for record in listing.samples}) == 5


@pytest.mark.parametrize("group", [None, 1, 7, 100])
def test_pictures_of_any_row_in_any_order(tmp_path, group):
    put(tmp_path, [number % 7 for number in range(300)], group=group)
    put(tmp_path, [0, 1], "data/test-0.parquet")
    reader = open_reader(tmp_path)
    records = reader.read().samples
    expected = {record.key: f"{record.key[:-8]} {int(record.key[-7:])}".encode() * 50 for record in records}
    order = [*range(0, 302, 3), 0, 301, 299, 64, 63, 65, 2, 2]
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        for index in order:
            assert copy.encoded(records[index]) == expected[records[index].key]
    assert len(pickle.dumps(reader)) < 2000


def test_encoded_pictures_without_a_path_beside_them(tmp_path):
    put(tmp_path, [3, 4], image=pa.array([b"one", None], pa.binary()))
    reader = open_reader(tmp_path / "data/train-00000-of-00001.parquet")
    one, nothing = reader.read().samples
    assert reader.encoded(one) == b"one"
    with pytest.raises(EmodetError, match="row 1: there is no picture in it"):
        reader.encoded(nothing)


def test_rows_without_a_label_are_counted(tmp_path):
    assert open_reader(put(tmp_path, [0, None, -1])).read().left_out == {"row without a label": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 7]}, "row 1: label 7 is not among the 7 class names"),
        ({"labels": [0], "names": ["person"]}, "class name 'person' is not known"),
        ({"labels": ["person"], "names": None, "label_type": pa.string()}, "class name 'person' is not known"),
        ({"labels": [0.5], "label_type": pa.float64()}, "the column label has the type double"),
        ({"labels": [None]}, "no face with one of the eight emotions"),
    ],
    ids=range(5),
)
def test_files_that_do_not_fit(tmp_path, arguments, message):
    with pytest.raises(EmodetError) as caught:
        open_reader(put(tmp_path, **arguments)).read()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "metadata", [b"{", b"[]", b'{"info": 1}', b'{"info": {"features": {"label": {"names": [1]}}}}']
)
def test_metadata_that_is_damaged_is_no_metadata(tmp_path, metadata):
    put(tmp_path, [0])
    path = tmp_path / "data/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"huggingface": metadata}), path)
    with pytest.raises(EmodetError, match="no class names"):
        open_reader(tmp_path).read()


def test_a_file_that_is_cut_off_or_damaged(tmp_path):
    put(tmp_path, [number % 7 for number in range(100)])
    path = tmp_path / "data/train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert not ImageLabelParquet.recognises(tmp_path)
    path.write_bytes(whole)
    reader = open_reader(tmp_path)
    records = reader.read().samples
    path.write_bytes(b"\xff" * (len(whole) // 2) + whole[len(whole) // 2 :])
    fresh = pickle.loads(pickle.dumps(reader))
    with pytest.raises((EmodetError, OSError)):
        fresh.encoded(records[0])


def test_pictures_that_lie_elsewhere_are_not_this(tmp_path):
    put(tmp_path, [0], image=pa.array(["a.jpg"]))
    assert not ImageLabelParquet.recognises(tmp_path)
    with pytest.raises(EmodetError, match=r"Expected \.parquet files with the columns image and label"):
        ImageLabelParquet(tmp_path)
