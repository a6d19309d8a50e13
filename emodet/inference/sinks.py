"""Where the results of a video go: rows, an annotated video, a timeline, a window. Sinks are context managers."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.inference.capture import LiveVideo
from emodet.inference.overlay import write_picture
from emodet.inference.rows import RowWriter, face_row
from emodet.inference.timeline import Timeline
from emodet.inference.video_reader import VideoReader

if TYPE_CHECKING:
    from emodet.inference.pipeline import FrameResult
    from emodet.inference.video_writer import VideoWriter


class WindowClosed(BaseException):
    """The user closed the window, or pressed q or Esc in it."""


class Sink:
    """Takes the results of one video; a context manager. Subclasses override `write` and, if needed, `close`."""

    every_frame = False  # whether it also needs the frames that are not recognised
    files: Sequence[Path] = ()  # what has been written when it is closed

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if kind is None else suppress(EmodetError):  # the first error is the one to report
            self.close(complete=kind is None)

    def write(self, result: "FrameResult") -> None:
        """Take one result, in order."""
        raise NotImplementedError

    def close(self, *, complete: bool) -> None:
        """Finish; `complete` is False after an error."""


class RowSink(Sink):
    """Writes a row per face of each recognised frame. The writers stay open for further videos."""

    def __init__(self, writers: Sequence[RowWriter], source: str) -> None:
        self._writers, self._source = writers, source

    def write(self, result: "FrameResult") -> None:
        for place, face in enumerate(result.faces if result.fresh else ()):
            row = face_row(self._source, result.frame.index, result.frame.time_s, place, face)
            for writer in self._writers:
                writer.write(row)


class AnnotatedVideoSink(Sink):
    """Writes the annotated frames as H.264 in MP4, each at its own time, with the sound of the source."""

    every_frame = True

    def __init__(self, path: Path, video: VideoReader | LiveVideo) -> None:
        self._path, self._video = path, video
        self._writer: VideoWriter | None = None

    def write(self, result: "FrameResult") -> None:
        if self._writer is None:
            from emodet.inference.video_writer import VideoWriter

            height, width = result.annotated.shape[:2]
            sound = self._video if isinstance(self._video, VideoReader) else None
            rate = self._video.frame_rate
            self._writer = VideoWriter(self._path, size=(width, height), frame_rate=rate, source=sound)
        self._writer.write(result.annotated, result.frame.time_s)

    def close(self, *, complete: bool) -> None:
        if self._writer is not None:
            self._writer.close(rest_of_sound=complete)
            self.files = [self._path]


class TimelineSink(Sink):
    """Draws emotion over time, one line per track, from its `timeline`."""

    def __init__(self, path: Path, class_names: Sequence[str], title: str) -> None:
        self._path, self._title = path, title
        self.timeline = Timeline(class_names)

    def write(self, result: "FrameResult") -> None:
        if result.fresh:
            self.files = [self._path]  # a video without a frame has none
            self.timeline.add(result.frame.time_s, result.faces)

    def close(self, *, complete: bool) -> None:
        for path in self.files:
            write_picture(self.timeline.draw(self._title), path)


class WindowSink(Sink):
    """Shows the annotated frames in a window; `WindowClosed` if the user closes it."""

    every_frame = True

    def write(self, result: "FrameResult") -> None:
        show(result.annotated, wait_ms=1)


def show(picture: UInt8, *, wait_ms: int) -> None:
    """Show a picture in the window; with `wait_ms` 0 until a key is pressed. Raises `WindowClosed`."""
    title = "emodet"
    try:
        cv2.imshow(title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        while True:
            key = cv2.waitKey(wait_ms or 50) & 0xFF
            if key in (ord("q"), 27) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
                raise WindowClosed
            if wait_ms or key != 0xFF:
                return
    except cv2.error as problem:
        raise EmodetError(
            f"--show: no window can be opened ({problem.err or problem}); opencv-python-headless has none"
        ) from None
