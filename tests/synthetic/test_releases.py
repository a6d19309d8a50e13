"""Drawn faces as releases on disk: the formats, the balance, and that a half-written one never looks whole."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from emodet.synthetic import releases as synthetic_releases
from emodet.datasets.readers import open_reader
from emodet.synthetic.releases import STAMP, write_release
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FERPLUS_ORDER, emotion_name
from emodet.errors import EmodetError
from emodet.images import decode_rgb

LAYOUTS = ("affectnet_csv", "affectnet_npy", "yolo", "ferplus")


def faces_for(layout: str, train: int = 60, val: int = 16) -> dict[str, int]:
    return {"train": train, "val": val} | ({"test": 8} if layout in ("yolo", "ferplus") else {})


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("releases")
    return {name: write_release(base / name, name, faces_for(name), seed=4, size=48) for name in LAYOUTS}


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_its_reader_recognises_it_and_finds_every_face(releases: dict[str, Path], layout: str) -> None:
    reader = open_reader(releases[layout])
    assert reader.name == layout
    listing = reader.read()
    found = Counter(record.split for record in listing.samples)
    assert found == Counter({split: count for split, count in faces_for(layout).items() if count})
    for record in listing.samples[::9]:
        image = decode_rgb(reader.encoded(record), name=record.key)
        assert image.shape[0] == image.shape[1]
        if record.box is not None:
            x1, y1, x2, y2 = record.box
            assert 0 <= x1 < x2 <= image.shape[1]
            assert 0 <= y1 < y2 <= image.shape[0]
            assert x2 - x1 > 0.55 * image.shape[1]
    per_class = Counter(record.emotion for record in listing.samples if record.split == "val")
    if layout != "ferplus":  # there people vote
        assert per_class == dict.fromkeys(range(8), 2)


def test_the_landmarks_on_disk_show_what_the_labels_say(releases: dict[str, Path]) -> None:
    """Corners of the mouth rise in happiness and fall in sadness; it opens in surprise; eyes narrow in disgust."""
    base = write_release(releases["affectnet_npy"].parent / "even", "affectnet_npy", {"val": 96}, size=32) / "val_set"
    lift, mouth, eyes = ({name: [] for name in EMOTIONS} for _ in range(3))
    for path in base.glob("annotations/*_exp.npy"):
        name = EMOTIONS[int(str(np.load(path)))]
        points = np.load(path.with_name(path.name.replace("_exp", "_lnd"))).reshape(68, 2)
        unit = np.linalg.norm(points[36] - points[45])
        lift[name].append((points[[62, 66], 1].mean() - points[[48, 54], 1].mean()) / unit)
        mouth[name].append(np.linalg.norm(points[66] - points[62]) / unit)
        eyes[name].append((points[[40, 41, 46, 47], 1].mean() - points[[37, 38, 43, 44], 1].mean()) / unit)
    lifts, mouths, eyes_open = ({name: np.mean(v) for name, v in values.items()} for values in (lift, mouth, eyes))
    assert max(lifts, key=lifts.__getitem__) == "happiness"
    assert min(lifts, key=lifts.__getitem__) in ("sadness", "disgust", "fear")
    assert lifts["sadness"] < lifts["neutral"] < lifts["contempt"]
    assert max(mouths, key=mouths.__getitem__) == "surprise"
    assert mouths["fear"] > mouths["anger"] > mouths["neutral"]
    assert set(sorted(eyes_open, key=eyes_open.__getitem__)[-2:]) == {"surprise", "fear"}
    assert eyes_open["disgust"] < eyes_open["neutral"]


def test_one_picture_has_one_emotion_in_every_layout(releases: dict[str, Path]) -> None:
    """Number, text and alphabetical number are three ways to say it."""

    def labels(layout: str) -> dict[bytes, int | None]:
        reader = open_reader(releases[layout])
        return {reader.encoded(record): record.emotion for record in reader.read().samples if record.split != "test"}

    assert labels("yolo") == labels("affectnet_npy")
    (file,) = releases["ferplus"].glob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    by_vote = [max(EMOTIONS, key=lambda name: row[name]) for row in rows if row["split"] == "train"]
    by_label = [EMOTIONS[k] for _, k in sorted(_train_labels(releases["affectnet_npy"]).items())]
    assert np.mean([vote == label for vote, label in zip(by_vote, by_label, strict=True)]) > 0.9


def _train_labels(root: Path) -> dict[int, int]:
    folder = root / "train_set/annotations"
    return {int(path.name.split("_")[0]): int(str(np.load(path))) for path in folder.glob("*_exp.npy")}


def test_the_2017_lists_have_nine_columns_and_all_eleven_ids(releases: dict[str, Path]) -> None:
    root = releases["affectnet_csv"]
    for name, count in (("training.csv", 60), ("validation.csv", 16)):
        with (root / "Manually_Annotated_file_lists" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        header = (
            "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
        )
        assert ",".join(rows[0]) == header
        ids = Counter(int(row["expression"]) for row in rows)
        assert sum(ids[k] for k in range(8)) == count
        assert min(ids[k] for k in (8, 9, 10)) >= 1
        for row in rows:
            folder, file_name = row["subDirectory_filePath"].split("/")
            assert folder.isdigit()
            assert len(file_name) == 56 + 4
            assert (root / "Manually_Annotated/Manually_Annotated_Images" / folder / file_name).is_file()
            assert len(row["facial_landmarks"].split(";")) == 136
            mood = float(row["valence"]), float(row["arousal"])
            assert (mood == (-2, -2)) == (int(row["expression"]) in (9, 10))
    sizes = {decode_rgb(path.read_bytes()).shape[0] for path in root.rglob("*.jpg")}
    assert len(sizes) > 3, "AffectNet's pictures differ in size"


def test_the_2017_boxes_and_landmarks_reach_the_records(releases: dict[str, Path]) -> None:
    for record in open_reader(releases["affectnet_csv"], landmarks=True).read().samples:
        assert record.box is not None
        assert record.landmarks is not None
        x1, y1, x2, y2 = record.box
        for x, y in record.landmarks:
            assert x1 < x < x2
            assert y1 < y < y2


def test_the_2021_annotations_are_text_in_npy_files(releases: dict[str, Path]) -> None:
    root = releases["affectnet_npy"]
    pictures = sorted((root / "train_set/images").glob("*.jpg"), key=lambda path: int(path.stem))
    numbers = [int(path.stem) for path in pictures]
    assert numbers != list(range(len(numbers))), "their numbers have holes"
    assert decode_rgb(pictures[0].read_bytes()).shape == (48, 48, 3)
    for number in numbers:
        base = root / "train_set/annotations"
        emotion, valence, arousal = (
            np.load(base / f"{number}_{kind}.npy", allow_pickle=False) for kind in ("exp", "val", "aro")
        )
        assert emotion.shape == valence.shape == arousal.shape == ()
        assert emotion.dtype.kind == valence.dtype.kind == "U"
        assert 0 <= int(str(emotion)) <= 7
        assert np.load(base / f"{number}_lnd.npy", allow_pickle=False).shape == (136,)


def test_the_yolo_export_numbers_classes_alphabetically(releases: dict[str, Path]) -> None:
    root = releases["yolo"]
    named = yaml.safe_load((root / "data.yaml").read_text())
    assert named["names"] == ["anger", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert tuple(emotion_name(name) for name in named["names"]) == ALPHABETICAL_ORDER
    for split, count in (("train", 60), ("valid", 16), ("test", 8)):
        pictures = {path.stem for path in (root / split / "images").glob("*.jpg")}
        labels = {path.stem: path.read_text().split() for path in (root / split / "labels").glob("*.txt")}
        assert pictures == set(labels)
        assert len(pictures) == count
        for number, *box in labels.values():
            assert 0 <= int(number) <= 7
            assert all(0 < float(value) <= 1 for value in box)


def test_the_ferplus_file_has_its_columns_and_ten_votes_a_row(releases: dict[str, Path]) -> None:
    (file,) = releases["ferplus"].glob("*.parquet")
    table = pq.read_table(file)
    assert table.column_names == ["index", "split", "image", "fer2013_label", *FERPLUS_ORDER, "unknown", "NF"]
    assert str(table.schema.field("index").type) == "int32"
    assert {str(field.type) for field in list(table.schema)[3:]} == {"int8"}
    rows = table.to_pylist()
    assert {sum(row[name] for name in (*FERPLUS_ORDER, "unknown", "NF")) for row in rows} == {10}
    assert {row["fer2013_label"] for row in rows} <= set(range(7))
    for row in rows[::10]:
        assert row["image"][8:12] == b"WEBP"
        assert row["image"][12:16] == b"VP8L", "lossless"
        image = decode_rgb(row["image"])
        assert image.shape == (48, 48, 3)
        assert (image == image[:, :, :1]).all()


def test_training_classes_are_as_uneven_as_affectnets_or_uniform(tmp_path: Path) -> None:
    def per_class(name: str, balance: str) -> list[int]:
        write_release(tmp_path / name, "yolo", {"train": 80}, size=32, balance=balance)  # type: ignore[arg-type]
        found = Counter(record.emotion for record in open_reader(tmp_path / name).read().samples)
        return [found[k] for k in range(8)]

    uneven = per_class("uneven", "affectnet")
    assert uneven[1] == max(uneven) >= 30
    assert uneven[0] == sorted(uneven)[-2]
    assert min(uneven) >= 1
    assert per_class("even", "uniform") == [10] * 8


def test_the_same_arguments_write_the_same_bytes_however_many_processes(tmp_path: Path) -> None:
    faces = {"train": 24, "val": 8}
    one = content(write_release(tmp_path / "one", "yolo", faces, seed=9, size=32))
    two = content(write_release(tmp_path / "two", "yolo", faces, seed=9, size=32, workers=2))
    other = content(write_release(tmp_path / "other", "yolo", faces, seed=10, size=32))
    assert one == two
    assert set(one.values()).isdisjoint(data for name, data in other.items() if name.endswith(".jpg"))


def test_people_do_not_straddle_splits() -> None:
    people = {
        split: {synthetic_releases._identity(0, split, person) for person in range(30)}
        for split in ("train", "val", "test")
    }
    assert len(set.union(*people.values())) == 90


def test_a_release_that_is_there_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    write_release(root, "yolo", {"train": 8}, size=32)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_release(root, "yolo", {"train": 8, "val": 0}, size=32)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(EmodetError, match=r"seed 0 instead of 1"):
        write_release(root, "yolo", {"train": 8}, seed=1, size=32)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert json.loads((root / STAMP).read_text())["layout"] == "yolo"


def test_a_root_with_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(EmodetError, match="something else"):
        write_release(tmp_path, "yolo", {"train": 8})
    file = tmp_path / "holiday.jpg"
    with pytest.raises(EmodetError, match="something else"):
        write_release(file, "yolo", {"train": 8})
    assert file.read_bytes() == b"mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    write_release(empty, "yolo", {"train": 8}, size=32)
    assert (empty / STAMP).is_file()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_crash_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, problem: BaseException
) -> None:
    drawn = []

    def draw_ten(job: object) -> object:
        drawn.append(job)
        if len(drawn) > 10:
            raise problem
        return draw(job)  # type: ignore[arg-type]

    draw = synthetic_releases._draw
    monkeypatch.setattr(synthetic_releases, "_draw", draw_ten)
    with pytest.raises(type(problem)):
        write_release(tmp_path / "faces", layout, {"train": 40}, size=32)  # type: ignore[arg-type]
    assert len(drawn) == 11
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layout": "coco"}, "layout='coco'"),
        ({"faces": {}}, "not one face"),
        ({"faces": {"train": -1}}, "train=-1"),
        ({"faces": {"dev": 5}}, "dev is not a split"),
        ({"layout": "affectnet_csv", "faces": {"train": 8, "test": 8}}, "test=8"),
        ({"size": 8}, "size=8"),
        ({"seed": -1}, "seed=-1"),
        ({"balance": "even"}, "balance='even'"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path: Path, change: dict[str, object], says: str) -> None:
    arguments = {"root": tmp_path / "faces", "layout": "yolo", "faces": {"train": 8}} | change
    with pytest.raises(EmodetError, match=says):
        write_release(**arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
