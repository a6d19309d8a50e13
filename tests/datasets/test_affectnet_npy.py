"""The 2021 release: small npy files in all the forms they may take, and nothing unpickled."""

import contextlib
import io
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emodet.datasets.affectnet_npy import AffectNetNpy, read_numbers
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
    reader = AffectNetNpy(release)
    listing = reader.read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == [
        ("train_set/images/2.jpg", "train", 0),
        ("train_set/images/10.jpg", "train", 3),
        ("train_set/images/141.jpg", "train", 7),
        ("val_set/images/0.jpg", "val", 6),
        ("val_set/images/5495.jpg", "val", 1),
    ]
    assert (listing.samples[0].valence, listing.samples[0].arousal) == (0.25, -0.5)
    assert listing.samples[0].box is None
    assert listing.samples[0].landmarks is None
    assert (listing.samples[4].valence, listing.samples[4].arousal) == (None, None)
    assert listing.left_out == {}
    assert pickle.loads(pickle.dumps(reader)).encoded(listing.samples[2]) == b"picture 141"


def test_landmarks_bring_the_whole_picture_as_box(release):
    face = AffectNetNpy(release, landmarks=True).read().samples[0]
    assert face.landmarks == ((39.5, 79), (45.5, 91), (31, 62), (49, 98), (55, 110))
    assert face.box == (0, 0, 224, 224)


@pytest.mark.parametrize("name", ["valid_set", "validation_set"])
def test_other_names_of_the_validation_folder(release, name):
    (release / "val_set").rename(release / name)
    records = AffectNetNpy(release).read().samples
    assert [r.key for r in records if r.split == "val"] == [f"{name}/images/0.jpg", f"{name}/images/5495.jpg"]


@pytest.mark.parametrize(
    "value",
    [
        "4",
        b"4",
        4,
        4.0,
        ["4"],
        [4],
        [[4.0]],
        np.uint8(4),
        np.float32(4),
        np.array("4", dtype=">U3"),
        np.array(4, ">i8"),
    ],
    ids=repr,
)
def test_text_numbers_and_shapes(release, value):
    np.save(release / "train_set/annotations/2_exp.npy", np.array(value))
    assert AffectNetNpy(release).read().samples[0].emotion == 4


def test_faces_of_no_emotion_are_counted_by_name(release):
    for number, emotion in ((20, "8"), (21, "9"), (22, "10")):
        put_face(release / "train_set", number, emotion)
    listing = AffectNetNpy(release).read()
    assert listing.left_out == {"none": 1, "uncertain": 1, "no-face": 1}
    assert len(listing.samples) == 5


def test_what_has_no_counterpart_is_left_out_and_named(release):
    for number in range(200, 220):
        put_face(release / "train_set", number, "2", picture=number != 207)
    (release / "train_set/images/999.jpg").write_bytes(b"")
    (release / "train_set/images/Thumbs.db").write_bytes(b"")
    listing = AffectNetNpy(release).read()
    assert listing.left_out == {"annotation without a picture": 1, "picture without an annotation": 1}
    assert any("207.jpg" in note for note in listing.notes)
    assert any("999.jpg" in note for note in listing.notes)


def test_pictures_that_are_not_there_stop(release):
    (release / "train_set/images/2.jpg").unlink()
    with pytest.raises(EmodetError, match=r"train_set: 3 faces .* pictures of 2 of them \(not there: 2.jpg\)"):
        AffectNetNpy(release).read()


def test_without_valence_files_there_is_none(release):
    (release / "train_set/annotations/2_val.npy").unlink()
    face = AffectNetNpy(release).read().samples[0]
    assert (face.valence, face.arousal) == (None, None)


def test_other_extensions_and_names_that_are_no_numbers(release):
    put_face(release / "train_set", "extra", "5", suffix=".PNG")
    keys = [r.key for r in AffectNetNpy(release).read().samples]
    assert keys[3] == "train_set/images/extra.PNG"


