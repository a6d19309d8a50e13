"""Video recognition: one loop passes the frames' results to sinks (rows, annotated video, timeline, window)."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from emodet.arrays import UInt8
from emodet.errors import EmodetError, require
from emodet.inference.capture import LiveVideo, read_ahead
from emodet.inference.faces import Box, Face
from emodet.inference.heatmaps import heat_maps
from emodet.inference.overlay import HeatMap, draw, write_picture
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowWriter, face_row
from emodet.inference.stream import FaceStream
from emodet.inference.summary import Meter
from emodet.inference.timeline import Timeline
from emodet.inference.tracking import DETECT_EVERY, Smoothing
from emodet.inference.video_reader import Frame, VideoReader

if TYPE_CHECKING:
    from emodet.inference.video_writer import VideoWriter

SCORE_TO_HIDE = 0.3
"""Minimum score of detections that are hidden; it is lower than that of faces that are recognised."""


@dataclass(frozen=True)
class FrameResult:
    """One frame and its faces.

    Attributes:
        faces: Faces of the frame; if not `fresh`, of the last recognised frame.
        hidden: Boxes of all faces seen in the last second; None if faces are not hidden.
        maps: Heat maps; None if not requested.
        fresh: Whether this frame was recognised and not skipped because of `every`.
        latency_s: Time to the result, in seconds; from the capture of a live frame, else from the start of recognition.
        note: Frame rate and latency as text.
    """

    frame: Frame
    faces: tuple[Face, ...]
    hidden: tuple[Box, ...] | None
    maps: tuple[HeatMap, ...] | None
    fresh: bool
    latency_s: float
    note: str

    @cached_property
    def annotated(self) -> UInt8:
        """Frame with labels: uint8, (H, W, 3), RGB."""
        return draw(self.frame.image_rgb, self.faces, hidden=self.hidden, maps=self.maps, note=self.note)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of video recognition.

    Attributes:
        smoothing: Smoothing of predictions over time.
        every: Step between recognised frames: 1 recognises every frame.
        hide: Whether `FrameResult.annotated` hides all faces; detects in every frame and with a lower threshold.
        explain: Whether to compute heat maps.
        note: Whether to draw frame rate and latency.
    """

    smoothing: Smoothing = field(default_factory=Smoothing)
    every: int = 1
    hide: bool = False
    explain: bool = False
    note: bool = False

    def __post_init__(self) -> None:
        require(isinstance(self.every, int) and self.every >= 1, "every", self.every, "a whole number, 1 or more")


class WindowClosed(BaseException):
    """The user closed the window, or pressed q or Esc in it."""


class Sink:
    """Receives the results of one video; a context manager. Subclasses override `write` and, if needed, `close`."""

    every_frame = False  # whether the sink also needs frames that are not recognised
    files: Sequence[Path] = ()  # files that the sink has written when it is closed

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if kind is None else suppress(EmodetError):  # report only the first error
            self.close(complete=kind is None)

    def write(self, result: FrameResult) -> None:
        """Process one result; results arrive in order."""
        raise NotImplementedError

    def close(self, *, complete: bool) -> None:
        """Close the sink; `complete` is False after an error."""


class RowSink(Sink):
    """Writes a row per face of each recognised frame. The writer stays open for further videos."""

    def __init__(self, writer: RowWriter, source: str) -> None:
        self._writer, self._source = writer, source

    def write(self, result: FrameResult) -> None:
        for place, face in enumerate(result.faces if result.fresh else ()):
            self._writer.write(face_row(self._source, result.frame.index, result.frame.time_s, place, face))


class AnnotatedVideoSink(Sink):
    """Writes the annotated frames as H.264 in MP4, at their times in the source, with the source's sound."""

    every_frame = True

    def __init__(self, path: Path, video: VideoReader | LiveVideo) -> None:
        self._path, self._video = path, video
        self._writer: VideoWriter | None = None

    def write(self, result: FrameResult) -> None:
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
    """Draws emotions over time, one line per track, and exposes them as `timeline`."""

    def __init__(self, path: Path, class_names: Sequence[str], title: str) -> None:
        self._path, self._title = path, title
        self.timeline = Timeline(class_names)

    def write(self, result: FrameResult) -> None:
        if result.fresh:
            self.files = [self._path]  # a video without frames has no timeline
            self.timeline.add(result.frame.time_s, result.faces)

    def close(self, *, complete: bool) -> None:
        begun, self.files = self.files, []
        for path in begun:
            write_picture(self.timeline.draw(self._title), path)
            self.files = [path]


class WindowSink(Sink):
    """Shows the annotated frames in a window; raises `WindowClosed` when the user closes it."""

    every_frame = True

    def write(self, result: FrameResult) -> None:
        show(result.annotated, wait_ms=1)


def show(picture: UInt8, *, wait_ms: int) -> None:
    """Show a picture in the window, with `wait_ms=0` until a key is pressed; raises `WindowClosed`."""
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
            f"--show: no window can be opened ({problem.err or problem}); opencv-python-headless does not support it"
        ) from None


def recognise_stream(
    recognizer: Recognizer, video: VideoReader | LiveVideo, sinks: Sequence[Sink], options: StreamOptions | None = None
) -> None:
    """Recognise a video and write each result to every sink; sinks are opened, and closed even after an error."""
    all_frames = any(sink.every_frame for sink in sinks)
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        results = stack.enter_context(closing(recognise_video(recognizer, video, options, all_frames=all_frames)))
        for result in results:
            for sink in sinks:
                sink.write(result)


def recognise_video(
    recognizer: Recognizer,
    video: VideoReader | LiveVideo,
    options: StreamOptions | None = None,
    *,
    all_frames: bool = False,
) -> Generator[FrameResult, None, None]:
    """Yield the results of a video; with `all_frames` also skipped frames, with the last recognised faces.

    Decoding and recognition run in threads until the iterator is closed. Raises `EmodetError` if the video is cut off.
    """
    options = options or StreamOptions()
    stream = FaceStream(
        recognizer,
        smoothing=options.smoothing,
        detect_every=1 if options.hide else DETECT_EVERY,
        min_score=min(SCORE_TO_HIDE, recognizer.detector.min_score) if options.hide else None,
    )
    step, close = options.every, None
    if isinstance(video, LiveVideo):
        frames, close = iter(video), video.close  # `close` wakes up a thread that waits for a camera
    elif all_frames:
        frames = read_ahead(video.frames())
    else:
        frames, step = read_ahead(video.frames(step)), 1  # skipped frames are not converted to RGB

    def results() -> Generator[FrameResult, None, None]:
        meter = Meter()
        faces: tuple[Face, ...] = ()
        maps: tuple[HeatMap, ...] | None = None
        latency_s = 0.0
        with closing(frames):
            for number, frame in enumerate(frames):
                fresh = number % step == 0
                if fresh:
                    started = time.perf_counter() if close is None else frame.taken_s
                    faces = stream.step(frame.image_rgb, frame.time_s)
                    latency_s = time.perf_counter() - started
                    meter.add(latency_s)
                    if options.explain:
                        maps = heat_maps(recognizer, frame.image_rgb, faces)
                elif not all_frames:
                    continue
                elif options.hide:
                    stream.locate(frame.image_rgb, frame.time_s)
                hidden = tuple(track.detection.box for track in stream.tracks) if options.hide else None
                note = meter.note if options.note else ""
                yield FrameResult(frame, faces, hidden, maps, fresh, latency_s, note)

    return read_ahead(results(), capacity=2, before_close=close)
