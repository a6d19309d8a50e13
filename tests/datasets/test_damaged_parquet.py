"""Parquet files whose texts are not UTF-8, as damaged ones may be, are refused by name."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.inference.sources import find_sources

NOT_UTF8 = pa.array([b"\x80"]).view(pa.string())
PICTURE = pa.array([b"\x89PNG"])


def test_ferplus(tmp_path):
    votes = {name: [1] for name in (*EMOTIONS, "unknown", "NF")}
    columns = {"index": [0], "split": NOT_UTF8, "image": PICTURE, "fer2013_label": [0], **votes}
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    with pytest.raises(EmodetError, match=r"f\.parquet"):
        open_reader(tmp_path, "ferplus").read()


def test_paths_to_predict(tmp_path):
    pq.write_table(pa.table({"path": NOT_UTF8}), tmp_path / "f.parquet")
    (source,) = find_sources([str(tmp_path / "f.parquet")]).sources
    assert source.error is not None
    assert "f.parquet" in source.error
