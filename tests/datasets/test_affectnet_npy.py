"""AffectNet 2021: small npy files in all the forms they may take, and nothing unpickled."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from on_disk import error_of, faces, has_note, read

from emodet.datasets.affectnet_npy import read_numbers
from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError

POINTS = np.array([[i, 2 * i] for i in range(1, 69)], dtype=np.float64).ravel()


def put_face(folder, number, emotion, *, valence="0.25", arousal="-0.5", picture=True, suffix=".jpg"):
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if picture:
        (folder / "images" / f"{number}{suffix}").write_bytes(f"picture {number}".encode())
    for kind, value in (("exp", emotion), ("val", valence), ("aro", arousal), ("lnd", POINTS)):
        np.save(folder / "annotations" / f"{number}_{kind}.npy", np.array(value))


@pytest.fixture
def release(tmp_path):
    for number, emotion in ((10, "3"), (2, "0"), (141, "7")):
        put_face(tmp_path / "train_set", number, emotion)
    put_face(tmp_path / "val_set", 5495, "1", valence="-2", arousal="-2")
    put_face(tmp_path / "val_set", 0, "6")
    return tmp_path


def test_reads_the_release_in_the_order_of_numbers(release):
    reader = open_reader(release)
    listing = reader.read()
    assert list(faces(listing).items()) == [
        ("train_set/images/2.jpg", ("train", "neutral")),
        ("train_set/images/10.jpg", ("train", "surprise")),
        ("train_set/images/141.jpg", ("train", "contempt")),
        ("val_set/images/0.jpg", ("val", "anger")),
        ("val_set/images/5495.jpg", ("val", "happiness")),
    ]
    first, last = listing.samples[0], listing.samples[4]
    assert (first.valence, first.arousal, first.box, first.landmarks) == (0.25, -0.5, None, None)
    assert (last.valence, last.arousal) == (None, None)
    assert not listing.left_out
    assert reader.encoded(listing.samples[2]) == b"picture 141"
    # Some tools left a list of another machine's paths.
    (release / "affectnet.csv").write_text("path,label\n/home/someone/1.jpg,3\n")
    assert read(release) == listing


def test_what_is_not_a_face_with_an_emotion_is_counted_and_named(release):
    (release / "test/images").mkdir(parents=True)  # other pictures in the folder of the release
    for number in range(200, 220):
        put_face(release / "train_set", number, "2", picture=number != 207)
    for number, emotion in ((20, "8"), (21, "9"), (22, "10")):
        put_face(release / "train_set", number, emotion)
    put_face(release / "train_set", "extra", "5", suffix=".PNG")
    for name in ("999.jpg", "Thumbs.db"):
        (release / "train_set/images" / name).write_bytes(b"")
    (release / "train_set/annotations/2_val.npy").unlink()
    listing = read(release)
    assert listing.left_out == {
        **{"none": 1, "uncertain": 1, "no-face": 1},
        **{"annotation without a picture": 1, "picture without an annotation": 1},
    }
    assert has_note(listing, "207")
    assert has_note(listing, "999.jpg")
    assert listing.samples[0].valence is None
    # Names that are no numbers come last.
    assert [key for key in faces(listing) if key.startswith("train")][-1] == "train_set/images/extra.PNG"


class Dangerous:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_nothing_is_unpickled(release, capsys):
    np.save(release / "train_set/annotations/2_exp.npy", np.array([Dangerous()], dtype=object), allow_pickle=True)
    assert all(part in error_of(release) for part in ("2_exp.npy", "Python objects"))
    assert "must not be printed" not in capsys.readouterr().out


def npy_bytes(value):
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


def with_header(text):
    header = text.encode("latin-1", "replace")
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


sound = st.sampled_from([npy_bytes("3"), npy_bytes(1.5), npy_bytes(["-0.4"]), npy_bytes(POINTS)])
types = st.one_of(st.text(max_size=6), st.sampled_from(["<U0", "|O", "V8", "<f99", "M8[s]", "<f8", ">U1", "(2,)f4"]))
shapes = st.sampled_from(["()", "(1,)", "(-1,)", "(0,)", "(1e3,)", "(999999999999999999999,)", "[1]", "None", "("])


@settings(max_examples=300)
@example(with_header("{'descr': '<U1', 'fortran_order': False, 'shape': ()}") + b"\0\x11\0\0", 1)  # above U+10FFFF
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda whole, at, new: whole[:at] + new + whole[at + len(new) :], sound, st.integers(0, 200), st.binary()
        ),
        st.builds(lambda whole, end: whole[:end], sound, st.integers(0, 200)),
        st.builds(
            lambda kind, shape, cells: (
                with_header(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}") + cells
            ),
            types,
            shapes,
            st.binary(max_size=16),
        ),
    ),
    count=st.sampled_from([1, 136]),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_only_numbers_or_an_emodet_error_come_out(data, count):
    with contextlib.suppress(EmodetError):
        numbers = read_numbers(data, count, "file.npy")
        assert len(numbers) == count
        assert all(isinstance(number, float) for number in numbers)
