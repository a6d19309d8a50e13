"""AffectNet+: one JSON file a face, in several spellings."""

import contextlib
import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.affectnet_plus import AffectNetPlus
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

TRAIN = "human_annotated/train_set"
VAL = "human_annotated/validation_set"
SHARES = [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]


def annotation(label, shares=SHARES, subset=0, valence=0.5, arousal=-0.25):
    return {
        "human-label": label,
        "soft-label": shares,
        "subset": subset,
        "meta-data": {"age": 30, "valence": valence, "arousal": arousal, "gender": None, "landmark-68": [[1, 2]] * 68},
    }


def put(root, folder, number, content, suffix=".jpg"):
    for name in ("images", "annotations"):
        (root / folder / name).mkdir(parents=True, exist_ok=True)
    if suffix:
        (root / folder / "images" / f"{number}{suffix}").write_bytes(f"{folder}/{number}".encode())
    if content is not None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (root / folder / "annotations" / f"{number}.json").write_bytes(text)


@pytest.fixture
def release(tmp_path):
    put(tmp_path, TRAIN, 2, annotation(1))
    put(tmp_path, TRAIN, 10, annotation(7, subset=2))
    put(tmp_path, VAL, 0, annotation(4, subset=1))
    return tmp_path


def faces(listing):
    return {r.key: (r.split, None if r.emotion is None else EMOTIONS[r.emotion]) for r in listing.samples}


def train(root, **options):
    return next(r for r in AffectNetPlus(root, **options).read().samples if r.key == f"{TRAIN}/images/2.jpg")


def test_human_labels_soft_labels_valence_and_arousal(release):
    reader = open_reader(release)
    assert type(reader) is AffectNetPlus
    listing = reader.read()
    assert faces(listing) == {
        f"{TRAIN}/images/10.jpg": ("train", "contempt"),
        f"{TRAIN}/images/2.jpg": ("train", "happiness"),
        f"{VAL}/images/0.jpg": ("val", "fear"),
    }
    face = train(release)
    assert (face.soft_label, face.valence, face.arousal, face.box) == (tuple(SHARES), 0.5, -0.25, None)
    assert pickle.loads(pickle.dumps(reader)).encoded(face) == f"{TRAIN}/2".encode()
    assert "Subsets: easy 1, challenging 1, difficult 1." in listing.notes
    assert f"Faces found (in the published export): {TRAIN} 2 (414,799)." in listing.notes


@pytest.mark.parametrize("change", [str.upper, str.title, lambda k: k.replace("-", "_"), lambda k: k.replace("-", " ")])
@pytest.mark.parametrize("as_text", [False, True])
def test_keys_are_spelt_in_many_ways_and_numbers_may_be_text(release, change, as_text):
    content = {change(key): value for key, value in annotation("1" if as_text else 1).items()}
    meta = content.pop(change("meta-data"))
    content[change("meta-data")] = {change(key): str(value) if as_text else value for key, value in meta.items()}
    if as_text:
        content[change("soft-label")] = "[0.5, 0.25, 0.25, 0, 0, 0, 0, 0]"
        content[change("subset")] = "0"
    before = AffectNetPlus(release).read().samples
    put(release, TRAIN, 2, json.dumps(content).encode("utf-8-sig"))
    assert AffectNetPlus(release).read().samples == before


def test_meta_data_may_also_lie_flat(release):
    content = annotation(1)
    put(release, TRAIN, 2, {**content, **content.pop("meta-data")})
    assert train(release).valence == 0.5


@pytest.mark.parametrize("null", [None, "", "null"])
def test_a_null_label_leaves_the_soft_label(release, null):
    put(release, TRAIN, 2, annotation(null))
    assert train(release).emotion is None
    assert train(release).soft_label == tuple(SHARES)
    put(release, TRAIN, 2, annotation(null, shares=None))
    assert AffectNetPlus(release).read().left_out == {"neither human label nor soft label": 1}


def test_faces_of_no_emotion_are_counted_by_name(release):
    put(release, TRAIN, 3, annotation(8))
    put(release, TRAIN, 4, annotation(10))
    assert AffectNetPlus(release).read().left_out == {"none": 1, "no-face": 1}


def test_minus_two_is_no_valence(release):
    put(release, TRAIN, 2, annotation(1, valence=-2, arousal=-2))
    assert (train(release).valence, train(release).arousal) == (None, None)


def test_soft_labels_that_do_not_sum_to_1_are_scaled_and_counted(release):
    put(release, TRAIN, 2, annotation(1, shares=[30, 50, 0, 0, 0, 0, 0, 0]))
    put(release, TRAIN, 3, annotation(1, shares=[0.4, 0.4, 0, 0, 0, 0, 0, 0]))
    put(release, TRAIN, 4, annotation(1, shares=[0.333, 0.333, 0.333, 0, 0, 0, 0, 0]))
    put(release, TRAIN, 5, annotation(1, shares=[0] * 8))
    listing = AffectNetPlus(release).read()
    assert train(release).soft_label == (0.375, 0.625, 0, 0, 0, 0, 0, 0)
    assert all(sum(r.soft_label) == pytest.approx(1, abs=1e-12) for r in listing.samples if r.soft_label)
    assert "2 soft labels did not sum to 1 but to 0.8 up to 80; they were scaled." in listing.notes
    assert "1 faces have no soft label (none given, or all zero)." in listing.notes


