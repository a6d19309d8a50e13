"""Number of drawn faces that a detector finds: ``python experiments/detectors/drawn_faces.py [--yunet FILE.onnx]``.

Each face is in the centre of a grey image of twice its side. Blur removes the hard edges of the drawing.
"""

import argparse

import cv2
import numpy as np

from emodet.inference.detectors import find_faces, make_detector
from emodet.synthetic.faces import draw_face

FACES = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yunet", help="YuNet's weights")
    arguments = parser.parse_args()
    detectors = ["centerface", *([f"yunet:{arguments.yunet}"] if arguments.yunet else [])]
    print("| side, pixels | blur, pixels |", " | ".join(name.split(":")[0] for name in detectors), "|")
    print("|---:|---:|" + "---:|" * len(detectors))
    for side, blur in ((96, 0), (160, 0), (160, 2), (320, 0), (320, 4)):
        cells = []
        for name in detectors:
            detector, found = make_detector(name, threads=1), 0
            for number in range(FACES):
                image = np.full((2 * side, 2 * side, 3), 128, np.uint8)
                inner = slice(side // 2, side // 2 + side)
                image[inner, inner] = draw_face(number % 8, (number, 6), side).image
                found += bool(find_faces(detector, cv2.GaussianBlur(image, (0, 0), blur) if blur else image))
            cells.append(f"{found} of {FACES}")
        print(f"| {side} | {blur} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
