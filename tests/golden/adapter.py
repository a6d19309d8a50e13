"""Run each golden item on the installed emodet and return plain JSON values; as a program, record them.

After a rename or a change of an interface, change the function of that item: the values must keep their form. The first
record was made on commit abc22e5. Record an item again only where a change of it is intended, and say so in the commit.
"""

import hashlib
import io
import json
import os
import re
import sys
import tarfile
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from made_commands import run_command
from made_files import csv_rows, json_lines
from made_predictions import make_predictions, with_dimensions
from made_reader import MadeReader, records

from emodet.cpu import cpu_info
from emodet.data.pack import Pack
from emodet.data.packing import Packing
from emodet.datasets.readers import READERS, open_reader
from emodet.errors import EmodetError
from emodet.evaluation.scores import evaluate_predictions
from emodet.modelfile import read_model_file
from emodet.preprocessing import Preprocessing
from emodet.synthetic.releases import write_release

CHECKS = {  # the words of a check of the export → its name in `training.json`; the first that fits
    "difference of a probability": "difference",
    "sum from 1": "row sum",
    "accuracy lost": "accuracy loss",
    "accuracy": "accuracy",
}
HERE = Path(__file__).parent
CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


def sha(data, length=64):
    return hashlib.sha256(data).hexdigest()[:length]


def processor():
    """Return the vector extensions of this processor; int8 kernels differ between them."""
    return sorted(flag for flag in set(cpu_info().get("flags", "").split()) if re.match(r"avx|amx|fma|sse4", flag))


def command(folder, module, *arguments):
    """Run a command with packs in this folder; return its standard output."""
    with patch.dict(os.environ, {"EMODET_PACKS": str(folder / "packs")}), redirect_stdout(io.StringIO()) as out:
        assert run_command(module, *map(str, arguments)) == 0
    return out.getvalue()


def draw_release(root, train=40, val=16):
    """Write drawn faces of 48 px; the test split is as large as val."""
    return write_release(root, {"train": train, "val": val, "test": val}, seed=3, size=48)


def packs(folder):
    """Describe two packs: of a release of drawn faces, and of noise with boxes, landmarks, votes, mood and persons."""
    root = draw_release(folder / "yolo")
    files = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".txt"))
    data = ["data=affectnet", f"data.root={root}", "data.processes=1", "preprocessing.size=40"]
    command(folder, "emodet.prepare", *data)
    (inside,) = (folder / "packs").iterdir()
    drawn = sha(b"".join(str(file.relative_to(root)).encode() + file.read_bytes() for file in files))
    landmarks = ((16.0, 18.0), (32.0, 22.0), (23.0, 28.0), (17.0, 34.0), (30.0, 37.0))
    annotated = {"box": (4.5, 3, 40, 44), "landmarks": landmarks, "soft_label": (0.5, 0.25, 0, 0, 0, 0, 0, 0.25)}
    annotated |= {"valence": 0.25, "arousal": -1.0, "subject": "p1", "emotion": [number % 8 for number in range(40)]}
    faces = [*records(40, "train", **annotated), *records(8, "val", 40, emotion=[*range(7), None], box=(0, 0, 48, 48))]
    faces = [replace(face, landmarks=landmarks) for face in faces]
    eyes = Preprocessing(size=40, margin=0.1, alignment="eyes", colour="grey")
    made = MadeReader(folder, faces)
    noise = Packing(made, eyes, folder / "noise", crop="box", processes=1, progress=False).make()
    return {"yolo": {"release": drawn, **described(Pack(inside))}, "noise aligned by the eyes": described(noise)}


def described(pack):
    table, splits = pack.table, {}
    for split in sorted(set(table.split.tolist())):
        rows = np.flatnonzero(table.split == split)
        ids = Counter(table.emotion[rows].tolist())
        labels = {"none" if k < 0 else CLASSES[k]: count for k, count in sorted(ids.items())}
        splits[split] = {"faces": len(rows), "pixels": sha(pack.images(rows).tobytes()), "labels": labels}
    return {"fingerprint": pack.fingerprint, "faces": len(pack), "splits": splits}


# The releases are those of the reader tests of abc22e5 and, from id 727 on, of 2f025f2 and later, with pictures or
# files in their place: of these the names, numbers and values in notes and refusals are recorded too.


def unpack_releases(folder):
    """Unpack `releases.tar.xz`; return the cases: id, root, reader, options, test."""
    with tarfile.open(HERE / "releases.tar.xz") as tar:
        tar.extractall(folder, filter="tar")
    return json.loads((HERE / "releases.json").read_text())


