"""CPU time of startup, of an image and of a video frame, compared with another checkout.

python experiments/benchmarks/versions.py PHOTO VIDEO --against FOLDER [--rounds 5]

FOLDER is another checkout of emodet (`git worktree add FOLDER COMMIT`), run by the same Python. Every figure is the
user and system time of a separate process, as the median of rounds that alternate between the checkouts. Other programs
on the machine affect it less than wall time.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[2]
VIDEO = """
import cv2, sys, time
from contextlib import closing
from pathlib import Path
from emodet import Recognizer
from emodet.inference.pipeline import recognise_video
from emodet.inference.video_reader import VideoReader
cv2.setNumThreads(1)
recognizer = Recognizer(detector="centerface", threads=1)
for _ in range(2):
    start, frames = time.process_time(), 0
    with closing(VideoReader(Path(sys.argv[1]))) as video:
        for _ in recognise_video(recognizer, video):
            frames += 1
print((time.process_time() - start) / frames)
"""
DETECT = """
import sys, time
import cv2
from emodet.images import load_rgb
from emodet.inference.detectors import find_faces, make_detector
cv2.setNumThreads(1)
image, detector = load_rgb(sys.argv[1]), make_detector("centerface", threads=1)
for _ in range(3):
    start = time.process_time()
    find_faces(detector, image)
print(time.process_time() - start)
"""
CASES = {
    "`import emodet`": ["-c", "import emodet"],
    "`from emodet import Recognizer`": ["-c", "from emodet import Recognizer"],
    "`python -m emodet.predict PHOTO`": ["-m", "emodet.predict", "PHOTO", "--detector", "centerface"],
    "face detection in PHOTO": ["-c", DETECT, "PHOTO"],
    "one frame of VIDEO": ["-c", VIDEO, "VIDEO"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    names = {"PHOTO": str(arguments.photo.resolve()), "VIDEO": str(arguments.video.resolve())}
    print("| CPU time, ms | other version | this version | ratio |\n|---|---:|---:|---:|")
    for title, command in CASES.items():
        times: dict[Path, list[float]] = {arguments.against: [], HERE: []}
        for _ in range(arguments.rounds):
            for checkout, values in times.items():
                values.append(seconds(checkout, [names.get(part, part) for part in command]))
        before, after = (1000 * float(np.median(values)) for values in times.values())
        print(f"| {title} | {before:.1f} | {after:.1f} | {after / before:.2f} |", flush=True)


def seconds(checkout: Path, command: list[str]) -> float:
    """CPU time of a process in seconds, or the number in the last line of its output."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=checkout, env=environment, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        return float(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
