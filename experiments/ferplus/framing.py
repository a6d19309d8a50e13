"""How do FER+'s pictures frame the face, in a detector's terms? The margin of the live crop follows from it.

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
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("root", type=Path)
    options.add_argument("--detector", default="auto")
    options.add_argument("--faces", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()

    reader = FerPlus(chosen.root)
    records = [record for record in reader.read().samples if record.emotion is not None and record.split == "train"]
    picks = np.random.default_rng(chosen.seed).choice(len(records), chosen.faces, replace=False)
    detector = make_detector(chosen.detector)
    rows = []
    for pick in picks:
        face = decode_rgb(reader.encoded(records[pick]))
        # Detectors look for faces with some ground around them, and larger than 48 pixels.
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
    print(f"{detector.name}: found {len(table)} of {chosen.faces} faces; all but roll as shares of the picture's side")
    print("| | 10 % | median | 90 % |\n|---|---|---|---|")
    for name, column in zip(names, table.T, strict=True):
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.percentile(column, [10, 50, 90])) + " |")
    print(f"margin so that the crop is the picture: {(1 / np.median(table[:, 0]) - 1) / 2:.3f}")


if __name__ == "__main__":
    main()
