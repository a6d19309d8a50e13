"""Face detection in still images: correct, false and duplicate boxes by face size, and time for a 12-megapixel image.

python experiments/benchmarks/faces.py MEDIA [--yunet FILE.onnx] >> experiments/benchmarks/faces.md

MEDIA contains portraits with one face each and optionally solvay1927.png (29 faces). Images without faces are those of
scikit-image and scikit-learn, enlarged parts of them, and drawn car fronts.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import sklearn.datasets

from emodet.images import load_rgb
from emodet.inference.detectors import Detector, find_faces, make_detector
from emodet.inference.faces import Box, Detection, overlap

UInt8 = npt.NDArray[np.uint8]
Search = Callable[[UInt8], tuple[Detection, ...]]
SIDE = 1280
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.7, 0.8, 1.0)
NO_FACES = "brick cat clock coffee coins colorwheel grass gravel hubble_deep_field immunohistochemistry moon"
NO_FACES += " page retina rocket text"


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("media", type=Path)
    parser.add_argument("--yunet", help="YuNet's weights")
    arguments = parser.parse_args()
    for name in ["centerface", *([f"yunet:{arguments.yunet}"] if arguments.yunet else [])]:
        detector = make_detector(name)
        report(detector, arguments.media)


def report(detector: Detector, media: Path) -> None:
    """Measure a detector with one search and with the search at several sizes."""
    searches: dict[str, Search] = {
        "one search at 1280": lambda image: detector(image, longest_side=SIDE),
        "find_faces": lambda image: find_faces(detector, image),
    }
    portraits = [load_rgb(path) for path in sorted(media.glob("*.*g")) if path.stem != "solvay1927"]
    portraits.append(skimage.data.astronaut())
    faces = [(image, found[0].box) for image in portraits if len(found := find_faces(detector, image)) == 1]
    print(
        f"\n## {detector.name}\n\n{len(faces)} portraits: faces detected exactly once (other boxes in brackets), by "
        f"height of the face as a share of {SIDE} pixels\n"
    )
    print("| search | " + " | ".join(f"{share:g}" for share in SHARES) + " |")
    print("|---|" + "---:|" * len(SHARES))
    for name, search in searches.items():
        cells = []
        for share in SHARES:
            pairs = [(box, search(image)) for image, box in (framed(image, box, share) for image, box in faces)]
            matches = [sum(overlap(box, face.box) > 0.5 for face in found) for box, found in pairs]
            others = sum(len(found) for _, found in pairs) - sum(matches)
            cells.append(f"{matches.count(1)} ({others + sum(max(0, count - 1) for count in matches)})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    solvay = media / "solvay1927.png"
    if solvay.is_file():
        image = load_rgb(solvay)
        for width in (640, 900, 1280, 2000):
            scaled = resized(image, width / image.shape[1])
            counts = ", ".join(f"{name} {len(search(scaled))}" for name, search in searches.items())
            print(f"\nFaces in solvay1927.png at {width} pixels: {counts} of 29")
        photo = np.asarray(cv2.resize(image, (4000, 3000), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        times = {name: min(seconds(search, photo) for _ in range(5)) for name, search in searches.items()}
        one, several = times.values()
        shown = ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in times.items())
        print(f"\nCPU time for 4000×3000 pixels: {shown}, ratio {several / one:.2f}")
    empty = list(without_faces())
    counts = ", ".join(f"{name} {sum(bool(search(image)) for image in empty)}" for name, search in searches.items())
    print(f"\nImages with false boxes, of {len(empty)} without a face: {counts}")


def framed(image: UInt8, box: Box, share: float) -> tuple[UInt8, Box]:
    """Scale and shift an image so that the face has `share` of the height; returns it with the face's box.

    Outside the image its edge is repeated.
    """
    x1, y1, x2, y2 = box
    scale = share * SIDE / (y2 - y1)
    shift = SIDE / 2 - scale * np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    if scale < 1:  # warpAffine does not average areas
        small = resized(image, scale)
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    else:
        small, matrix = image, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    size = (SIDE, SIDE)
    framed = cv2.warpAffine(small, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    (left, top), (right, bottom) = np.array([(x1, y1), (x2, y2)]) * scale + shift
    return np.asarray(framed, dtype=np.uint8), (float(left), float(top), float(right), float(bottom))


def without_faces() -> Iterator[UInt8]:
    """Yield images without faces, three enlarged parts of each, and drawn car fronts."""
    rng = np.random.default_rng(0)
    images = [getattr(skimage.data, name)() for name in NO_FACES.split()]
    images += [*skimage.data.stereo_motorcycle()[:2], *sklearn.datasets.load_sample_images().images]
    for each in images:
        image = np.repeat(each[:, :, None], 3, axis=2) if each.ndim == 2 else each[:, :, :3]
        image = np.ascontiguousarray(image, dtype=np.uint8)
        yield image
        for _ in range(3):
            side = int(rng.uniform(0.15, 0.5) * min(image.shape[:2]))
            y, x = (int(rng.integers(0, length - side)) for length in image.shape[:2])
            part = cv2.resize(image[y : y + side, x : x + side], (600, 600), interpolation=cv2.INTER_CUBIC)
            yield np.asarray(part, dtype=np.uint8)
    for _ in range(24):
        yield car(rng)


def car(rng: np.random.Generator) -> UInt8:
    """Draw a car front: two headlamps, a grille and a bumper."""
    image = np.full((480, 640, 3), rng.integers(60, 220, 3), np.uint8)
    cv2.rectangle(image, (80, 100), (560, 400), rng.integers(20, 200, 3).tolist(), -1)
    radius, y, apart = (int(rng.integers(low, high)) for low, high in ((20, 60), (180, 260), (80, 180)))
    for x in (320 - apart, 320 + apart):
        for share, grey in ((1, 40), (0.9, 230), (0.6, 180), (0.3, 255)):
            cv2.circle(image, (x, y), int(radius * share), (grey, grey, grey), -1)
    cv2.rectangle(image, (320 - apart // 2, y + radius // 2), (320 + apart // 2, y + radius * 2), (30, 30, 30), -1)
    cv2.ellipse(image, (320, y + 3 * radius), (apart, radius), 0, 0, 180, (20, 20, 20), 5)
    blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 3)))
    return np.clip(blurred + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def resized(image: UInt8, scale: float) -> UInt8:
    """Resize an image by the factor `scale`."""
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)


def seconds(search: Search, image: UInt8) -> float:
    """CPU time of one search, which other processes affect less than its wall time."""
    start = time.process_time()
    search(image)
    return time.process_time() - start


if __name__ == "__main__":
    main()
