"""Whether following drifts: boxes of a stream against a detection in every frame.

python experiments/detectors/following.py VIDEO

VIDEO shows one face. Printed: intersection over union with the box found in the same frame, over all frames that were
followed, not detected.
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
            followed = stream.locate(frame.image_rgb, frame.time_s)
            if frame.index % DETECT_EVERY == 0:
                continue
            found = recognizer.detect(frame.image_rgb, sides=STREAM_SIDES)
            missed += not followed or not found
            if followed and found:
                overlaps.append(overlap(followed[0].detection.box, found[0].box))
    values = ", ".join(
        f"{name} {np.quantile(overlaps, q):.3f}" for name, q in (("least", 0), ("5 %", 0.05), ("median", 0.5))
    )
    print(f"{len(overlaps)} frames: overlap {values}; {missed} without a face")


if __name__ == "__main__":
    main()
