"""Effect of grey conversion and area averaging in crops of sharp colour images, for a net trained on small grey images.

python experiments/ferplus/live_crops.py smiling1.jpg smiling2.jpg … --video video.mp4

Prints the probability of happiness on photographs of smiling people, and the change of the predictions from frame to
frame in a video. Each is printed for the crop as shipped, for a crop that keeps the colour, and for a crop that is
reduced by subsampling instead of averaging.
"""

import argparse
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch

from emodet.images import decode_rgb
from emodet.inference.detectors import make_detector
from emodet.training.trained import SHIPPED, load_trained

VARIANTS = ("as shipped", "colour kept", "subsampled instead of averaged")


def crops(preprocessing, image, detection):
    """One crop for each of `VARIANTS`."""
    large = dataclasses.replace(preprocessing, colour="rgb", size=480)
    face = large.crop(image, detection.box, detection.landmarks)
    subsampled = cv2.cvtColor(face[5::10, 5::10], cv2.COLOR_RGB2GRAY)
    return [
        preprocessing.crop(image, detection.box, detection.landmarks),
        dataclasses.replace(preprocessing, colour="rgb").crop(image, detection.box, detection.landmarks),
        cv2.cvtColor(subsampled, cv2.COLOR_GRAY2RGB),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--video", type=Path)
    arguments = parser.parse_args()
    classifier = load_trained(SHIPPED).classifier
    happiness = classifier.class_names.index("happiness")
    detector = make_detector("centerface")

    def predictions(image):
        """Yield probabilities of each face, (variants, classes)."""
        found = detector(image, longest_side=640)
        for detection in found:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(crops(classifier.preprocessing, image, detection)))
                yield classifier.probabilities(batch).numpy()

    print("| | " + " | ".join(VARIANTS) + " |\n|---|" + "---|" * len(VARIANTS))
    for photo in arguments.photos:
        for number, rows in enumerate(predictions(decode_rgb(photo.read_bytes()))):
            values = " | ".join(f"{row[happiness]:.3f}" for row in rows)
            print(f"| happiness, {photo.stem}, face {number + 1} | {values} |")
    if arguments.video is not None:
        video, frames = cv2.VideoCapture(str(arguments.video)), []
        while (read := video.read())[0]:
            frames.extend(list(predictions(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))[:1])
        table = np.stack(frames)
        moved = np.abs(np.diff(table, axis=0)).sum(axis=2).mean(axis=0) / 2
        changes = (np.diff(table.argmax(axis=2), axis=0) != 0).sum(axis=0)
        print(
            "| mean change of the probabilities from frame to frame | "
            + " | ".join(f"{value:.4f}" for value in moved)
            + " |"
        )
        print(f"| label changes in {len(table)} frames | " + " | ".join(map(str, changes)) + " |")


if __name__ == "__main__":
    main()
