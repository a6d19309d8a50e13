"""Drawn faces as releases in the layouts of AffectNet's CSV and npy files and of FER+, and as the YOLO export."""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.emotions import EMOTIONS, FER2013_ORDER, FERPLUS_ORDER
from emodet.synthetic import releases
from emodet.synthetic.faces import draw_face, photographed

SPLITS = ("train", "val", "test")
NONE, UNCERTAIN, NO_FACE = 8, 9, 10
_FACE, _VOTES = 1, 3
# Stored size, its range, framing of the face.
KINDS = {
    "affectnet_csv": (112, (0.75, 1.5), (0.68, 0.8)),
    "affectnet_npy": (224, (1.0, 1.0), (0.76, 0.92)),
    "ferplus": (48, (1.0, 1.0), (0.8, 0.98)),
}
_MISTAKEN_FOR: Mapping[str, tuple[str, ...]] = {
    "neutral": ("sadness", "contempt", "happiness"),
    "happiness": ("neutral", "contempt", "surprise"),
    "sadness": ("neutral", "fear", "anger"),
    "surprise": ("fear", "happiness", "neutral"),
    "fear": ("surprise", "sadness", "disgust"),
    "disgust": ("anger", "sadness", "neutral"),
    "anger": ("disgust", "neutral", "contempt"),
    "contempt": ("neutral", "happiness", "disgust"),
}


@dataclass(frozen=True)
class Drawn:
    seed: int
    split: str
    index: int
    label: int
    data: bytes
    intensity: float
    valence: float
    arousal: float
    box: tuple[int, ...]
    points: tuple[tuple[float, float], ...]

    @property
    def name(self) -> str:
        """56 hex digits, as AffectNet's files are named."""
        return hashlib.sha224(f"{self.seed} {self.split} {self.index}".encode()).hexdigest()


def write_release(
    root: Path,
    layout: str,
    faces: Mapping[str, int],
    seed: int = 0,
    size: int | None = None,
    balance: str = "affectnet",
) -> Path:
    """See `emodet.synthetic.releases.write_release`. AffectNet's lists also have pictures of no emotion. Nothing is
    written where there is something already."""
    if layout == "yolo":
        return releases.write_release(root, faces, seed, 96 if size is None else size, balance)
    if root.is_dir() and any(root.iterdir()):
        return root
    root.mkdir(parents=True, exist_ok=True)
    drawn = [one for split in SPLITS for one in draw(layout, faces.get(split, 0), seed, split, size, balance)]
    {"affectnet_csv": _write_affectnet_csv, "affectnet_npy": _write_affectnet_npy, "ferplus": _write_ferplus}[layout](
        root, drawn
    )
    return root


