"""AffectNet+: one JSON file a face, in several spellings."""

import json

import pytest
from on_disk import error_of, faces, has_note, put_files, read

from emodet.datasets.readers import open_reader

TRAIN = "human_annotated/train_set"
VAL = "human_annotated/validation_set"
SHARES = [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]


def annotation(label, shares=SHARES, subset=0, valence=0.5, arousal=-0.25):
    meta = {"age": 30, "valence": valence, "arousal": arousal, "gender": None, "landmark-68": [[1, 2]] * 68}
    return {"human-label": label, "soft-label": shares, "subset": subset, "meta-data": meta}


def put(root, folder, number, content, suffix=".jpg"):
    put_files(root / folder, f"images/{number}{suffix}" if suffix else "images/Thumbs.db")
    if content is not None:
        (root / folder / "annotations").mkdir(exist_ok=True)
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (root / folder / "annotations" / f"{number}.json").write_bytes(text)


@pytest.fixture
def release(tmp_path):
    put(tmp_path, TRAIN, 2, annotation(1))
    put(tmp_path, TRAIN, 10, annotation(7, subset=2))
    put(tmp_path, VAL, 0, annotation(4, subset=1))
    return tmp_path


def test_human_labels_soft_labels_valence_and_arousal(release):
    reader = open_reader(release)
    listing = reader.read()
    assert faces(listing) == {
        f"{TRAIN}/images/10.jpg": ("train", "contempt"),
        f"{TRAIN}/images/2.jpg": ("train", "happiness"),
        f"{VAL}/images/0.jpg": ("val", "fear"),
    }
    (face,) = [sample for sample in listing.samples if sample.key == f"{TRAIN}/images/2.jpg"]
    assert (face.soft_label, face.valence, face.arousal, face.box) == (tuple(SHARES), 0.5, -0.25, None)
    assert reader.encoded(face) == b"images/2.jpg"
    assert has_note(listing, "difficult 1, easy 1")
    assert has_note(listing, "2 (414,799)")


def test_roots_above_and_below_and_other_names_of_the_validation_folder(release, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (release / VAL).rename(release / "human_annotated/val_set")
    release.rename(outer / "AffectNet+")
    for root in (outer, outer / "AffectNet+", outer / "AffectNet+/human_annotated"):
        assert [split for split, _ in faces(read(root)).values()] == ["train", "train", "val"]


def test_stems_that_only_one_folder_holds_are_counted(release):
    for number in range(100, 130):
        put(release, TRAIN, number, annotation(0))
    put(release, TRAIN, 5, annotation(0), suffix="")
    put(release, TRAIN, 6, None, suffix=".png")
    assert read(release).left_out == {"annotation without a picture": 1, "picture without an annotation": 1}
    for number in range(100, 104):
        (release / TRAIN / f"images/{number}.jpg").unlink()
    assert all(part in error_of(release) for part in ("train_set", "5 of 33", "100"))
