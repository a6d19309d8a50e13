"""FER+: the majority protocol by hand-made votes, soft labels, and files that are not what they should be."""

import io
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emodet.datasets.ferplus import FerPlus, majority
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, FERPLUS_ORDER
from emodet.errors import EmodetError
from emodet.images import decode_rgb

COLUMNS = (*FERPLUS_ORDER, "unknown", "NF")
REAL = Path(__file__).parents[3] / "shared" / "data" / "ferplus_train_val.parquet"


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((48, 48), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def rows_of(*votes: dict[str, int], splits: str = "train") -> list[dict[str, Any]]:
    return [
        {"index": number, "split": splits, "image": png(number), **dict.fromkeys(COLUMNS, 0), **given}
        for number, given in enumerate(votes)
    ]


def write(folder: Path, rows: list[dict[str, Any]], **types: pa.DataType) -> Path:
    kinds = {
        "index": pa.int32(),
        "split": pa.string(),
        "image": pa.binary(),
        **dict.fromkeys(COLUMNS, pa.int8()),
    } | types
    file = folder / "faces.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()))), file)
    return file


CASES = {
    "all agree": ({"anger": 10}, "anger"),
    "six of ten": ({"fear": 6, "surprise": 4}, "fear"),
    "half is no majority": ({"fear": 5, "surprise": 5}, None),
    "most, but not half": ({"fear": 4, "surprise": 3, "sadness": 3}, None),
    "single votes are noise": (
        {"sadness": 5, "anger": 1, "fear": 1, "disgust": 1, "neutral": 1, "contempt": 1},
        "sadness",
    ),
    "noise may make half a majority": ({"sadness": 4, "anger": 3, "neutral": 1, "fear": 1, "NF": 1}, "sadness"),
    "single unknowns are noise too": ({"happiness": 4, "neutral": 4, "unknown": 1, "NF": 1}, None),
    "nothing but single votes": ({"neutral": 1, "sadness": 1}, None),
    "unknown wins": ({"unknown": 7, "happiness": 3}, None),
    "no face wins": ({"NF": 6, "happiness": 4}, None),
    "unknown takes the majority away": ({"happiness": 5, "unknown": 5}, None),
    "contempt": ({"contempt": 6, "neutral": 2}, "contempt"),
    "more than a small integer's half": ({"disgust": 100, "neutral": 20}, "disgust"),
}


@pytest.mark.parametrize("case", CASES)
def test_majority(case: str, tmp_path: Path) -> None:
    votes, expected = CASES[case]
    row = np.array([[votes.get(name, 0) for name in (*EMOTIONS, "unknown", "NF")]], dtype=np.int8)
    found = int(majority(row)[0])
    assert (EMOTIONS[found] if found >= 0 else None) == expected
    # And through the file, whose columns stand in FER+'s own order.
    records = FerPlus(write(tmp_path, rows_of(votes))).read().samples
    assert records[0].emotion == (None if expected is None else EMOTIONS.index(expected))


def test_soft_labels_are_the_votes_for_the_eight(tmp_path: Path) -> None:
    file = write(tmp_path, rows_of({"happiness": 6, "neutral": 1, "surprise": 1, "unknown": 2}))
    (record,) = FerPlus(file).read().samples
    assert record.soft_label == pytest.approx((1 / 8, 6 / 8, 0, 1 / 8, 0, 0, 0, 0))
    (record,) = FerPlus(file, votes="without_single").read().samples
    assert record.soft_label == pytest.approx((0, 1, 0, 0, 0, 0, 0, 0))


def test_who_is_left_out_is_counted(tmp_path: Path) -> None:
    votes = ({"NF": 10}, {"unknown": 9, "anger": 1}, {"anger": 10})
    listing = FerPlus(write(tmp_path, rows_of(*votes))).read()
    assert [(record.key, record.emotion) for record in listing.samples] == [("00001", None), ("00002", 6)]
    assert listing.left_out == {"no vote for any of the eight": 1}
    assert "1 of 2 faces have votes but no majority" in listing.notes[0]
    listing = FerPlus(tmp_path, votes="without_single").read()
    assert listing.left_out == {"no vote for any of the eight": 2}


def test_faces_come_in_the_order_of_their_number_with_their_own_picture(tmp_path: Path) -> None:
    rows = rows_of(*[{"anger": 10}] * 5)
    reader = FerPlus(write(tmp_path, [rows[place] for place in (3, 0, 4, 1, 2)]))
    records = reader.read().samples
    assert [record.key for record in records] == [f"{number:05d}" for number in range(5)]
    for number, record in enumerate(records):
        assert (decode_rgb(reader.encoded(record)) == number).all()


def test_a_pickled_reader_carries_no_pictures(tmp_path: Path) -> None:
    reader = FerPlus(write(tmp_path, rows_of({"anger": 10})))
    record = reader.read().samples[0]
    before = len(pickle.dumps(reader))
    data = reader.encoded(record)
    again = pickle.dumps(reader)
    assert len(again) == before
    assert pickle.loads(again).encoded(record) == data


def test_it_is_recognised_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    file = write(tmp_path, rows_of({"anger": 10}))
    assert FerPlus.recognises(file)
    assert FerPlus.recognises(tmp_path)
    assert open_reader(tmp_path).name == "ferplus"
    (tmp_path / "other.parquet").write_bytes(b"PAR1 but not really")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "another.parquet")
    assert FerPlus(tmp_path).file == file
    assert not FerPlus.recognises(tmp_path / "absent")


