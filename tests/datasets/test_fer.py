"""FER2013's CSV, and FER+'s votes: as one Parquet file, or joined to FER2013 by row."""

import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from on_disk import error_of, faces, has_note, put_lines, read
from PIL import Image

from emodet.datasets.fer import FerPlus
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, FERPLUS_ORDER
from emodet.images import decode_rgb

FACES = [(0, "Training"), (3, "Training"), (6, "PublicTest"), (1, "PrivateTest")]
EXPECTED = {
    "00000": ("train", "anger"),
    "00001": ("train", "happiness"),
    "00002": ("val", "neutral"),
    "00003": ("test", "disgust"),
}
REAL = Path(__file__).parents[3] / "shared" / "data" / "ferplus_train_val.parquet"


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (48, 48), dtype=np.uint8)


def pixels(number):
    return " ".join(map(str, picture(number).ravel().tolist()))


def put(root, rows=FACES, name="fer2013.csv", header="emotion,pixels,Usage"):
    put_lines(root / name, header, *(f"{emotion},{pixels(n)},{usage}" for n, (emotion, usage) in enumerate(rows)))
    return root


def shows(reader, sample, number):
    rgb = decode_rgb(reader.encoded(sample))
    return rgb.shape == (48, 48, 3) and bool((rgb == picture(number)[:, :, None]).all())


class TestFer2013:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
    def test_counts_in_its_own_order_and_keeps_every_pixel(self, tmp_path, end):
        file = put(tmp_path / "inner") / "fer2013.csv"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", end))
        reader = open_reader(tmp_path)
        listing = reader.read()
        assert faces(listing) == EXPECTED
        for copy in (reader, open_reader(file)):
            assert all(shows(copy, sample, number) for number, sample in enumerate(listing.samples))

    def test_spaces_before_names_of_columns_another_order_and_quotes(self, tmp_path):
        rows = [f'"{emotion}", {usage},"{pixels(n)}"' for n, (emotion, usage) in enumerate(FACES)]
        put_lines(tmp_path / "icml_face_data.csv", "emotion, Usage, pixels", *rows)
        reader = open_reader(tmp_path)
        assert faces(reader.read()) == EXPECTED
        assert shows(reader, reader.read().samples[2], 2)

    @pytest.mark.parametrize(
        ("row", "value"),
        [
            (f"7,{pixels(0)},Training", "emotion='7'"),
            (f"angry,{pixels(0)},Training", "emotion='angry'"),
            (f"1,{pixels(0)},Test", "Usage='Test'"),
            (f"1,{pixels(0)[:5000]}", "line 6"),
            (f"1,{pixels(0)} 1,Training", "line 6"),
            ("1,,Training", "line 6"),
            ("1," + "1 " * 100_000 + ",Training", "line 6"),
        ],
        ids=range(7),
    )
    def test_a_row_that_does_not_fit_is_named(self, tmp_path, row, value):
        put(tmp_path)
        with (tmp_path / "fer2013.csv").open("a") as file:
            file.write(row + "\n")
        assert all(part in error_of(tmp_path) for part in ("fer2013.csv", value))

    @pytest.mark.parametrize("value", ["256", "-1", "1.5", "x", "٣"])
    def test_a_pixel_that_is_none_is_an_error_of_its_face(self, tmp_path, value):
        put(tmp_path, FACES[:1])
        text = (tmp_path / "fer2013.csv").read_text().replace(f"0,{pixels(0).split()[0]} ", f"0,{value} ", 1)
        (tmp_path / "fer2013.csv").write_text(text)
        reader = open_reader(tmp_path)
        with pytest.raises(Exception, match=r"fer2013\.csv, row 0"):
            reader.encoded(reader.read().samples[0])

    @pytest.mark.parametrize("content", ["emotion,pixels\n", "emotion,Usage\n", "", "emotion,pixels,Usage\n"])
    def test_a_file_without_columns_or_rows_is_named(self, tmp_path, content):
        (tmp_path / "fer2013.csv").write_text(content)
        assert "fer2013.csv" in error_of(tmp_path)


