"""Accuracy and speed of emodet and other packages on the same labelled face crops.

    python experiments/peers/compare.py ROOT [--reader auto] [--split val] [--limit N] [--systems emodet fer …]
        [--model NAME_OR_FILE] [--node FOLDER]

ROOT is a data set of face crops that `emodet.datasets` reads, for example a folder with a sub-folder for each emotion.
The comparison uses the seven emotions that all systems have, so it excludes contempt. Each system gets the whole crop,
without a detector. A package that is not installed is reported and skipped; README.md describes the installation. Crops
are recognised one by one, with one thread where the package has such an option; milliseconds are CPU time. Prints
Markdown.
"""

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from emodet import Recognizer
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS, emotion_id
from emodet.images import decode_rgb

UInt8 = npt.NDArray[np.uint8]
CLASSES = [name for name in EMOTIONS if name != "contempt"]
SIDE = 48  # crop size for face-api.js


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--reader", default="auto")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="use the first N faces only")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--model", default="int8", help="emodet's model file, or the name of a shipped one")
    parser.add_argument("--node", default=".", help="folder in which the npm packages are installed")
    arguments = parser.parse_args()
    crops, emotions = labelled_crops(arguments.root, arguments.reader, arguments.split, arguments.limit)
    machine = platform.processor() or platform.machine()
    print(f"{len(crops):,} faces of {arguments.root.name} ({arguments.split}); {machine}, one thread\n")
    print("| system | accuracy | 95 % interval | macro F1 | CPU time per face, ms |\n|---|---:|---:|---:|---:|")
    for name in arguments.systems:
        try:
            labels, milliseconds = SYSTEMS[name](crops, arguments)
        except (ImportError, OSError, subprocess.CalledProcessError) as problem:
            reason = getattr(problem, "stderr", None) or str(problem)
            print(f"| {name} | not installed or failed: {reason.strip().splitlines()[-1]} | | | |")
            continue
        print(
            f"| {name} | {scores(np.array([emotion_id(label) for label in labels]), emotions)} | {milliseconds:.2f} |",
            flush=True,
        )


def labelled_crops(root: Path, reader: str, split: str, limit: int | None) -> tuple[list[UInt8], npt.NDArray[np.int64]]:
    """Crops, uint8 (H, W, 3) RGB, and their emotions as indices of `EMOTIONS`."""
    dataset = open_reader(root, reader)
    listing = dataset.read()
    used = [
        (sample, EMOTIONS.index(listing.class_names[sample.emotion]))
        for sample in listing.samples
        if sample.split == split and sample.emotion is not None and listing.class_names[sample.emotion] in CLASSES
    ][:limit]
    if not used:
        sys.exit(f"{root}: no labelled face in split {split!r}; choose another split, for example --split train")
    return [decode_rgb(dataset.encoded(sample), name=sample.key) for sample, _ in used], np.array([e for _, e in used])


def scores(predicted: npt.NDArray[np.int64], emotions: npt.NDArray[np.int64]) -> str:
    """Accuracy, its Wilson interval and the mean F1 of the classes that occur, as table cells."""
    correct = binomtest(int((predicted == emotions).sum()), len(emotions))
    low, high = correct.proportion_ci(0.95, method="wilson")
    pairs = [(predicted == each, emotions == each) for each in np.unique(emotions)]
    f1 = np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
    return f"{correct.statistic:.1%} | {low:.1%} to {high:.1%} | {f1:.1%}"


def timed(recognise: Callable[[UInt8], str], crops: Sequence[UInt8]) -> tuple[list[str], float]:
    """Labels, and CPU time per face in milliseconds, without a warm-up of ten faces."""
    for crop in crops[:10]:
        recognise(crop)
    start = time.process_time()
    labels = [recognise(crop) for crop in crops]
    return labels, (time.process_time() - start) / len(crops) * 1e3


def most_probable(probabilities: dict[str, float]) -> str:
    return max(probabilities, key=lambda name: probabilities[name])


def by_emodet(crops: Sequence[UInt8], arguments: argparse.Namespace) -> tuple[list[str], float]:
    recognizer = Recognizer(arguments.model, detector="none", threads=1, min_confidence=0)

    def recognise(crop: UInt8) -> str:
        (face,) = recognizer.crops([crop])
        return max(CLASSES, key=lambda name: face.probabilities[name])

    return timed(recognise, crops)


def by_fer(crops: Sequence[UInt8], _: argparse.Namespace) -> tuple[list[str], float]:
    from fer.fer import FER

    system = FER(offsets=(0, 0))

    def recognise(crop: UInt8) -> str:
        height, width = crop.shape[:2]
        (face,) = system.detect_emotions(crop[:, :, ::-1].copy(), [(0, 0, width, height)])
        return most_probable(face["emotions"])

    return timed(recognise, crops)


def by_facex(crops: Sequence[UInt8], _: argparse.Namespace) -> tuple[list[str], float]:
    import cv2
    from facex.core import EmotionClassifier

    folder = Path(str(importlib.metadata.distribution("facex").locate_file("facex")))
    system = EmotionClassifier(str(folder / "assets" / "model_optimized.tflite"))
    return timed(lambda crop: most_probable(system.detect_emotion(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))), crops)


def by_face_api(crops: Sequence[UInt8], arguments: argparse.Namespace) -> tuple[list[str], float]:
    import cv2

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.raw"
        file.write_bytes(
            b"".join(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA).tobytes() for crop in crops)
        )
        command = [
            "node",
            str(Path(__file__).with_name("face_api.cjs")),
            arguments.node,
            str(file),
            str(SIDE),
            str(len(crops)),
        ]
        output = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return output["labels"], output["milliseconds"]


SYSTEMS = {"emodet": by_emodet, "fer": by_fer, "facex": by_facex, "face-api": by_face_api}

if __name__ == "__main__":
    main()
