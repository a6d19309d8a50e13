"""Videos made on the spot, with PyAV."""

from fractions import Fraction

import av
import cv2
import numpy as np


def moving_face(astronaut, frames, *, step=(3, 1)):
    """The astronaut's head and shoulders moving over grey, 320×240; yields RGB frames."""
    head = cv2.resize(astronaut[0:256, 96:352], (140, 140), interpolation=cv2.INTER_AREA)
    for index in range(frames):
        frame = np.full((240, 320, 3), 120, dtype=np.uint8)
        x, y = 20 + step[0] * index, 20 + step[1] * index
        frame[y : y + 140, x : x + 140] = head
        yield frame


def quadrants(frames=1, size=(64, 48)):
    """Frames with red, green, blue and white corners, in reading order."""
    width, height = size
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    frame[: height // 2, : width // 2] = (255, 0, 0)
    frame[: height // 2, width // 2 :] = (0, 255, 0)
    frame[height // 2 :, : width // 2] = (0, 0, 255)
    frame[height // 2 :, width // 2 :] = 255
    return [frame] * frames


def write_damaged_video(path, frames, damage=3000):
    """Noise, 128×96, with sound to the end and so many bytes overwritten at a quarter of the file."""
    rng = np.random.default_rng(0)
    noise = (np.kron(rng.integers(0, 256, (24, 32, 3)), np.ones((4, 4, 1))).astype(np.uint8) for _ in range(frames))
    data = bytearray(write_video(path, noise, sound="aac", sound_s=frames / 10).read_bytes())
    middle = max(0, data.find(b"mdat")) + len(data) // 4
    data[middle : middle + damage] = b"\xff" * damage
    path.write_bytes(data)
    return path


def write_video(
    path, frames, *, rate=10, codec=None, times_s=None, start_s=0.0, sound=None, sound_s=0.0, ratio=None, matrix=None
):
    """Write RGB frames: `sound` names an audio codec, `ratio` is of a pixel, `matrix` (a, b, c, d) of the display."""
    codec = codec or ("mjpeg" if path.suffix == ".avi" else "libx264")
    base = Fraction(1, round(rate)) if path.suffix == ".avi" else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=round(rate))
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.time_base = base
        video.codec_context.gop_size = 8
        audio = container.add_stream(sound, rate=48_000) if sound else None
        if ratio is not None:
            video.codec_context.sample_aspect_ratio = ratio
        if matrix is not None:
            a, b, c, d = (value << 16 for value in matrix)
            video.set_display_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30))
        for index, image in enumerate(frames):
            if not index:
                video.height, video.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            time_s = index / rate if times_s is None else times_s[index]
            frame.pts, frame.time_base = round((time_s + start_s) / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            for start in range(round(start_s * 48_000), round((start_s + sound_s) * 48_000), 960):
                tone = (np.sin((start + np.arange(960)) * 0.05) * 3000).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def tracks(path):
    """Codec, packet count, and end in seconds of each track of a file."""
    found = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.size:
                name = packet.stream.codec_context.name
                count, end_s = found.get(name, (0, 0.0))
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                found[name] = (count + 1, max(end_s, end))
    return found
