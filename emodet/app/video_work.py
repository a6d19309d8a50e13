"""Recognition of an uploaded video in a separate process, because a damaged video can crash or block FFmpeg."""

import json
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from emodet.app.settings import Limits
from emodet.errors import EmodetError
from emodet.inference import pipeline
from emodet.inference.rows import RowWriter
from emodet.inference.video_reader import VideoReader

RESULTS = {
    "annotated": ("annotated.mp4", "video/mp4"),
    "rows_csv": ("rows.csv", "text/csv"),
    "rows_jsonl": ("rows.jsonl", "application/jsonl"),
    "timeline_png": ("timeline.png", "image/png"),
    "timeline": ("timeline", "application/json"),
}
"""Name and media type of each field of `emodet.app.schema.VideoFiles`; the name is also the end of the URL."""


class VideoTooLongError(EmodetError):
    """The video exceeds the limits."""


def recognise(pipe: Connection, path: Path, limits: Limits) -> None:
    """Open a video and send the values of its header, as fields of `emodet.app.schema.VideoStatus`.

    Then receive a `Recognizer`, `StreamOptions`, whether to write the annotated video, and the folder for the results;
    send more fields after each frame, and None at the end. Results before an error are kept. Raises `VideoTooLongError`
    if the video exceeds the limits, and `EmodetError` if it is not a video, is cut off, or has too large frames.
    """
    video = VideoReader(path, max_pixels=limits.pixels)
    seconds, frames = video.duration_s, video.frame_count
    if seconds is not None and (seconds > limits.video_seconds or frames > limits.video_frames):
        raise VideoTooLongError("too long")
    header = {"frame_rate": video.frame_rate, "duration_s": seconds, "frames_total": frames or None}
    pipe.send(header | dict(zip(("width", "height"), video.size, strict=True)))
    recognizer, options, annotate, folder = pipe.recv()
    names, paths = recognizer.model.info.class_names, {key: folder / name for key, (name, _) in RESULTS.items()}
    with (
        RowWriter("jsonl", paths["rows_jsonl"], names) as lines,
        RowWriter("csv", paths["rows_csv"], names) as table,
    ):
        chart = pipeline.TimelineSink(paths["timeline_png"], names, "video")
        rows = [pipeline.RowSink(each, "video") for each in (lines, table)]
        sinks: list[pipeline.Sink] = [_ProgressSink(pipe, limits), *rows, chart]
        if annotate:
            sinks.append(pipeline.AnnotatedVideoSink(paths["annotated"], video))
        try:
            pipeline.recognise_stream(recognizer, video, sinks, options)
        finally:
            pipe.send({"damaged": video.damaged, "partly_damaged": video.partly_damaged})
            if chart.files:
                paths["timeline"].write_text(json.dumps(chart.timeline.to_dict(seconds or 0.0)), encoding="utf-8")
    pipe.send(None)


class _ProgressSink(pipeline.Sink):
    """Sends the progress and enforces the limits."""

    def __init__(self, pipe: Connection, limits: Limits) -> None:
        self._pipe, self._limits, self._started = pipe, limits, time.perf_counter()
        self._emotions: Counter[str] = Counter()

    def write(self, result: pipeline.FrameResult) -> None:
        frame = result.frame
        if frame.time_s > self._limits.video_seconds or frame.index >= self._limits.video_frames:
            raise VideoTooLongError("too long")
        self._emotions.update(face.emotion for face in (result.faces if result.fresh else ()))
        rate, rows = (frame.index + 1) / max(1e-6, time.perf_counter() - self._started), self._emotions.total()
        counts = {"rows": rows, "emotions": dict(self._emotions.most_common())}
        self._pipe.send(counts | {"frames_done": frame.index + 1, "frames_per_second": round(rate, 2)})