def test_a_subset_can_be_chosen(release):
    listing = open_reader(release, subset="difficult").read()
    assert list(faces(listing)) == [f"{TRAIN}/images/10.jpg"]
    assert listing.left_out == {"subset easy": 1, "subset challenging": 1}
    with pytest.raises(EmodetError, match="subset='hard': there are all, easy, challenging, difficult"):
        open_reader(release, subset="hard")


def test_faces_without_a_human_label_are_read_when_asked_for(release):
    put(release, "no_human_annotated", 2, annotation(None))
    assert len(open_reader(release).read().samples) == 3
    assert any("no_human=true reads it" in note for note in open_reader(release).read().notes)
    listing = open_reader(release, no_human=True).read()
    assert faces(listing)["no_human_annotated/images/2.jpg"] == ("train", None)
    assert len(listing.samples) == 4
    (release / "no_human_annotated").rename(release / "elsewhere")
    with pytest.raises(EmodetError, match=r"no_human=True asks for no_human_annotated/, which is not there"):
        open_reader(release, no_human=True).read()


def test_roots_above_and_below(release, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    release.rename(outer / "AffectNet+")
    for root in (outer, outer / "AffectNet+", outer / "AffectNet+/human_annotated"):
        assert len(open_reader(root).read().samples) == 3


def test_stems_that_only_one_folder_holds_are_counted(release):
    for number in range(100, 130):
        put(release, TRAIN, number, annotation(0))
    put(release, TRAIN, 5, annotation(0), suffix="")
    put(release, TRAIN, 6, None, suffix=".png")
    (release / TRAIN / "images/Thumbs.db").write_bytes(b"")
    listing = AffectNetPlus(release).read()
    assert listing.left_out == {"annotation without a picture": 1, "picture without an annotation": 1}
    for number in range(100, 104):
        (release / TRAIN / f"images/{number}.jpg").unlink()
    with pytest.raises(EmodetError, match=r"train_set: 33 faces are annotated but images/ holds pictures of 28"):
        AffectNetPlus(release).read()


@pytest.mark.parametrize("name", ["val_set", "valid_set"])
def test_other_names_of_the_validation_folder(release, name):
    (release / VAL).rename(release / "human_annotated" / name)
    assert ("val", "fear") in faces(open_reader(release).read()).values()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (annotation(11), "human-label=11 is not a number from 0 to 10"),
        (annotation(1.5), "human-label=1.5 is not a number from 0 to 10"),
        (annotation("happy"), "human-label has 'happy' where a number was expected"),
        (annotation(True), "human-label has 'True' where a number was expected"),
        (annotation([1]), "human-label has '[1]' where a number was expected"),
        (annotation(1, shares=[1, 0]), "soft-label is not a list of 8 numbers"),
        (annotation(1, shares={"0": 1}), "soft-label is not a list of 8 numbers"),
        (annotation(1, shares=[-1, 2, 0, 0, 0, 0, 0, 0]), "soft-label has shares that are negative or not finite"),
        (annotation(1, shares=[float("nan"), 1, 0, 0, 0, 0, 0, 0]), "soft-label has shares that are negative or not"),
        (annotation(1, shares=[1e308] * 8), "soft-label has shares that are negative or not finite"),
        (annotation(1, subset=3), "subset=3 is not a number from 0 to 2"),
        (annotation(1, valence="high"), "valence has 'high' where a number was expected"),
        ({"label": 1}, "neither human-label nor soft-label is among its keys (label)"),
        ([1], "not a JSON object"),
        (b'{"human-label": 1', "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b'{"human-label": ' + b"1" * 5000 + b"}", "cannot be read as JSON"),
        (b" " * (1 << 20) + b"{}", "over 1,048,576 bytes"),
    ],
    ids=range(20),
)
def test_an_annotation_that_does_not_fit_is_named(release, content, message):
    put(release, TRAIN, 2, content)
    with pytest.raises(EmodetError) as caught:
        AffectNetPlus(release).read()
    assert message in str(caught.value)
    assert "2.json" in str(caught.value)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=40),
        json_values,
        st.fixed_dictionaries(
            {"human-label": json_values, "soft-label": json_values},
            optional={"Meta_Data": json_values, "SUBSET": json_values, "valence": json_values},
        ),
    )
)
def test_whatever_an_annotation_holds_only_an_emodet_error_comes_out(release, content):
    put(release, TRAIN, 2, content)
    with contextlib.suppress(EmodetError):
        AffectNetPlus(release, subset="all").read()
