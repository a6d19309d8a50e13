"""A small release of every family that a reader knows, with real pictures; and drawn releases in other layouts."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_files import encoded, put, put_text
from made_reader import picture, put_picture

from emodet.datasets.affectnet import VALENCE_AROUSAL
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, FERPLUS_ORDER


@dataclass(frozen=True)
class Made:
    """A release of `faces` faces: `said_in` says the most about them, `picture` is one's own file, if any."""

    root: Path
    said_in: Path
    picture: Path | None
    faces: int


HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
POINTS = ";".join(f"{10 + index % 17};{12 + index // 4}" for index in range(68))
MANUAL = "Manually_Annotated/Manually_Annotated_Images"


def affectnet_csv(root):
    for name, start, count in (("training", 0, 6), ("validation", 6, 2)):
        rows = [f"1/{n}.jpg,5,5,30,30,{POINTS},{n},0.5,-0.25" for n in range(start, start + count)]
        put_text(root / f"Manually_Annotated_file_lists/{name}.csv", HEADER, *rows)
    pictures = [put_picture(root / MANUAL / f"1/{number}.jpg", number) for number in range(8)]
    return Made(root, root / "Manually_Annotated_file_lists/training.csv", pictures[0], 8)


def affectnet_npy(root):
    for number in range(8):
        base = root / ("val_set" if number in (6, 7) else "train_set")
        put_picture(base / f"images/{number}.jpg", number)
        (base / "annotations").mkdir(exist_ok=True)
        for kind, value in (("exp", str(number % 8)), ("val", "0.5"), ("aro", "-0.25")):
            np.save(base / f"annotations/{number}_{kind}.npy", np.array(value))
    return Made(root, root / "train_set/annotations/0_exp.npy", root / "train_set/images/0.jpg", 8)


def affectnet_plus(root):
    mood, shares = {"valence": 0.5, "arousal": -0.25}, [0.5, 0.25, 0.25, 0, 0, 0, 0, 0]
    for number in range(8):
        base = root / "human_annotated" / ("validation_set" if number in (6, 7) else "train_set")
        put_picture(base / f"images/{number}.jpg", number)
        label = {"human-label": number % 8, "soft-label": shares, "subset": 1, "meta-data": mood}
        put_text(base / f"annotations/{number}.json", json.dumps(label))
    base = root / "human_annotated/train_set"
    return Made(root, base / "annotations/0.json", base / "images/0.jpg", 8)


def labels_csv(root):
    names = ["anger", "happy"]
    rows = [f"{number},{names[number % 2]}/{number}.jpg,{names[number % 2]},0.8" for number in range(8)]
    pictures = [put_picture(root / names[number % 2] / f"{number}.jpg", number) for number in range(8)]
    return Made(root, put_text(root / "labels.csv", ",pth,label,relFCs", *rows), pictures[0], 8)


def yolo(root):
    for number in range(8):
        base = root / ("valid" if number in (6, 7) else "train")
        put_picture(base / f"images/{number}.jpg", number)
        put_text(base / f"labels/{number}.txt", f"{number % 8} 0.5 0.5 1 1")
    names = "[anger, contempt, disgust, fear, happy, neutral, sad, surprise]"
    return Made(root, put_text(root / "data.yaml", "nc: 8", f"names: {names}"), root / "train/images/0.jpg", 8)


def put_ferplus(file, faces):
    """FER+ as one Parquet file, from the split, picture and votes of each face."""
    nobody = dict.fromkeys((*FERPLUS_ORDER, "unknown", "NF"), 0)
    rows = [{"index": n, "split": s, "image": image, **nobody, **votes} for n, (s, image, votes) in enumerate(faces)]
    types = {"index": pa.int32(), "split": pa.string(), "image": pa.binary(), **dict.fromkeys(nobody, pa.int8())}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), file)
    return file


def ferplus(root):
    votes = [{name: 10} for name in FERPLUS_ORDER[:8]]
    faces = [("val" if number > 5 else "train", encoded(picture(number)), votes[number]) for number in range(8)]
    return Made(root, put_ferplus(root / "faces.parquet", faces), None, 8)


def image_label_parquet(root):
    root.mkdir(parents=True)
    pictures = [{"bytes": encoded(picture(number)), "path": f"{number}.png"} for number in range(8)]
    names = {"info": {"features": {"label": {"names": ["anger", "happy"]}}}}
    table = pa.table({"image": pictures, "label": [number % 2 for number in range(8)]})
    file = root / "train-00000-of-00001.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), file, row_group_size=3)
    return Made(root, file, None, 8)


def fer2013(root):
    usages = ["Training", "Training", "PublicTest", "PrivateTest"]
    rows = [f"{n % 7},{' '.join([str(n)] * 2304)},{usages[n % 4]}" for n in range(8)]
    return Made(root, put_text(root / "fer2013.csv", "emotion,pixels,Usage", *rows), None, 8)