def test_a_stale_list_in_the_root_changes_nothing(release):
    before = AffectNetNpy(release).read()
    (release / "affectnet.csv").write_text("path,label\n/home/someone/1.jpg,3\n")
    assert AffectNetNpy(release).read() == before


def test_only_a_validation_part(release):
    for path in sorted((release / "train_set").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    listing = AffectNetNpy(release).read()
    assert {r.split for r in listing.samples} == {"val"}
    assert any("no train faces" in note for note in listing.notes)


def test_expected_counts_add_up_to_the_published_totals():
    assert sum(AffectNetNpy.expected["train"].values()) == 287_651
    assert sum(AffectNetNpy.expected["val"].values()) == 3_999


class Dangerous:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_nothing_is_unpickled(release, capsys):
    np.save(release / "train_set/annotations/2_exp.npy", np.array([Dangerous()], dtype=object), allow_pickle=True)
    with pytest.raises(EmodetError, match=r"2_exp.npy: holds Python objects"):
        AffectNetNpy(release).read()
    assert "must not be printed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("11", "11.0 is not an id from 0 to 10"),
        ("3.5", "3.5 is not an id"),
        ("happy", "holds something else than numbers"),
        ("", "holds"),
        ([], "holds 0 values instead of 1"),
        (["1", "2"], "holds 2 values instead of 1"),
        (1j, "instead of numbers or text"),
        (np.zeros(1, dtype=[("a", "i4")]), "instead of numbers or text"),
    ],
)
def test_a_value_that_does_not_fit_is_named(release, value, message):
    np.save(release / "train_set/annotations/10_exp.npy", np.array(value))
    with pytest.raises(EmodetError) as caught:
        AffectNetNpy(release).read()
    assert message in str(caught.value)
    assert "10_exp.npy" in str(caught.value)


def test_a_file_that_is_cut_off_is_named(release):
    path = release / "train_set/annotations/10_val.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(EmodetError, match=r"10_val.npy: cut off"):
        AffectNetNpy(release).read()


def npy_bytes(value):
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


def with_header(text):
    header = text.encode("latin-1", "replace")
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


sound = st.sampled_from([npy_bytes("3"), npy_bytes(1.5), npy_bytes(["-0.4"]), npy_bytes(POINTS)])


@settings(max_examples=400, deadline=None)
@example(with_header("{'descr': '<U1', 'fortran_order': False, 'shape': ()}") + b"\0\x11\0\0", 1)  # above U+10FFFF
@example(with_header("{'descr': '<U1', 'fortran_order': False, 'shape': ("), 1)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.tuples(sound, st.integers(0, 200), st.binary(max_size=4)).map(
            lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + len(t[2]) :]
        ),
        st.tuples(sound, st.integers(0, 200)).map(lambda t: t[0][: t[1]]),
        st.tuples(st.text(max_size=80), st.binary(max_size=16)).map(lambda t: with_header(t[0]) + t[1]),
        st.tuples(
            st.one_of(
                st.text(max_size=6), st.sampled_from(["<U0", "|O", "V8", "<f99", "M8[s]", "<f8", ">U1", "(2,)f4"])
            ),
            st.sampled_from(["()", "(1,)", "(-1,)", "(0,)", "(1e3,)", "(999999999999999999999,)", "[1]", "None", "("]),
            st.binary(max_size=16),
        ).map(lambda t: with_header(f"{{'descr': {t[0]!r}, 'fortran_order': False, 'shape': {t[1]}}}") + t[2]),
    ),
    count=st.sampled_from([1, 136]),
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_only_numbers_or_an_emodet_error_come_out(data, count):
    numbers = None
    with contextlib.suppress(EmodetError):
        numbers = read_numbers(data, count, "file.npy")
    if numbers is not None:
        assert len(numbers) == count
        assert all(isinstance(number, float) for number in numbers)
