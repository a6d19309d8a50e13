"""FER2013's CSV and FER+'s votes, which are joined by row."""

import contextlib
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.fer2013 import Fer2013
from emodet.datasets.ferplus_csv import FerPlusCsv
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.images import decode_rgb

FACES = [(0, "Training"), (3, "Training"), (6, "PublicTest"), (1, "PrivateTest")]
VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def picture(number):
    return np.random.default_rng(number).integers(0, 256, (48, 48), dtype=np.uint8)


def pixels(number):
    return " ".join(map(str, picture(number).ravel().tolist()))


def put(root, faces=FACES, name="fer2013.csv", end="\n"):
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"{emotion},{pixels(number)},{usage}" for number, (emotion, usage) in enumerate(faces)]
    (root / name).write_bytes((end.join(["emotion,pixels,Usage", *rows]) + end).encode())
    return root


def put_icml(root, faces=FACES):
    rows = [f"{emotion},{usage},{pixels(number)}" for number, (emotion, usage) in enumerate(faces)]
    (root / "icml_face_data.csv").write_text("\n".join(["emotion, Usage, pixels", *rows, ""]))
    return root


EXPECTED = [("00000", "train", 6), ("00001", "train", 1), ("00002", "val", 0), ("00003", "test", 5)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fer2013_counts_in_its_own_order_and_keeps_every_pixel(tmp_path, end):
    reader = open_reader(put(tmp_path / "fer2013", end=end).parent)
    assert type(reader) is Fer2013
    listing = reader.read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == EXPECTED
    for copy in (reader, pickle.loads(pickle.dumps(reader)), open_reader(tmp_path)):
        for number in (3, 0):
            rgb = decode_rgb(copy.encoded(listing.samples[number]))
            assert rgb.shape == (48, 48, 3)
            assert (rgb == picture(number)[:, :, None]).all()


def test_spaces_before_the_names_of_columns_and_another_order_of_them(tmp_path):
    reader = open_reader(put_icml(tmp_path))
    assert type(reader) is Fer2013
    listing = reader.read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == EXPECTED
    assert (decode_rgb(reader.encoded(listing.samples[2]))[:, :, 0] == picture(2)).all()


def test_the_file_itself_as_root_quoted_cells_and_blank_lines(tmp_path):
    rows = [f'"{emotion}","{pixels(number)}",{usage}\n\n' for number, (emotion, usage) in enumerate(FACES)]
    (tmp_path / "mine.csv").write_text('"emotion","pixels","Usage"\n' + "".join(rows), encoding="utf-8-sig")
    reader = open_reader(tmp_path / "mine.csv")
    assert [(r.key, r.split, r.emotion) for r in reader.read().samples] == EXPECTED
    assert (decode_rgb(reader.encoded(reader.read().samples[3]))[:, :, 0] == picture(3)).all()


def test_pixels_are_not_held(tmp_path):
    faces = [(number % 7, "Training") for number in range(200)]
    reader = open_reader(put(tmp_path, faces))
    reader.read()
    assert len(pickle.dumps(reader)) < 200 * 48


def test_published_counts_add_up():
    assert [sum(Fer2013.expected[split].values()) for split in ("train", "val", "test")] == [28_709, 3_589, 3_589]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"7,{pixels(0)},Training", "row 4: emotion='7' is not a number from 0 to 6"),
        (f"angry,{pixels(0)},Training", "row 4: emotion='angry' is not a number from 0 to 6"),
        (f"1,{pixels(0)},Test", "row 4: Usage='Test' is not Training, PublicTest, PrivateTest"),
        (f"1,{pixels(0)[:5000]}", "line 6: 2 columns where the header has 3; is it cut off?"),
        (f"1,{pixels(0)} 1,Training", "line 6: 2305 pixels instead of 48×48"),
        ("1,,Training", "line 6: 0 pixels instead"),
        ("1," + "1 " * 100_000 + ",Training", "line 6: 2 columns where"),
    ],
    ids=range(7),
)
def test_a_row_that_does_not_fit(tmp_path, row, message):
    put(tmp_path)
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(EmodetError) as caught:
        open_reader(tmp_path).read()
    assert message in str(caught.value)


def test_a_file_that_ends_in_the_middle_of_its_pixels(tmp_path):
    put_icml(tmp_path)
    whole = (tmp_path / "icml_face_data.csv").read_bytes()
    (tmp_path / "icml_face_data.csv").write_bytes(whole[:-400])
    with pytest.raises(EmodetError, match=r"line 5: \d+ pixels instead of 48×48; is it cut off"):
        open_reader(tmp_path).read()


@pytest.mark.parametrize("value", ["256", "-1", "1.5", "x", "٣"])
def test_a_pixel_that_is_none_is_an_error_of_its_face(tmp_path, value):
    put(tmp_path, FACES[:1])
    text = (tmp_path / "fer2013.csv").read_text()
    first = pixels(0).split()[0]
    (tmp_path / "fer2013.csv").write_text(text.replace(f"0,{first} ", f"0,{value} ", 1))
    reader = open_reader(tmp_path)
    (record,) = reader.read().samples
    with pytest.raises(EmodetError, match="row 0: not 48×48 numbers from 0 to 255"):
        reader.encoded(record)


