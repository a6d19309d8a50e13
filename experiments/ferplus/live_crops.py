"""Do the grey conversion and the averaging of the live crop help a net that was trained on small grey pictures?

python experiments/ferplus/live_crops.py smiling1.jpg smiling2.jpg … --video video.mp4

On photographs of people who smile it prints the probability of happiness, on a video how restless the answers are from
frame to frame; each for the crop as shipped, for one that keeps the colours, and for one that is reduced by picking
pixels instead of averaging them.
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

VARIANTS = ("as shipped", "colours kept", "pixels picked")


def crops(preprocessing, image, detection):
    large = dataclasses.replace(preprocessing, colour="rgb", size=480)
    face = large.crop(image, detection.box, detection.landmarks)
    picked = cv2.cvtColor(face[5::10, 5::10], cv2.COLOR_RGB2GRAY)
    return [
        preprocessing.crop(image, detection.box, detection.landmarks),
        dataclasses.replace(preprocessing, colour="rgb").crop(image, detection.box, detection.landmarks),
        cv2.cvtColor(picked, cv2.COLOR_GRAY2RGB),
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("photos", nargs="+", type=Path)
    options.add_argument("--video", type=Path)
    chosen = options.parse_args()
    classifier = load_trained(SHIPPED).classifier
    happiness = classifier.class_names.index("happiness")
    detector = make_detector("centerface")

    def answers(image):
        found = detector(image, longest_side=640)
        for detection in found:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(crops(classifier.preprocessing, image, detection)))
                yield classifier.probabilities(batch).numpy()

    print("| | " + " | ".join(VARIANTS) + " |\n|---|" + "---|" * len(VARIANTS))
    for photo in chosen.photos:
        for number, answer in enumerate(answers(decode_rgb(photo.read_bytes()))):
            values = " | ".join(f"{row[happiness]:.3f}" for row in answer)
            print(f"| happiness, {photo.stem}, face {number + 1} | {values} |")
    if chosen.video is not None:
        video, seen = cv2.VideoCapture(str(chosen.video)), []
        while (read := video.read())[0]:
            seen.extend(list(answers(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))[:1])
        table = np.stack(seen)
        moved = np.abs(np.diff(table, axis=0)).sum(axis=2).mean(axis=0) / 2
        changes = (np.diff(table.argmax(axis=2), axis=0) != 0).sum(axis=0)
        print(
            "| mean change of the answer from frame to frame | " + " | ".join(f"{value:.4f}" for value in moved) + " |"
        )
        print(f"| changes of the label in {len(table)} frames | " + " | ".join(map(str, changes)) + " |")


if __name__ == "__main__":
    main()
