"""Recognition of an uploaded video, in a process of its own: a damaged video may crash FFmpeg, or never end."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from emodet.app.settings import Limits
from emodet.errors import EmodetError
from emodet.inference.pipeline import FrameResult, StreamOptions, recognise_stream
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowWriter
from emodet.inference.sinks import AnnotatedVideoSink, RowSink, Sink, TimelineSink
from emodet.inference.timeline import Timeline
from emodet.inference.video_reader import VideoReader

RESULTS = {
    "annotated": "annotated.mp4",
    "rows_csv": "rows.csv",
    "rows_jsonl": "rows.jsonl",
    "timeline": "timeline",
    "timeline_png": "timeline.png",
}
"""Field of `emodet.app.schema.VideoFiles` to the name of the file, which is also the end of its URL."""


class VideoTooLongError(EmodetError):
    """The video exceeds the limits."""


@dataclass(frozen=True, slots=True)
class VideoWork:
    """How a video is recognised, and the folder for the results."""

    recognizer: Recognizer
    options: StreamOptions
    annotate: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class Progress:
    """After a frame: how many are done, how fast, and the emotions of its faces."""

    frames_done: int
    frames_per_second: float
    emotions: tuple[str, ...]


def recognise(pipe: Connection, path: Path, limits: Limits) -> None:
    """Open a video and send what its header says, as fields of `emodet.app.schema.VideoStatus`.

    Then receive `VideoWork`, send `Progress` after each frame, and None at the end. Results up to an error are kept.
    `VideoTooLongError` if it exceeds the limits; `EmodetError` if it is no video, has too large frames, or is cut off.
    """
    video = VideoReader(path, max_pixels=limits.pixels)
    seconds, frames = video.duration_s, video.frame_count
    if seconds is not None and (seconds > limits.video_seconds or frames > limits.video_frames):
        raise VideoTooLongError("too long")
    (width, height), rate = video.size, video.frame_rate
    facts = {
        "width": width,
        "height": height,
        "frame_rate": rate,
        "duration_s": seconds,
        "frames_total": frames or None,
    }
    pipe.send(facts)
    work: VideoWork = pipe.recv()
    names = work.recognizer.model.info.class_names
    chart = TimelineSink(work.folder / RESULTS["timeline_png"], names, "video")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(RowWriter(kind, work.folder / f"rows.{kind}", names)) for kind in ("jsonl", "csv")
        ]
        progress = _ProgressSink(pipe, limits, chart.timeline, work.folder / RESULTS["timeline"], seconds or 0.0)
        sinks = [progress, RowSink(writers, "video"), chart]
        if work.annotate:
            sinks.append(AnnotatedVideoSink(work.folder / RESULTS["annotated"], video))
        recognise_stream(work.recognizer, video, sinks, work.options)
    pipe.send(None)


class _ProgressSink(Sink):
    """Sends the progress, enforces the limits, and writes the timeline as JSON."""

    def __init__(self, pipe: Connection, limits: Limits, timeline: Timeline, path: Path, duration_s: float) -> None:
        super().__init__()
        self._pipe, self._limits = pipe, limits
        self._timeline, self._path, self._duration_s = timeline, path, duration_s
        self._started, self._done = time.perf_counter(), 0

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        if frame.time_s > self._limits.video_seconds or frame.index >= self._limits.video_frames:
            raise VideoTooLongError("too long")
        self._done = frame.index + 1
        rate = self._done / max(1e-6, time.perf_counter() - self._started)
        emotions = tuple(face.emotion for face in result.faces) if result.fresh else ()
        self._pipe.send(Progress(self._done, round(rate, 2), emotions))

    def close(self, *, complete: bool) -> None:
        if self._done:
            self._path.write_text(json.dumps(self._timeline.to_dict(self._duration_s)), encoding="utf-8")