@pytest.mark.parametrize("header", ["emotion,pixels", "emotion,Usage", "", "a,b,c"])
def test_missing_columns_and_rows(tmp_path, header):
    (tmp_path / "fer2013.csv").write_text(header + "\n")
    with pytest.raises(EmodetError, match="columns emotion, pixels, Usage"):
        open_reader(tmp_path, "fer2013")
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(EmodetError, match="no rows"):
        open_reader(tmp_path).read()


VOTES = [
    # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF
    ("Training", "fer0000000.png", (0, 0, 0, 1, 8, 1, 0, 0, 0, 0)),
    ("Training", "fer0000000.png", (4, 0, 0, 4, 0, 0, 0, 0, 2, 0)),
    ("PublicTest", "", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),
    ("PrivateTest", "fer0032221.png", (0, 6, 2, 0, 0, 0, 0, 2, 0, 0)),
]


def put_votes(root, votes=VOTES, header=VOTES_HEADER, end="\n"):
    rows = [f"{usage},{name},{','.join(map(str, counts))}" for usage, name, counts in votes]
    (root / "fer2013new.csv").write_bytes((end.join([header, *rows]) + end).encode())
    return root


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ferplus_joins_by_row_and_never_by_image_name(tmp_path, end):
    reader = open_reader(put_votes(put(tmp_path), end=end))
    assert type(reader) is FerPlusCsv
    listing = reader.read()
    assert [(r.key, r.split, None if r.emotion is None else EMOTIONS[r.emotion]) for r in listing.samples] == [
        ("00000", "train", "anger"),
        ("00001", "train", None),
        ("00003", "test", "happiness"),
    ]
    shares = dict(zip(EMOTIONS, listing.samples[0].soft_label, strict=True))
    assert shares == {**dict.fromkeys(EMOTIONS, 0), "anger": 0.8, "sadness": 0.1, "disgust": 0.1}
    assert listing.left_out == {"no vote for any of the eight": 1}
    assert any("1 rows have no image name" in note for note in listing.notes)
    assert "Test faces with a majority (published): 1 (3,153)." in listing.notes
    again = pickle.loads(pickle.dumps(reader))
    assert (decode_rgb(again.encoded(listing.samples[2]))[:, :, 0] == picture(3)).all()


def test_single_votes_can_be_dropped_from_the_soft_label(tmp_path):
    reader = open_reader(put_votes(put(tmp_path)), votes="without_single")
    assert max(reader.read().samples[0].soft_label) == 1
    assert reader.options() == {"votes": "without_single"}
    with pytest.raises(EmodetError, match="votes='all': there are as_given and without_single"):
        open_reader(tmp_path, votes="all")


def test_files_in_folders_of_their_own(tmp_path):
    put(tmp_path / "fer2013")
    put_votes(tmp_path)
    assert len(open_reader(tmp_path).read().samples) == 3


def test_votes_without_pictures(tmp_path):
    with pytest.raises(EmodetError, match=r"fer2013.csv with the pictures is not there; put FER2013's file beside it"):
        open_reader(put_votes(tmp_path))


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (VOTES[:3], "fer2013new.csv has 3 rows and"),
        ([VOTES[3], *VOTES[1:]], "row 0 is 'PrivateTest' in fer2013new.csv and 'Training' in fer2013.csv"),
        ([("Training", "", (0, -1, *[0] * 8)), *VOTES[1:]], "line 2: the vote columns must hold whole numbers from 0"),
        ([("Training", "", ("x", *[0] * 9)), *VOTES[1:]], "line 2: the vote columns must hold whole numbers from 0"),
        ([("Training", "", (10**6, *[0] * 9)), *VOTES[1:]], "line 2: the vote columns must hold"),
        ([("Training", "", (1,) * 9), *VOTES[1:]], "line 2: 11 columns where the header has 12"),
    ],
    ids=range(6),
)
def test_votes_that_do_not_fit_the_pictures(tmp_path, votes, message):
    with pytest.raises(EmodetError) as caught:
        open_reader(put_votes(put(tmp_path), votes)).read()
    assert message in str(caught.value)


def test_votes_without_a_column(tmp_path):
    put_votes(put(tmp_path), header=VOTES_HEADER.replace("contempt", "other"))
    assert type(open_reader(tmp_path)) is Fer2013
    with pytest.raises(EmodetError, match="ten vote columns"):
        open_reader(tmp_path, "ferplus_csv")


line = st.one_of(
    st.text(max_size=20),
    st.sampled_from([f"0,{pixels(0)},Training", f"0,{pixels(0)}", "Training,x," + ",".join("0" * 10), '"', "\0,\0,\0"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.text(max_size=20), faces=st.lists(line, max_size=3), votes=st.lists(line, max_size=3), own=st.booleans()
)
def test_whatever_the_files_hold_only_an_emodet_error_comes_out(tmp_path, header, faces, votes, own):
    first = (header, header) if own else ("emotion,pixels,Usage", VOTES_HEADER)
    for name, start, lines in zip(("fer2013.csv", "fer2013new.csv"), first, (faces, votes), strict=True):
        (tmp_path / name).write_bytes("\n".join([start, *lines]).encode(errors="replace"))
    for kind in (Fer2013, FerPlusCsv):
        with contextlib.suppress(EmodetError):
            reader = kind(tmp_path)
            for record in reader.read().samples:
                reader.encoded(record)
