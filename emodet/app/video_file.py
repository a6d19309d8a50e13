"""An uploaded video, opened so that it can name no other file."""

import os
import re
import threading
from pathlib import Path

from emodet.errors import EmodetError
from emodet.inference.capture import VideoFile
from emodet.app.refusals import ApiError
from emodet.app.settings import Limits

__all__ = ["duration_s", "ending_of", "open_upload", "told", "too_long"]

# Containers that hold their frames themselves. Playlists (HLS, DASH, ffconcat) are opened by ffmpeg as well, and name
# files and addresses for it to read: a stranger's list would show what lies on this machine.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,flv,ogg,asf"
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_ENDINGS = ((4, b"ftyp", ".mp4"), (0, b"RIFF", ".avi"), (0, b"\x1aE\xdf\xa3", ".mkv"))

_lock = threading.Lock()


def open_upload(path: Path, limits: Limits) -> VideoFile:
    """Open it.

    Raises:
        ApiError: It is no video, or larger or longer than the limits.
    """
    try:
        with _lock:
            before = os.environ.get(_OPTIONS)
            os.environ[_OPTIONS] = f"protocol_whitelist;file|format_whitelist;{_CONTAINERS}"
            try:
                video = VideoFile(path, max_pixels=limits.pixels)
            finally:
                if before is None:
                    del os.environ[_OPTIONS]
                else:
                    os.environ[_OPTIONS] = before
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


def duration_s(video: VideoFile) -> float | None:
    """In seconds, as the file says; None where it does not."""
    return video.frame_count / video.frame_rate if video.frame_count else None


def ending_of(start: bytes) -> str:
    """The ending of file names that fits, by the first bytes: some containers can tell exactly how long they are."""
    return next((ending for at, magic, ending in _ENDINGS if start[at : at + len(magic)] == magic), ".video")


def told(problem: EmodetError, folder: Path) -> str:
    """What is wrong with a video, without where its files lie here."""
    text = re.sub(re.escape(str(folder)) + r"[\\/][^\s:]+:?\s*", "", str(problem))
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
