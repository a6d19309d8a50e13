"""Accuracy of model files on val by another protocol, and with crops that frame the face too tightly or too loosely.

python experiments/ferplus/protocol_and_framing.py /path/to/ferplus.parquet [--video VIDEO] [MODEL…]

"Plain argmax" counts every face that has a vote for an emotion; its label is the emotion with the most votes.
A margin is the share of the face's side that a crop adds on each side, relative to the model file's own. Beyond the
edge of a FER+ picture the crop repeats the edge. In a video the surroundings are real; it has no labels, so the share
of frames that keep the label of the usual margin is printed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from emodet import Recognizer, open_video
from emodet.datasets.fer import majority
from emodet.emotions import EMOTIONS
from emodet.images import decode_rgb
from emodet.inference.detectors import Detection

MARGINS = (-0.25, -0.2, -0.15, -0.1, 0.0, 0.1, 0.15, 0.2, 0.25)


def labels_of(recognizer: Recognizer, pictures: Sequence[np.ndarray], margin: float) -> np.ndarray:
    """The class of each 48×48 picture: int64 (N,)."""
    whole = Detection((0.0, 0.0, 48.0, 48.0), None, 1.0)
    own = recognizer.model.info.preprocessing.margin
    crops = [recognizer.crop(picture, whole, margin=own + margin) for picture in pictures]
    return np.concatenate([recognizer.predictions(crops[at : at + 256]).argmax(1) for at in range(0, len(crops), 256)])


def shares(right: np.ndarray) -> str:
    """An accuracy with its 95 % interval (normal approximation)."""
    share = right.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / len(right))
    return f"{share:.1%} [{100 * (share - half):.1f}, {100 * (share + half):.1f}] of {len(right):,} faces"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("table", type=Path)
    options.add_argument("models", nargs="*", default=["int8", "accurate"])
    options.add_argument("--video", type=Path)
    chosen = options.parse_args()
    table = pq.read_table(chosen.table, filters=[("split", "=", "val")])
    votes = np.stack([table.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
    pictures = [decode_rgb(data, name="a face") for data in table.column("image").to_pylist()]
    by_majority, by_argmax = majority(votes), votes.argmax(axis=1)
    for model in chosen.models:
        recognizer = Recognizer(model)
        print(f"\n{recognizer.model.name}")
        found = {margin: labels_of(recognizer, pictures, margin) for margin in MARGINS}
        clear, named = by_majority >= 0, by_argmax < len(EMOTIONS)
        print("majority:", shares((found[0.0] == by_majority)[clear]))
        print("plain argmax:", shares((found[0.0] == by_argmax)[named]))
        kept = same_label(recognizer, chosen.video) if chosen.video else {}
        print("| margin | accuracy on val | frames with the same label |\n|---:|---:|---:|")
        for margin, labels in found.items():
            accuracy = (labels == by_majority)[clear].mean()
            print(f"| {margin:+.2f} | {accuracy:.1%} | {f'{kept[margin]:.1%}' if kept else '–'} |")


def same_label(recognizer: Recognizer, path: Path) -> dict[float, float]:
    """For each margin, the share of a video's frames whose largest face keeps the label of the usual margin."""
    own = recognizer.model.info.preprocessing.margin
    labels: dict[float, list[int]] = {margin: [] for margin in MARGINS}
    with open_video(path) as video:
        for frame in video:
            faces = recognizer.detect(frame.image_rgb)
            if faces:
                face = max(faces, key=lambda each: each.side)
                crops = [recognizer.crop(frame.image_rgb, face, margin=own + margin) for margin in MARGINS]
                for margin, label in zip(MARGINS, recognizer.predictions(crops).argmax(axis=1), strict=True):
                    labels[margin].append(int(label))
    usual = np.array(labels[0.0])
    return {margin: float((np.array(each) == usual).mean()) for margin, each in labels.items()}


if __name__ == "__main__":
    main()