FACTS = re.compile(r"(?<!\w)'[^']*'|\b(?:line|row) \d+|\b\w+=[^\s,;]+|[^\s'\":;,()]*\.\w+|\b\d[\d,.]*")


def facts(text):
    """Quoted values, arguments with their values, lines, numbers and files in a message, whatever words are between."""
    return sorted({found.rstrip(".,") for found in FACTS.findall(text)})


FIELDS = ("key", "split", "emotion", "box", "soft_label", "valence", "arousal", "landmarks", "subject")


def read_case(folder, case):
    """Describe what a reader lists: counts, left-out counts, digests; or that it refuses the release."""

    def plain(value):
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int) or np.isscalar(value):
            return round(float(value), 4) + 0.0
        return [plain(each) for each in value]

    root, more = folder / case["id"] / case["root"], "about" in case
    try:
        made = open_reader(root, "auto" if case.get("auto") else case["reader"], **case["options"])
        listing = made.read()
    except EmodetError as problem:
        return {"error": facts(str(problem).replace(str(root.parent), "")) if more else True}
    rows = ([plain(getattr(sample, field)) for field in FIELDS] for sample in listing.samples)
    samples = sorted(rows, key=json.dumps)
    counts = Counter(f"{split}/{'none' if label is None else CLASSES[int(label)]}" for _, split, label, *_ in samples)
    digests = [sha(json.dumps([sample[:end] for sample in samples]).encode(), 12) for end in (4, 9)]
    found = {"counts": dict(sorted(counts.items())), "basic": digests[0], "all": digests[1]}
    if more:
        assert (type(made), listing.class_names) == (READERS[case["reader"]], CLASSES)
        found["pictures"] = sha(b"".join(encoded(made, sample) for sample in listing.samples), 12)
        found |= {"notes": [len(listing.notes), *facts(" ".join(listing.notes))]} if listing.notes else {}
    return found | ({"left_out": dict(listing.left_out)} if listing.left_out else {})


def encoded(reader, sample):
    try:
        return reader.encoded(sample)
    except EmodetError as problem:
        return str(facts(str(problem).replace(str(reader.root), ""))).encode()


def one_class_never_found_and_one_absent():
    made = make_predictions(60)
    emotion, odds = np.where(made.emotion == 5, 0, made.emotion), made.probabilities * [1, 1, 1, 1, 1e-6, 1, 1, 1]
    return make_predictions(60, emotion=emotion, probabilities=odds / odds.sum(axis=1, keepdims=True))


EVALUATIONS = {
    "plain": make_predictions,
    "grouped": lambda: make_predictions(groups=[f"person {number * 7 % 60}" for number in range(600)]),
    "two data sets": lambda: make_predictions(sources=[("one", "two")[number % 3 % 2] for number in range(600)]),
    "valence and arousal": with_dimensions,
    "small, a class never found and one absent": one_class_never_found_and_one_absent,
}


def evaluation(name):
    """Evaluate seeded predictions; return figure → [value, low, high], and the exact counts; shares before metrics."""
    report, figures = evaluate_predictions(EVALUATIONS[name](), resamples=1000, seed=0).as_dict(), {}
    for name, score in report["metrics"].items():
        metric, at, share = name.partition("@")
        key = f"coverage {float(share)}/{metric}" if at else name
        figures[key] = [score[end] for end in ("value", "low", "high")]
    bins = [list(row.values()) for row in report["reliability"]]
    found = {"figures": figures, "confusion": report["confusion"]["counts"], "reliability": bins}
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 10))


def model_probabilities(precision):
    """Answer on 4 drawn crops (`crops.npz`) and 4 crops of seeded noise, uint8 (8, 48, 48, 3)."""
    noise = np.random.default_rng(7).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    crops = np.concatenate([np.load(HERE / "crops.npz")["crops"], noise])
    model = read_model_file(precision, threads=1)
    assert tuple(model.info.class_names) == CLASSES
    return [[round(float(p), 9) for p in row] for row in model.probabilities(crops)]


def inputs(folder):
    """Write a picture, a folder of three pictures, and a video of 24 frames; return their paths."""
    from skimage import data

    astronaut = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    picture, several, video = folder / "picture.png", folder / "several", folder / "video.mp4"
    several.mkdir()
    cv2.imwrite(str(picture), astronaut)
    head = astronaut[:256, 96:352]
    cv2.imwrite(str(several / "two.png"), np.concatenate([head, head[:, ::-1]], axis=1))
    cv2.imwrite(str(several / "none.png"), np.full((200, 200, 3), 90, np.uint8))
    cv2.imwrite(str(several / "small.png"), cv2.resize(astronaut, (200, 200), interpolation=cv2.INTER_AREA))
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 12.0, (320, 240))
    for index in range(24):
        frame = np.full((240, 320, 3), 120, np.uint8)
        x, y = 10 + 5 * index, 20 + 2 * index
        frame[y : y + 140, x : x + 140] = cv2.resize(head, (140, 140), interpolation=cv2.INTER_AREA)
        writer.write(frame)
    writer.release()
    return {"picture": [picture], "folder": [several], "video": [video], "video, fp32, every 4th, unsmoothed": [
        *(video, "--model", "fp32", "--every", 4, "--smooth", 0)]}  # fmt: skip


