"""Recognise a video: one loop from frames to sinks, for the command line and the server."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property

from emodet.arrays import UInt8
from emodet.inference.capture import LiveVideo, read_ahead
from emodet.inference.faces import Box, Face
from emodet.inference.heatmaps import HeatMap, heat_maps
from emodet.inference.overlay import draw
from emodet.inference.recognizer import Recognizer
from emodet.inference.sinks import Sink
from emodet.inference.summary import Meter
from emodet.inference.tracking import DETECT_EVERY, FaceStream, Smoothing
from emodet.inference.video_reader import Frame, VideoReader

SCORE_TO_HIDE = 0.3
"""With hidden faces, detections from this score on are hidden, though only surer ones are recognised."""


@dataclass(frozen=True)
class FrameResult:
    """One frame and its faces.

    Attributes:
        faces: Its faces; those of the last recognised frame if not `fresh`.
        hidden: Boxes of all faces seen in the last second; None if faces are not hidden.
        maps: Heat maps; None if not requested.
        fresh: Whether this frame was recognised, not skipped by `every`.
        recognised_s: Time spent on detection and recognition, in seconds.
        age_s: From capture to result, in seconds: the latency of a live source.
        note: Frame rate and latency, as text.
    """

    frame: Frame
    faces: tuple[Face, ...]
    hidden: tuple[Box, ...] | None
    maps: tuple[HeatMap, ...] | None
    fresh: bool
    recognised_s: float
    age_s: float
    note: str

    @cached_property
    def annotated(self) -> UInt8:
        """The frame with labels: uint8, (H, W, 3), RGB."""
        return draw(self.frame.image_rgb, self.faces, hidden=self.hidden, maps=self.maps, note=self.note)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How videos are recognised.

    Attributes:
        smoothing: How predictions are smoothed over time.
        every: Recognise only every N-th frame.
        hide: Detect faces in every frame and with a lower threshold, so that `FrameResult.annotated` hides them all.
        explain: Compute heat maps.
        note: Draw frame rate and latency.
    """

    smoothing: Smoothing = field(default_factory=Smoothing)
    every: int = 1
    hide: bool = False
    explain: bool = False
    note: bool = False


def recognise_stream(
    recognizer: Recognizer, video: VideoReader | LiveVideo, sinks: Sequence[Sink], options: StreamOptions | None = None
) -> None:
    """Recognise a video, and give each result to every sink; the sinks are opened, and closed also after an error."""
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
    """The results of a video, one by one; with `all_frames` also the frames between, with the last known faces.

    Decoding and recognition each have a thread; closing the iterator ends them. `EmodetError` if the video breaks off.
    """
    options = options or StreamOptions()
    threshold = recognizer.detector.min_score
    stream = FaceStream(
        recognizer,
        smoothing=options.smoothing,
        detect_every=1 if options.hide else DETECT_EVERY,
        min_score=min(SCORE_TO_HIDE, threshold) if options.hide else None,
    )
    step, close = options.every, None
    if isinstance(video, LiveVideo):
        frames, close = iter(video), video.close  # the thread may be waiting for a camera
    elif all_frames:
        frames = read_ahead(video.frames())
    else:
        frames, step = read_ahead(video.frames(step)), 1  # others are not even converted

    def results() -> Generator[FrameResult, None, None]:
        meter = Meter()
        faces: tuple[Face, ...] = ()
        maps: tuple[HeatMap, ...] | None = None
        started = done = 0.0
        with closing(frames):
            for number, frame in enumerate(frames):
                fresh = number % step == 0
                if fresh:
                    started = time.perf_counter()
                    found = stream.step(frame.image_rgb, frame.time_s)
                    done = time.perf_counter()
                    meter.add(done - (started if close is None else frame.taken_s))
                    faces = tuple(face for face in found if face.detection_score >= threshold)
                    if options.explain:
                        maps = heat_maps(recognizer, frame.image_rgb, faces)
                elif not all_frames:
                    continue
                elif options.hide:
                    stream.locate(frame.image_rgb, frame.time_s)
                hidden = tuple(track.detection.box for track in stream.tracks) if options.hide else None
                note = meter.note if options.note else ""
                yield FrameResult(frame, faces, hidden, maps, fresh, done - started, done - frame.taken_s, note)

    return read_ahead(results(), capacity=2, before_close=close)
