"""Recognise faces in pictures, and in a video if one is given: python examples/recognise.py photo.jpg video.mp4

Without arguments it takes the portrait of the package (NASA, public domain).
"""

import importlib.resources
import sys
from pathlib import Path

from emodet import Recognizer
from emodet.images import IMAGE_SUFFIXES


def main(paths: list[Path], output: Path) -> None:
    """Print every face, and write annotated pictures to `output`."""
    recognizer = Recognizer(min_confidence="auto")  # "uncertain" below the model file's threshold for 95 % right on val
    output.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            result = recognizer(path)
            for face in result:
                print(f"{path.name}: {face.emotion}, {', '.join(f'{name} {share:.0%}' for name, share in face.top(3))}")
            print("annotated:", result.save(output / f"{path.stem}.jpg"))
        else:
            for frame, result in recognizer.video(path, every=5):
                print(f"{path.name} {frame.time_s:.2f} s: {[(face.track_id, face.emotion) for face in result]}")


if __name__ == "__main__":
    with importlib.resources.as_file(importlib.resources.files("emodet") / "pictures" / "portrait.jpg") as portrait:
        main([Path(name) for name in sys.argv[1:]] or [portrait], Path("outputs/recognised"))