def ferplus_csv(root):
    fer2013(root)
    usages = ["Training", "Training", "PublicTest", "PrivateTest"]
    votes = [",".join("10" if place == n else "0" for place in range(10)) for n in range(8)]
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    rows = [f"{usages[n % 4]},fer{n}.png,{row}" for n, row in enumerate(votes)]
    return Made(root, put_text(root / "fer2013new.csv", header, *rows), None, 8)


def rafdb(root):
    names = [f"{'test' if number > 5 else 'train'}_{number:05d}" for number in range(8)]
    pictures = [put_picture(root / f"Image/aligned/{name}_aligned.jpg", n) for n, name in enumerate(names)]
    lines = [f"{name}.jpg {number % 7 + 1}" for number, name in enumerate(names)]
    return Made(root, put_text(root / "EmoLabel/list_patition_label.txt", *lines), pictures[0], 8)


def expw(root):
    lines = [f"{number // 2}.jpg {number % 2} 4 6 36 34 9.9 {number % 7}" for number in range(8)]
    pictures = [put_picture(root / f"image/origin/{number}.jpg", number) for number in range(4)]
    return Made(root, put_text(root / "label/label.lst", *lines), pictures[0], 8)


def jaffe(root):
    names = [f"{person}.{code}1.{number}.tiff" for person in ("KA", "KL") for number, code in enumerate(("AN", "HA"))]
    pictures = [put_picture(root / name, number) for number, name in enumerate(names)]
    return Made(root, pictures[1], pictures[0], 4)


def ckplus(root):
    for number in range(8):
        put_picture(root / ("anger", "happy")[number % 2] / f"S{number:03d}_001_000000{number:02d}.png", number)
    return Made(root, root / "happy/S001_001_00000001.png", root / "anger/S000_001_00000000.png", 8)


def own_csv(root):
    rows = [f"{n}.jpg,{('sad', 'happy')[n % 2]},train,5,5,35,35,0.5,-0.25,ann" for n in range(8)]
    pictures = [put_picture(root / f"pictures/{number}.jpg", number) for number in range(8)]
    header = "path,emotion,split,x1,y1,x2,y2,valence,arousal,subject"
    return Made(root, put_text(root / "mine.csv", header, *rows), pictures[0], 8)


def list_files(root):
    pictures = [put_picture(root / f"pictures/{number}.jpg", number) for number in range(8)]
    put_text(root / "val.txt", *(f"{number}.jpg {number}" for number in range(6, 8)))
    return Made(root, put_text(root / "train.txt", *(f"{number}.jpg {number}" for number in range(6))), pictures[0], 8)


def class_folders(root):
    for number in range(8):
        put_picture(root / "train" / ("anger", "happy")[number % 2] / f"{number}.jpg", number)
    return Made(root, root / "train/happy/1.jpg", root / "train/anger/0.jpg", 8)


RELEASES = {
    make.__name__: make
    for make in (
        *(affectnet_csv, affectnet_npy, affectnet_plus, labels_csv, yolo, ferplus, image_label_parquet, fer2013),
        *(ferplus_csv, rafdb, expw, jaffe, ckplus, own_csv, list_files, class_folders),
    )
}
"""By the reader's name."""


def as_affectnet_csv(release, root):
    """The faces of a drawn release with valence and arousal; each list also has faces of no emotion."""
    reader, random = open_reader(release), np.random.default_rng(0)
    for split, name in (("train", "training"), ("val", "validation")):
        faces = [(sample, sample.emotion) for sample in reader.read().samples if sample.split == split]
        rows = []
        for sample, label in [*faces, *((faces[0][0], label) for label in (8, 9, 10))]:
            path = f"{split}/{len(rows)}.jpg"
            put(root / MANUAL / path, reader.encoded(sample))
            mood = VALENCE_AROUSAL[sample.emotion]
            valence, arousal = random.normal(mood, 0.2).clip(-1, 1) if label <= 8 else (-2, -2)
            rows.append(f"{path},5,5,38,38,{POINTS},{label},{valence},{arousal}")
        put_text(root / f"Manually_Annotated_file_lists/{name}.csv", HEADER, *rows)
    return root


def as_ferplus(release, root):
    """The faces of a drawn release as FER+: of ten votes two for another emotion."""
    reader = open_reader(release)
    votes = [{name: 8, EMOTIONS[(number + 1) % 8]: 2} for number, name in enumerate(EMOTIONS)]
    faces = [(each.split, reader.encoded(each), votes[each.emotion]) for each in reader.read().samples]
    return put_ferplus(root / "ferplus_drawn.parquet", faces).parent