def predict(folder):
    """Return the rows per input: file, frame, time, track, box, score, emotion, probabilities, landmarks."""
    found = {}
    for name, arguments in inputs(folder).items():
        settings = ["--rows", "jsonl", "--detector", "centerface", "--threads", 1, "--quiet"]
        out = command(folder, "emodet.predict", *arguments, *settings)
        rows = json_lines(out)
        found[name] = [
            {"file": Path(row["source"]).name, "box": [row[end] for end in ("x1", "y1", "x2", "y2")]}
            | {key: row[key] for key in ("frame", "time_s", "face", "track_id", "emotion")}
            | {"score": round(row["detection_score"], 3), "p": [round(row["probabilities"][k], 4) for k in CLASSES]}
            | {"landmarks": [row["landmarks"][point] for point in sorted(row["landmarks"])]}
            for row in rows
        ]
    return found


TRAININGS = {
    "recipe": ["scheduler=onecycle", "callbacks=[default,ema]", "callbacks.ema.decay=0.9", "loss.label_smoothing=0.1"],
    "plain": ["scheduler=constant", "callbacks=[default]", "augmentation=none"],
}


def train(folder, name, run):
    root = draw_release(folder / "release", train=192, val=64)
    settings = [
        *("experiment=affectnet_yolo", "data=affectnet_yolo", f"data.root={root}", "data.batch_size=16", "logger=csv"),
        *("data.num_workers=0", "data.processes=1", "preprocessing.size=40", "seed=5"),
        *("net.channels=[8,8,16,16]", "net.features=16", "optimizer.lr=0.01"),
        *("training.monitor=val/accuracy", "trainer.max_epochs=2"),
        *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.enable_progress_bar=false"),
        *TRAININGS[name],
    ]
    command(folder, "emodet.train", *settings, f"hydra.run.dir={run}")


def training_figures(run):
    """Return the metrics of each epoch: train and val."""
    epochs = {}
    for row in csv_rows(run / "metrics.csv", empty=False):
        figures = {key: round(float(v), 7) for key, v in row.items() if key.startswith(("train/", "val/"))}
        if figures:
            epochs.setdefault(row["epoch"], {}).update(figures)
    return epochs


def export(folder, run):
    """Export; return the checks of the parity report: value, limit, verdict, faces."""
    checkpoint = f"checkpoint={run}/checkpoints/best.ckpt"
    command(folder, "emodet.export", checkpoint, "threads=1", "calibration_faces=32", f"output={folder}/export")
    found = {}
    for check in json.loads((folder / "export/emodet-parity.json").read_text())["checks"]:
        # Depends on the load of the machine.
        if check["what"].startswith(("time", "milliseconds")):
            continue
        name = next((name for words, name in CHECKS.items() if words in check["what"]), check["what"])
        found[f"{check['file']}/{name}"] = {key: check[key] for key in ("value", "limit", "verdict", "faces")}
    return found


# Recording: ``OMP_NUM_THREADS=1 PYTHONPATH=.:tests python tests/golden/adapter.py [ITEM …]``.


def record_training(folder):
    for name in TRAININGS:
        train(folder, name, folder / name)
    epochs = {name: training_figures(folder / name) for name in TRAININGS}
    return {"epochs": epochs, "export": export(folder, folder / "plain")}


ITEMS = {
    "model": lambda _: {name: model_probabilities(name) for name in ("fp32", "int8")},
    "packs": packs,
    "readers": lambda folder: {case["id"]: read_case(folder, case) for case in unpack_releases(folder)},
    "evaluation": lambda _: {name: evaluation(name) for name in EVALUATIONS},
    "predict": predict,
    "training": record_training,
}

if __name__ == "__main__":
    for item in sys.argv[1:] or ITEMS:
        with tempfile.TemporaryDirectory() as made:
            content = {"processor": processor(), "result": ITEMS[item](Path(made))}
        recorded = json.dumps(content, separators=(",", ":"), sort_keys=True)
        # One line per entry of the result, so that a change shows in a diff.
        (HERE / f"{item}.json").write_text(recorded.replace("},", "},\n") + "\n")
        print(item, len(recorded), "bytes", flush=True)
