"""An uploaded video, opened so that it can name no other file."""

import re
from pathlib import Path

from emodet.app.refusals import ApiError
from emodet.app.settings import Limits
from emodet.errors import EmodetError
from emodet.inference.video_reader import VideoReader

__all__ = ["duration_s", "ending_of", "open_upload", "told", "too_long"]

_ENDINGS = ((4, b"ftyp", ".mp4"), (0, b"RIFF", ".avi"), (0, b"\x1aE\xdf\xa3", ".mkv"))


def open_upload(path: Path, limits: Limits) -> VideoReader:
    """Open it.

    Raises:
        ApiError: It is no video, or larger or longer than the limits.
    """
    try:
        video = VideoReader(path, max_pixels=limits.pixels)
    except EmodetError as problem:
        message = "The frames are too large." if "pixels" in str(problem) else "This is no video that can be read."
        way_out = f"Send MP4, MOV, AVI, MKV or WebM with frames of at most {limits.pixels:,} pixels."
        raise ApiError(422, "video_unreadable", message, way_out) from None
    seconds = duration_s(video)
    if seconds is not None and (seconds > limits.video_seconds or video.frame_count > limits.video_frames):
        raise too_long(limits)
    return video


def too_long(limits: Limits) -> ApiError:
    """What a video is told that is longer than the limits."""
    most = f"{limits.video_seconds / 60:g} minutes and {limits.video_frames:,} frames"
    return ApiError(422, "video_too_long", f"The video is longer than {most}.", "Send a part of it.")


def duration_s(video: VideoReader) -> float | None:
    """In seconds, as the file says; None where it does not."""
    return video.duration_s


def ending_of(start: bytes) -> str:
    """The ending of file names that fits, by the first bytes: some containers can tell exactly how long they are."""
    return next((ending for at, magic, ending in _ENDINGS if start[at : at + len(magic)] == magic), ".video")


def told(problem: EmodetError, folder: Path) -> str:
    """What is wrong with a video, without where its files lie here."""
    text = re.sub(re.escape(str(folder)) + r"[\\/][^\s:]+:?\s*", "", str(problem))
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