def draw(layout: str, count: int, seed: int, split: str, size: int | None, balance: str) -> Iterable[Drawn]:
    if not count:
        return
    usual, sizes, framing = KINDS[layout]
    extra = np.repeat((NONE, UNCERTAIN, NO_FACE), max(1, count // 25)) if layout == "affectnet_csv" else ()
    for index, label in enumerate(releases.drawn_labels(count, seed, split, balance, extra).tolist()):
        rng = np.random.default_rng((seed, SPLITS.index(split), _FACE, index))
        person = releases.person_of(seed, split, int(rng.integers(max(1, count // 8))))
        side = round((size or usual) * float(rng.uniform(*sizes)))
        # "None" is a face with a mixture of weak signs, "uncertain" one that shows hardly anything.
        intensity = {NONE: 0.45, UNCERTAIN: 0.25}.get(label)
        emotion = label if label < len(EMOTIONS) else int(rng.integers(1, len(EMOTIONS)))
        face = draw_face(emotion, rng, side, identity=person, intensity=intensity, framing=framing)
        image = face.image
        if label == NO_FACE:
            tiny = rng.uniform(20, 240, (6, 6, 3)).astype(np.uint8)
            image = photographed(cv2.resize(tiny, (side, side), interpolation=cv2.INTER_CUBIC), rng)
        mood = (face.valence, face.arousal) if label <= NONE else (-2.0, -2.0)
        box = tuple(int(min(max(round(value), 0), side)) for value in face.box)
        data = encoded(image, layout == "ferplus")
        yield Drawn(seed, split, index, label, data, face.intensity, *mood, box, face.points)


def encoded(image: np.ndarray, grey: bool) -> bytes:
    """As JPEG, or in grey as lossless WebP."""
    if not grey:
        return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes()
    once = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.imencode(".webp", once, (cv2.IMWRITE_WEBP_QUALITY, 101))[1].tobytes()


def _write_affectnet_csv(folder: Path, drawn: Iterable[Drawn]) -> None:
    """The release of 2017: pictures in numbered folders, `training.csv` and `validation.csv` with nine columns."""
    lists = folder / "Manually_Annotated_file_lists"
    pictures = folder / "Manually_Annotated" / "Manually_Annotated_Images"
    lists.mkdir()
    columns = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
    names = {"train": "training.csv", "val": "validation.csv"}
    rows: dict[str, list[list[object]]] = {split: [] for split in names}
    for one in drawn:
        path = f"{int(one.name[:2], 16) + 1}/{one.name}.jpg"
        target = pictures / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(one.data)
        x1, y1, x2, y2 = one.box
        landmarks = ";".join(f"{value:.2f}" for point in one.points for value in point)
        mood = [f"{value:.6g}" if value != -2 else "-2" for value in (one.valence, one.arousal)]
        rows[one.split].append([path, x1, y1, x2 - x1, y2 - y1, landmarks, one.label, *mood])
    for split, name in names.items():
        if rows[split]:
            with (lists / name).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns.split())
                writer.writerows(rows[split])


def _write_affectnet_npy(folder: Path, drawn: Iterable[Drawn]) -> None:
    """The release of 2021: numbered pictures with four small files each, numbers held as text."""
    for one in drawn:
        base = folder / {"train": "train_set", "val": "val_set"}[one.split]
        for name in ("images", "annotations"):
            (base / name).mkdir(parents=True, exist_ok=True)
        number = one.index + one.index // 5  # numbers have holes there
        (base / "images" / f"{number}.jpg").write_bytes(one.data)
        texts = {"exp": str(one.label), "val": f"{one.valence:.6g}", "aro": f"{one.arousal:.6g}"}
        for name, text in texts.items():
            np.save(base / "annotations" / f"{number}_{name}.npy", np.array(text))
        np.save(base / "annotations" / f"{number}_lnd.npy", np.array(one.points, dtype=np.float64).reshape(-1))


def _write_ferplus(folder: Path, drawn: Iterable[Drawn]) -> None:
    """One Parquet file: grey pictures as lossless WebP, FER2013's label and the votes of ten imagined people."""
    voted = (*FERPLUS_ORDER, "unknown", "NF")
    rows: list[dict[str, object]] = []
    for one in drawn:
        emotion = EMOTIONS[one.label]
        votes = _votes(one)
        # FER2013 has no contempt.
        label = FER2013_ORDER.index(emotion if emotion in FER2013_ORDER else "neutral")
        row: dict[str, object] = {"index": len(rows), "split": one.split, "image": one.data, "fer2013_label": label}
        rows.append(row | {name: votes.get(name, 0) for name in voted})
    types = [("index", pa.int32()), ("split", pa.string()), ("image", pa.binary()), ("fer2013_label", pa.int8())]
    schema = pa.schema(types + [(name, pa.int8()) for name in voted])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "ferplus_synthetic.parquet")


def _votes(one: Drawn) -> dict[str, int]:
    """Ten votes about the emotion that was drawn: the weaker it shows, the more people see another."""
    emotion = EMOTIONS[one.label]
    rng = np.random.default_rng((one.seed, SPLITS.index(one.split), _VOTES, one.index))
    seen = 0.9 if emotion == "neutral" else 0.55 + 0.4 * one.intensity
    names = (emotion, *_MISTAKEN_FOR[emotion], "unknown", "NF")
    shares = np.array([seen, *((1 - seen) * np.array([0.55, 0.25, 0.12, 0.07, 0.01]))])
    return dict(zip(names, rng.multinomial(10, shares / shares.sum()).tolist(), strict=True))