CASES = {
    "all agree": ({"anger": 10}, "anger"),
    "six of ten": ({"fear": 6, "surprise": 4}, "fear"),
    "half is no majority": ({"fear": 5, "surprise": 5}, None),
    "most, but not half": ({"fear": 4, "surprise": 3, "sadness": 3}, None),
    "single votes are noise": ({"sadness": 5, **dict.fromkeys(("anger", "fear", "disgust", "neutral"), 1)}, "sadness"),
    "noise may make half a majority": ({"sadness": 4, "anger": 3, "neutral": 1, "fear": 1, "NF": 1}, "sadness"),
    "single unknowns are noise too": ({"happiness": 4, "neutral": 4, "unknown": 1, "NF": 1}, None),
    "nothing but single votes": ({"neutral": 1, "sadness": 1}, None),
    "unknown wins": ({"unknown": 7, "happiness": 3}, None),
    "no face wins": ({"NF": 6, "happiness": 4}, None),
    "unknown takes the majority away": ({"happiness": 5, "unknown": 5}, None),
    "contempt": ({"contempt": 6, "neutral": 2}, "contempt"),
    "more than a small integer's half": ({"disgust": 100, "neutral": 20}, "disgust"),
}
COLUMNS = (*FERPLUS_ORDER, "unknown", "NF")


def rows_of(*votes, split="train"):
    rows = []
    for number, given in enumerate(votes):
        stream = io.BytesIO()
        Image.fromarray(picture(number)).save(stream, "PNG")
        rows.append({"index": number, "split": split, "image": stream.getvalue(), **dict.fromkeys(COLUMNS, 0), **given})
    return rows


def write(folder, rows, **types):
    kinds = {"index": pa.int32(), "split": pa.string(), "image": pa.binary(), **dict.fromkeys(COLUMNS, pa.int8())}
    file = folder / "faces.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list((kinds | types).items()))), file)
    return file


class TestFerPlusParquet:
    @pytest.mark.parametrize("case", CASES)
    def test_majority(self, case, tmp_path):
        votes, expected = CASES[case]
        assert faces(read(write(tmp_path, rows_of(votes)))) == {"00000": ("train", expected)}

    def test_soft_labels_are_the_votes_for_the_eight(self, tmp_path):
        file = write(tmp_path, rows_of({"happiness": 6, "neutral": 1, "surprise": 1, "unknown": 2}))
        assert read(file).samples[0].soft_label == pytest.approx((1 / 8, 6 / 8, 0, 1 / 8, 0, 0, 0, 0))
        assert read(file, votes="without_single").samples[0].soft_label == pytest.approx((0, 1, 0, 0, 0, 0, 0, 0))
        assert open_reader(file).options() == {"votes": "as_given"}
        assert all(part in error_of(file, votes="all") for part in ("votes='all'", "as_given, without_single"))

    def test_what_is_left_out_is_counted(self, tmp_path):
        write(tmp_path, rows_of({"NF": 10}, {"unknown": 9, "anger": 1}, {"anger": 10}))
        listing = read(tmp_path)
        assert faces(listing) == {"00001": ("train", None), "00002": ("train", "anger")}
        assert listing.left_out == {"no vote for any of the eight": 1}
        assert has_note(listing, "1 of 2 faces", "no majority")
        assert read(tmp_path, votes="without_single").left_out == {"no vote for any of the eight": 2}

    def test_faces_come_in_the_order_of_their_index_with_their_own_picture(self, tmp_path):
        rows = rows_of(*[{"anger": 10}] * 5)
        reader = open_reader(write(tmp_path, [rows[place] for place in (3, 0, 4, 1, 2)]).parent)
        samples, size = reader.read().samples, len(pickle.dumps(reader))
        assert all(shows(reader, sample, number) for number, sample in enumerate(samples))
        # Workers receive no pictures.
        assert len(pickle.dumps(reader)) == size

    def test_other_files_beside_it(self, tmp_path):
        file = write(tmp_path, rows_of({"anger": 10}))
        (tmp_path / "other.parquet").write_bytes(b"PAR1 but not really")
        pq.write_table(pa.table({"a": [1]}), tmp_path / "another.parquet")
        assert open_reader(tmp_path).file_of(read(tmp_path).samples[0]) == file
        pq.write_table(pq.read_table(file), tmp_path / "first.parquet")
        assert all(name in error_of(tmp_path) for name in ("faces.parquet", "first.parquet"))

    @pytest.mark.parametrize(
        ("column", "value", "kind"),
        [
            *(("anger", value, kind) for value, kind in ((-1, pa.int8()), (0.5, pa.float32()), (None, pa.int8()))),
            *(("split", value, pa.string()) for value in ("valid", None)),
            *(("index", value, kind) for value, kind in (("a", pa.string()), (None, pa.int32()), (1, pa.int32()))),
            ("image", {"bytes": b""}, pa.struct([("bytes", pa.binary())])),
        ],
    )
    def test_wrong_content_is_named(self, tmp_path, column, value, kind):
        rows = rows_of({"neutral": 10}, {"neutral": 10}) if value == 1 else rows_of({"neutral": 10})
        rows[0][column] = value
        assert "faces.parquet" in error_of(write(tmp_path, rows, **{column: kind}))

    def test_a_text_that_is_not_utf8_is_named(self, tmp_path):
        file = write(tmp_path, rows_of({"anger": 10}))
        not_utf8 = pa.array([b"\x80"]).view(pa.string())
        pq.write_table(pq.read_table(file).set_column(1, "split", not_utf8), file)
        assert "faces.parquet" in error_of(tmp_path, "ferplus")

    @pytest.mark.skipif(not REAL.is_file(), reason="needs FER+ on disk")
    def test_the_real_file_has_the_published_counts(self):
        found = Counter(faces(read(REAL)).values())
        for split, counts in FerPlus.expected.items():
            assert {name: found[split, name] for name in counts} == counts


VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    "Training,fer0000000.png,0,0,0,1,8,1,0,0,0,0",
    "Training,fer0000000.png,4,0,0,4,0,0,0,0,2,0",
    "PublicTest,,0,0,0,0,0,0,0,0,0,10",
    "PrivateTest,fer0032221.png,0,6,2,0,0,0,0,2,0,0",
]


class TestFerPlusCsv:
    @pytest.mark.parametrize("folder", ["", "fer2013"])
    def test_joins_by_row_and_never_by_image_name(self, tmp_path, folder):
        put(tmp_path / folder)
        put_lines(tmp_path / "fer2013new.csv", VOTES_HEADER, *VOTES)
        reader = open_reader(tmp_path)
        listing = reader.read()
        expected = {"00000": ("train", "anger"), "00001": ("train", None), "00003": ("test", "happiness")}
        assert faces(listing) == expected
        shares = dict(zip(EMOTIONS, listing.samples[0].soft_label, strict=True))
        assert shares == {**dict.fromkeys(EMOTIONS, 0), "anger": 0.8, "sadness": 0.1, "disgust": 0.1}
        assert max(read(tmp_path, votes="without_single").samples[0].soft_label) == 1
        assert listing.left_out == {"no vote for any of the eight": 1}
        assert has_note(listing, "1 rows have no image name")
        assert has_note(listing, "1 (3,153)")
        assert shows(reader, listing.samples[2], 3)

    def test_votes_without_pictures(self, tmp_path):
        put_lines(tmp_path / "fer2013new.csv", VOTES_HEADER, *VOTES)
        assert "fer2013.csv" in error_of(tmp_path)

    @pytest.mark.parametrize(
        ("lines", "value"),
        [
            ([VOTES_HEADER, *VOTES[:3]], "3 rows"),
            ([VOTES_HEADER, VOTES[3], *VOTES[1:]], "row 0"),
            *(
                ([VOTES_HEADER, VOTES[0].replace(",8,", f",{votes},")], "line 2")
                for votes in ("-1", "x", "1000000", "")
            ),
            ([VOTES_HEADER, VOTES[0][:-2]], "line 2"),
            ([VOTES_HEADER.replace("contempt", "other"), *VOTES], "contempt"),
            ([""], "no names"),
        ],
    )
    def test_votes_that_do_not_fit_are_named(self, tmp_path, lines, value):
        put_lines(put(tmp_path) / "fer2013new.csv", *lines)
        assert all(part in error_of(tmp_path) for part in ("fer2013new.csv", value))
