"""Draw the sample image and video of the page: `python experiments/pictures/draw_samples.py`.

They let users without a camera try the page. The seeds are chosen so that CenterFace finds the faces.
"""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

import emodet.app.page
from emodet.inference.video_writer import VideoWriter
from emodet.synthetic.faces import draw_face

FOLDER = Path(emodet.app.page.__file__).parent / "samples"
SIDE = 240
PICTURE = [("neutral", 42), ("happiness", 34), ("sadness", 11), ("disgust", 44), ("anger", 26), ("happiness", 5)]
SCENES = [[("happiness", 34), ("sadness", 10)], [("sadness", 34), ("happiness", 10)]]
RATE, SECONDS = 12, 2.5


def drawn(emotion: str, seed: int, intensity: float) -> npt.NDArray[np.uint8]:
    """Draw one person, uint8 (SIDE, SIDE, 3) RGB; the seed determines identity, pose and light."""
    image = draw_face(emotion, (7, seed), SIDE, intensity=intensity, framing=(0.5, 0.55)).image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), dtype=np.uint8)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    faces = [drawn(emotion, seed, 1.0) for emotion, seed in PICTURE]
    picture = np.vstack([np.hstack(faces[:3]), np.hstack(faces[3:])])
    cv2.imwrite(str(FOLDER / "drawn-faces.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    with VideoWriter(FOLDER / "drawn-faces.mp4", size=(2 * SIDE, SIDE), frame_rate=RATE) as writer:
        for index in range(round(len(SCENES) * SECONDS * RATE)):
            scene, share = divmod(index / (SECONDS * RATE), 1)
            frame = np.hstack([drawn(*who, math.sin(math.pi * share) ** 0.5) for who in SCENES[int(scene)]])
            sway = np.float32([[1, 0, 6 * math.sin(2 * math.pi * share)], [0, 1, 3 * math.cos(2 * math.pi * share)]])
            moved = cv2.warpAffine(frame, sway, (2 * SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
            writer.write(np.asarray(moved, dtype=np.uint8), index / RATE)
    for file in sorted(FOLDER.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
