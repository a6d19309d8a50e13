"""Position and size of a detector's face boxes in the images of FER+, from which the margin of crops is derived.

python experiments/ferplus/framing.py data.parquet --detector yunet
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from emodet.datasets.fer import FerPlus
from emodet.images import decode_rgb
from emodet.inference.detectors import make_detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    reader = FerPlus(arguments.root)
    records = [record for record in reader.read().samples if record.emotion is not None and record.split == "train"]
    picks = np.random.default_rng(arguments.seed).choice(len(records), arguments.faces, replace=False)
    detector = make_detector(arguments.detector)
    rows = []
    for pick in picks:
        face = decode_rgb(reader.encoded(records[pick]))
        # Detectors need some background around a face, and faces larger than 48 pixels.
        large = cv2.resize(face, (240, 240), interpolation=cv2.INTER_CUBIC)
        framed = cv2.copyMakeBorder(large, 80, 80, 80, 80, cv2.BORDER_REPLICATE)
        found = detector(framed, longest_side=400)
        if not found or found[0].landmarks is None:
            continue
        x1, y1, x2, y2 = (np.array(found[0].box) - 80) / 240
        left, right = (np.array(found[0].landmarks)[:2] - 80) / 240
        rows.append(
            [
                max(x2 - x1, y2 - y1),
                (x1 + x2) / 2,
                (y1 + y2) / 2,
                np.hypot(*(right - left)),
                (left[1] + right[1]) / 2,
                np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0])),
            ]
        )
    table = np.array(rows)
    names = ["longer box side", "box centre x", "box centre y", "distance of eyes", "eye line y", "roll (degrees)"]
    print(
        f"{detector.name}: found {len(table)} of {arguments.faces} faces; all except roll as shares of the image's side"
    )
    print("| | 10 % | median | 90 % |\n|---|---|---|---|")
    for name, column in zip(names, table.T, strict=True):
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.percentile(column, [10, 50, 90])) + " |")
    print(f"margin for which the crop is the whole image: {(1 / np.median(table[:, 0]) - 1) / 2:.3f}")


if __name__ == "__main__":
    main()
