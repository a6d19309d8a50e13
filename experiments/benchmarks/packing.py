"""Packing compared with a plain loop of decode and resize, on one core; effect of decoding JPEGs at reduced size.

    python experiments/benchmarks/packing.py [--pictures 2000] [--rounds 3] [--json FILE]

The images are drawn faces, saved as square JPEGs of the sizes in AffectNet's releases. The plain loop reads a file,
decodes it, at reduced size where that suffices, and resizes it with OpenCV into an array. There are two versions, with
Pillow and with OpenCV; the faster one is the reference. Packing is all of `emodet.data.packing`: listing, decoding,
cropping, hashing, writing, the table and the manifest. The cases alternate in one process. Rates refer to CPU time
(user and system); other programs increase it, but for all cases alike. Prints Markdown.
"""

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import PIL
from PIL import Image
from skimage import data as skimage_data

from emodet import Recognizer
from emodet.data.packing import Packing
from emodet.datasets.own_csv import OwnCsv
from emodet.images import decode_rgb
from emodet.preprocessing import Preprocessing
from emodet.synthetic.faces import draw_face

CASES = ((224, 96), (224, 48), (112, 96), (425, 96))
DISTINCT_IMAGES = 64


class PlainCsv(OwnCsv):
    """A CSV file without the search for uncropped photographs (0.3 s for any number of images), as in releases."""

    name = "plain_csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000, help="number of images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    name = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(":")[1]
    print(f"- {name.strip()}, one core, Python {platform.python_version()}")
    print(f"- Pillow {PIL.__version__}, OpenCV {cv2.__version__}, load average {os.getloadavg()[0]:.1f}\n")
    figures: dict[str, Any] = {}
    print(
        "| image size | crop size | plain loop, Pillow | plain loop, OpenCV | packing, images/s "
        "| packing / faster loop |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for side, size in CASES:
            speeds = rates(Path(folder) / f"{side}-{size}", side, size, arguments.pictures, arguments.rounds)
            figures[f"{side} to {size}"] = speeds
            shown = " | ".join(f"{speeds[name]:,.0f}" for name in ("Pillow", "OpenCV", "packing"))
            print(f"| {side} | {size} | {shown} | {speeds['ratio']:.2f} |", flush=True)
    print(
        "\n| image size | crop size | grey levels: mean | 99th percentile | maximum | probabilities: mean | maximum "
        "| same predicted class |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for side in (224, 300, 424, 425, 600):
        for size in (48, 96):
            figures[f"difference, {side} to {size}"] = found = differences(side, size)
            print(
                f"| {side} | {size} | {found['mean']:.2f} | {found['p99']:.0f} | {found['maximum']:.0f} | "
                f"{found['probability']:.4f} | {found['maximum probability']:.3f} | {found['same class']:.1%} |"
            )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2))


def rates(folder: Path, side: int, size: int, count: int, rounds: int) -> dict[str, float]:
    """Images per second of CPU time, and the ratio of packing to the faster loop: medians of the rounds."""
    write_pictures(folder, side, count)
    files = sorted(folder.glob("*.jpg"))
    preprocessing = Preprocessing(size=size)
    runs: dict[str, Callable[[int], object]] = {
        "Pillow": lambda _: plain_loop(files, side, size, decode_with_pillow),
        "OpenCV": lambda _: plain_loop(files, side, size, decode_with_opencv),
        "packing": lambda number: Packing(
            PlainCsv(folder), preprocessing, folder / f"packs{number}", processes=1, progress=False
        ).make(),
    }
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run(number)
            speeds[name].append(count / (time.process_time() - start))
    ratios = [
        packing / max(one, other)
        for one, other, packing in zip(speeds["Pillow"], speeds["OpenCV"], speeds["packing"], strict=True)
    ]
    return {**{name: median(found) for name, found in speeds.items()}, "ratio": median(ratios)}


def write_pictures(folder: Path, side: int, count: int) -> None:
    folder.mkdir()
    rows = ["path,emotion"]
    for number in range(DISTINCT_IMAGES):
        jpeg = jpeg_of(draw_face(number % 8, number, side).image)
        for name in range(number, count, DISTINCT_IMAGES):
            (folder / f"{name:05d}.jpg").write_bytes(jpeg)
    emotions = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
    rows += [f"{name:05d}.jpg,{emotions[name % DISTINCT_IMAGES % 8]}" for name in range(count)]
    (folder / "faces.csv").write_text("\n".join(rows) + "\n")


def jpeg_of(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def plain_loop(files: list[Path], side: int, size: int, decode: Callable[[bytes, int], np.ndarray]) -> np.ndarray:
    """Read, decode and resize the files: uint8 (N, size, size, 3)."""
    factor = next((factor for factor in (4, 2) if side % factor == 0 and side // factor >= size), 1)
    crops = np.empty((len(files), size, size, 3), np.uint8)
    for row, file in enumerate(files):
        crops[row] = cv2.resize(decode(file.read_bytes(), factor), (size, size), interpolation=cv2.INTER_AREA)
    return crops


def decode_with_pillow(data: bytes, factor: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (picture.width // factor, picture.height // factor))
        return np.asarray(picture)


def decode_with_opencv(data: bytes, factor: int) -> np.ndarray:
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), flags[factor]), cv2.COLOR_BGR2RGB)


def differences(side: int, size: int) -> dict[str, float]:
    """Differences of crops and predictions between JPEGs decoded at full size and as packing decodes them."""
    jpegs = [jpeg_of(draw_face(number % 8, number, side).image) for number in range(DISTINCT_IMAGES)]
    jpegs += [jpeg_of(picture) for picture in photographs(side)]
    preprocessing = Preprocessing(size=size)
    full = np.stack([preprocessing.crop(decode_rgb(jpeg)) for jpeg in jpegs])
    packed = np.stack([preprocessing.crop(decode_rgb(jpeg, least_side=size)) for jpeg in jpegs])
    difference = np.abs(full.astype(int) - packed)
    one, other = probabilities(full), probabilities(packed)
    return {
        "mean": float(difference.mean()),
        "p99": float(np.percentile(difference, 99)),
        "maximum": float(difference.max()),
        "probability": float(np.abs(one - other).mean()),
        "maximum probability": float(np.abs(one - other).max()),
        "same class": float((one.argmax(1) == other.argmax(1)).mean()),
    }


def photographs(side: int) -> list[np.ndarray]:
    """Sixteen crops of the astronaut's face with random position and size."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(16):
        x, y, half = 226 + rng.normal(0, 6), 116 + rng.normal(0, 6), rng.uniform(65, 95)
        box = (x - half, y - half, x + half, y + half)
        found.append(Preprocessing(size=side, margin=0).crop(skimage_data.astronaut(), box))
    return found


def probabilities(crops: np.ndarray) -> np.ndarray:
    return np.array([list(face.probabilities.values()) for face in Recognizer().crops(crops)])


if __name__ == "__main__":
    main()
