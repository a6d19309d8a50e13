"""Accuracy of model files on val with another label protocol, and with tighter or wider crops.

python experiments/ferplus/protocol_and_framing.py /path/to/ferplus.parquet [--video VIDEO] [MODEL…]

The protocol "argmax" includes every face with a vote for an emotion; its label is the emotion with the most votes.
A margin is the share of the face's side that a crop adds on each side, relative to the margin of the model file. Beyond
the edge of a FER+ image the crop repeats the edge. In a video the surroundings are real. A video has no labels, so the
script prints the share of frames that keep the label of the default margin.
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


def predicted_labels(recognizer: Recognizer, pictures: Sequence[np.ndarray], margin: float) -> np.ndarray:
    """The class of each 48×48 picture: int64 (N,)."""
    whole = Detection((0.0, 0.0, 48.0, 48.0), None, 1.0)
    own = recognizer.model.info.preprocessing.margin
    crops = [recognizer.crop(picture, whole, margin=own + margin) for picture in pictures]
    return np.concatenate([recognizer.predictions(crops[at : at + 256]).argmax(1) for at in range(0, len(crops), 256)])


def accuracy_of(correct: np.ndarray) -> str:
    """An accuracy with its 95 % interval (normal approximation)."""
    share = correct.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / len(correct))
    return f"{share:.1%} [{100 * (share - half):.1f}, {100 * (share + half):.1f}] of {len(correct):,} faces"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("models", nargs="*", default=["int8", "accurate"])
    parser.add_argument("--video", type=Path)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.table, filters=[("split", "=", "val")])
    votes = np.stack([table.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
    pictures = [decode_rgb(data, name="a face") for data in table.column("image").to_pylist()]
    by_majority, by_argmax = majority(votes), votes.argmax(axis=1)
    for model in arguments.models:
        recognizer = Recognizer(model)
        print(f"\n{recognizer.model.name}")
        found = {margin: predicted_labels(recognizer, pictures, margin) for margin in MARGINS}
        clear, named = by_majority >= 0, by_argmax < len(EMOTIONS)
        print("majority:", accuracy_of((found[0.0] == by_majority)[clear]))
        print("argmax:", accuracy_of((found[0.0] == by_argmax)[named]))
        kept = same_label(recognizer, arguments.video) if arguments.video else {}
        print("| margin | accuracy on val | frames with the same label |\n|---:|---:|---:|")
        for margin, labels in found.items():
            accuracy = (labels == by_majority)[clear].mean()
            print(f"| {margin:+.2f} | {accuracy:.1%} | {f'{kept[margin]:.1%}' if kept else '–'} |")


def same_label(recognizer: Recognizer, path: Path) -> dict[float, float]:
    """For each margin, the share of a video's frames whose largest face keeps the label of the default margin."""
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
    default = np.array(labels[0.0])
    return {margin: float((np.array(each) == default).mean()) for margin, each in labels.items()}


if __name__ == "__main__":
    main()
