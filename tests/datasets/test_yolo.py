"""The YOLO export: classes by the names in data.yaml, pictures and labels paired by stem."""

import contextlib
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.yolo import Yolo
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

ALPHABETICAL = ["Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
YAML = f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: {ALPHABETICAL}\n"


def put_face(root, split, stem, label, suffix=".jpg"):
    for name in ("images", "labels"):
        (root / split / name).mkdir(parents=True, exist_ok=True)
    (root / split / "images" / f"{stem}{suffix}").write_bytes(stem.encode())
    if label is not None:
        (root / split / "labels" / f"{stem}.txt").write_text(label)


@pytest.fixture
def release(tmp_path):
    (tmp_path / "data.yaml").write_text(YAML)
    for number in range(8):
        put_face(tmp_path, "train", f"b{number}_png.rf.0123", f"{number} 0.5 0.5 1 1\n", suffix=".png")
    put_face(tmp_path, "valid", "v1", "4 0.5 0.5 1 1")
    put_face(tmp_path, "test", "t1", "0 0.5 0.5 0.9 0.8\n")
    return tmp_path


def faces(listing):
    return {record.key: (record.split, record.emotion) for record in listing.samples}


def test_maps_classes_by_name(release):
    reader = Yolo(release)
    listing = reader.read()
    names = ["anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert faces(listing) == {
        **{f"train/images/b{i}_png.rf.0123.png": ("train", EMOTIONS.index(name)) for i, name in enumerate(names)},
        "valid/images/v1.jpg": ("val", EMOTIONS.index("happiness")),
        "test/images/t1.jpg": ("test", EMOTIONS.index("anger")),
    }
    assert all(record.box is None for record in listing.samples)
    assert [r.key for r in listing.samples] == sorted(r.key for r in listing.samples)
    assert pickle.loads(pickle.dumps(reader)).encoded(listing.samples[-1]) == b"v1"
    assert any("boxes" in note for note in listing.notes)


@pytest.mark.parametrize(
    "names",
    [
        "names:\n" + "".join(f"  {i}: {name}\n" for i, name in enumerate(ALPHABETICAL)),
        "names:\n" + "".join(f"  '{i}': {name.upper()}\n" for i, name in reversed(list(enumerate(ALPHABETICAL)))),
        "names:\n" + "".join(f"- {name}\n" for name in ALPHABETICAL),
    ],
    ids=["by number", "by quoted number, backwards", "block list"],
)
def test_names_as_list_and_as_dict(release, names):
    before = faces(Yolo(release).read())
    (release / "data.yaml").write_text(names)
    assert faces(Yolo(release).read()) == before


def test_another_order_of_names_is_followed(release):
    (release / "data.yaml").write_text("names: [neutral, happy, sad, surprise, fear, disgust, anger, contempt]")
    assert [r.emotion for r in Yolo(release).read().samples if r.split == "train"] == list(range(8))


def test_the_first_line_counts_and_empty_files_are_listed(release):
    put_face(release, "train", "more", "\n6 0.5 0.5 1 1\n0 0.1 0.1 0.2 0.2\n")
    put_face(release, "train", "empty", "")
    put_face(release, "train", "blank", " \n\n")
    listing = Yolo(release).read()
    assert faces(listing)["train/images/more.jpg"] == ("train", EMOTIONS.index("sadness"))
    assert listing.left_out == {"label file is empty": 2}
    assert any("blank.txt, empty.txt" in note for note in listing.notes)
    assert any("1 files have more than one line" in note for note in listing.notes)


def test_pairs_by_stem_and_lists_the_others(release):
    for number in range(20):
        put_face(release, "train", f"c{number}", "1 0.5 0.5 1 1")
    put_face(release, "train", "a_first_without_label", None)
    (release / "train/images/Thumbs.db").write_bytes(b"")
    (release / "train/images/c3.jpg").unlink()
    (release / "train/labels/classes.txt").write_text("anger\n")
    listing = Yolo(release).read()
    assert listing.left_out == {"picture without a label file": 1, "label file without a picture": 1}
    assert len(listing.samples) == 10 + 19
    assert faces(listing)["train/images/c19.jpg"] == ("train", EMOTIONS.index("contempt"))


def test_pictures_that_are_not_there_stop(release):
    (release / "train/images/b3_png.rf.0123.png").unlink()
    with pytest.raises(EmodetError, match=r"train: 1 of 8 label files have no picture in images/ \(b3_png.rf.0123\)"):
        Yolo(release).read()


def test_a_validation_folder_called_val_and_one_folder_further_down(release):
    (release / "valid").rename(release / "val")
    inner = release.parent / "outer"
    inner.mkdir()
    release.rename(inner / "export")
    assert Yolo.recognises(inner)
    assert faces(Yolo(inner).read())["val/images/v1.jpg"] == ("val", 1)


def test_classes_that_are_no_emotion_are_counted(release):
    (release / "data.yaml").write_text(YAML.replace("'Surprise'", "'none'"))
    listing = Yolo(release).read()
    assert listing.left_out == {"none": 1}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("8 0.5 0.5 1 1", "class 8 is not among the numbers in data.yaml (0 to 7)"),
        ("-1 0.5 0.5 1 1", "class -1 is not among"),
        ("1.5 0.5 0.5 1 1", "class 1.5 is not among"),
        ("anger 0.5 0.5 1 1", "is not a label line"),
        ("3", "is not a label line"),
        ("nan nan nan nan nan", "is not a label line"),
    ],
)
def test_a_label_that_does_not_fit_is_named(release, label, message):
    put_face(release, "train", "odd", label)
    with pytest.raises(EmodetError) as caught:
        Yolo(release).read()
    assert message in str(caught.value)
    assert "odd.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [anger, person]", "class name 'person' is not known"),
        ("names: [anger, angry]", "more than once"),
        ("names: 8", "names must list the classes"),
        ("names: []", "names must list the classes"),
        ("names: {first: anger}", "class numbers were expected"),
        ("nc: 8", "names must list the classes"),
        ("- a\n", "names must list the classes"),
        ("names: [", "cannot be read as YAML"),
        ("names: !!python/object/apply:os.getcwd []", "names must list the classes"),
    ],
)
def test_a_data_yaml_that_does_not_fit(release, content, message):
    (release / "data.yaml").write_text(content)
    with pytest.raises(EmodetError) as caught:
        Yolo(release).read()
    assert message in str(caught.value)
    assert "data.yaml" in str(caught.value)


def test_data_yaml_runs_no_code(release, capsys):
    (release / "data.yaml").write_text(
        "names: [anger]\nx: !!python/object/apply:builtins.print [this must not be printed]"
    )
    with contextlib.suppress(EmodetError):
        Yolo(release).read()
    assert "must not be printed" not in capsys.readouterr().out


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    yaml=st.one_of(st.just(YAML.encode()), st.binary(max_size=80), st.text(max_size=80).map(str.encode)),
    label=st.binary(max_size=40),
)
def test_whatever_the_files_hold_only_an_emodet_error_comes_out(release, yaml, label):
    (release / "data.yaml").write_bytes(yaml)
    (release / "train/labels/b0_png.rf.0123.txt").write_bytes(label)
    with contextlib.suppress(EmodetError):
        Yolo(release).read()