class TestRefused:
    def test_two_files(self, tmp_path: Path) -> None:
        write(tmp_path, rows_of({"anger": 10})).rename(tmp_path / "first.parquet")
        write(tmp_path, rows_of({"anger": 10}))
        with pytest.raises(EmodetError, match=r"expected one Parquet file .* found faces\.parquet, first\.parquet"):
            FerPlus(tmp_path)

    def test_a_missing_column(self, tmp_path: Path) -> None:
        file = write(tmp_path, rows_of({"anger": 10}))
        pq.write_table(pq.read_table(file).drop_columns(["contempt"]), file)
        with pytest.raises(EmodetError, match=r"FER\+ is not there\. Expected one \.parquet file"):
            FerPlus(tmp_path)

    def test_a_number_twice(self, tmp_path: Path) -> None:
        rows = rows_of({"anger": 10}, {"fear": 10})
        rows[1]["index"] = 0
        with pytest.raises(EmodetError, match="names a row more than once"):
            FerPlus(write(tmp_path, rows)).read()

    @pytest.mark.parametrize(
        ("column", "value", "kind", "message"),
        [
            ("anger", -1, pa.int8(), "whole numbers from 0"),
            ("anger", 0.5, pa.float32(), "whole numbers from 0"),
            ("anger", None, pa.int8(), "whole numbers from 0"),
            ("split", "valid", pa.string(), "split holds valid"),
            ("split", None, pa.string(), "split holds None"),
            ("index", "a", pa.string(), "index must hold a whole number"),
            ("index", None, pa.int32(), "index must hold a whole number"),
            ("image", {"bytes": b""}, pa.struct([("bytes", pa.binary())]), "image has the type struct"),
        ],
    )
    def test_wrong_content(self, tmp_path: Path, column: str, value: Any, kind: pa.DataType, message: str) -> None:
        rows = rows_of({"neutral": 10})
        rows[0][column] = value
        file = write(tmp_path, rows, **{column: kind})
        with pytest.raises(EmodetError, match=message) as caught:
            FerPlus(file).read()
        assert str(file) in str(caught.value)

    def test_damaged_data_pages(self, tmp_path: Path) -> None:
        file = write(tmp_path, rows_of(*[{"anger": 10}] * 50))
        reader = FerPlus(file)
        data = bytearray(file.read_bytes())
        data[4 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4)
        file.write_bytes(data)
        with pytest.raises((EmodetError, OSError), match=r"faces\.parquet|[Cc]orrupt|[Ii]nvalid|deserialize"):
            reader.encoded(next(iter(reader.read().samples)))

    def test_another_way_to_count_votes(self, tmp_path: Path) -> None:
        with pytest.raises(EmodetError, match="votes='all'"):
            FerPlus(write(tmp_path, rows_of({"anger": 10})), votes="all")


@pytest.mark.skipif(not REAL.is_file(), reason="needs FER+ on disk")
def test_the_real_file_has_the_published_counts() -> None:
    listing = FerPlus(REAL).read()
    found = Counter((record.split, record.emotion) for record in listing.samples if record.emotion is not None)
    for split, counts in FerPlus.expected.items():
        assert {name: found[split, EMOTIONS.index(name)] for name in counts} == counts
