"""What the camera of the tests shows, and files that users bring."""

import cv2
import numpy as np

from emodet.inference.video_writer import VideoWriter


def camera_frames(astronaut, count=60):
    """640×480: she sways to and fro."""
    head = cv2.resize(astronaut, (460, 460), interpolation=cv2.INTER_AREA)
    for index in range(count):
        frame = np.full((480, 640, 3), 110, dtype=np.uint8)
        x = int(90 + 12 * np.sin(index / count * 2 * np.pi))
        frame[10:470, x : x + 460] = head
        yield frame


def write_y4m(path, frames, rate=30):
    """Raw video, as Chromium's made camera reads it."""
    with path.open("wb") as file:
        for index, frame in enumerate(frames):
            height, width = frame.shape[:2]
            if index == 0:
                file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


def write_mp4(path, frames, rate=30):
    with VideoWriter(path, size=(640, 480), frame_rate=rate) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index / rate)
    return path
