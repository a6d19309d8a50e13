"""Parquet with a picture and a class a row: the names come from the file's own metadata."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from on_disk import faces, has_note, read

from emodet.datasets.fer import FerPlus
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS

HQ_NAMES = ["anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
AS_EMOTIONS = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
FILE = "data/train-00000-of-00001.parquet"


def put(root, labels, name=FILE, names=HQ_NAMES, group=None):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": f"{name} {row}".encode() * 50, "path": f"{row}.png"} for row in range(len(labels))]
    table = pa.table({"image": pictures, "label": pa.array(labels, pa.int64())})
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
    assert not FerPlus.base_of(tmp_path)
    by_number = {str(number): name for number, name in reversed(list(enumerate(HQ_NAMES)))}
    assert names_of(read(put(tmp_path, range(7), names=by_number))) == AS_EMOTIONS
    another = read(put(tmp_path, [0, 1, 2, None, -1], names=["Sad", "none", "Joy"]))
    assert names_of(another) == ["sadness", "happiness"]
    assert another.left_out == {"none": 1, "row without a label": 2}


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
