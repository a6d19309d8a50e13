"""Videos made on the spot."""

import cv2
import numpy as np


def moving_face(astronaut, frames, *, step=(3, 1)):
    """The astronaut's head and shoulders wandering over grey, 320×240; yields RGB frames."""
    head = cv2.resize(astronaut[0:256, 96:352], (140, 140), interpolation=cv2.INTER_AREA)
    for index in range(frames):
        frame = np.full((240, 320, 3), 120, dtype=np.uint8)
        x, y = 20 + step[0] * index, 20 + step[1] * index
        frame[y : y + 140, x : x + 140] = head
        yield frame


def write_video(path, frames, *, rate=10.0):
    """MJPEG in AVI by OpenCV, from RGB frames."""
    writer = None
    for frame in frames:
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    if writer is not None:
        writer.release()
    return path
