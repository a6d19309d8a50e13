"""Drift of tracked boxes, compared with a detection in every frame.

python experiments/detectors/tracking_drift.py VIDEO

VIDEO shows one face. Prints the intersection over union with the box detected in the same frame, over all frames in
which the face is tracked, not detected.
"""

import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from emodet.inference.detectors import STREAM_SIDES
from emodet.inference.faces import overlap
from emodet.inference.recognizer import Recognizer
from emodet.inference.stream import FaceStream
from emodet.inference.tracking import DETECT_EVERY
from emodet.inference.video_reader import VideoReader


def main() -> None:
    cv2.setNumThreads(1)
    recognizer = Recognizer(detector="centerface", threads=1)
    stream = FaceStream(recognizer)
    overlaps, missed = [], 0
    with closing(VideoReader(Path(sys.argv[1]))) as video:
        for frame in video:
            tracked = stream.locate(frame.image_rgb, frame.time_s)
            if frame.index % DETECT_EVERY == 0:
                continue
            found = recognizer.detect(frame.image_rgb, sides=STREAM_SIDES)
            missed += not tracked or not found
            if tracked and found:
                overlaps.append(overlap(tracked[0].detection.box, found[0].box))
    values = ", ".join(
        f"{name} {np.quantile(overlaps, q):.3f}" for name, q in (("minimum", 0), ("5 %", 0.05), ("median", 0.5))
    )
    print(f"{len(overlaps)} frames: intersection over union: {values}; {missed} without a face")


if __name__ == "__main__":
    main()
