"""Videos that are recognised after their upload: one folder each, in a queue, until somebody has read the results.

The folder is all there is of a video: rows go to files as they come, so that memory stays flat however long it is.
"""

import json
import logging
import secrets
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from emodet.app.recognizers import Offer, Recognizers
from emodet.app.refusals import ApiError
from emodet.app.settings import Limits
from emodet.app.video_file import duration_s, ending_of, open_upload, told, too_long
from emodet.errors import EmodetError
from emodet.inference.pipeline import Result, StreamOptions, recognise_stream
from emodet.inference.rows import open_rows
from emodet.inference.sinks import AnnotatedVideoSink, RowSink, Sink, TimelineSink
from emodet.inference.smoothing import Smoothing
from emodet.inference.timeline import Timeline
from emodet.inference.video_reader import VideoReader

__all__ = ["Order", "VideoJob", "VideoJobs"]

ANNOTATED, TIMELINE, TIMELINE_PNG, ROWS = "annotated.mp4", "timeline.json", "timeline.png", "rows"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Order:
    """How a video is to be recognised; as `emodet.app.schema.VideoOptions` says."""

    offer: Offer
    detector: str
    min_confidence: float
    max_faces: int | None
    every: int
    smooth: float
    annotate: bool
    blur_faces: bool


@dataclass(slots=True, eq=False)
class VideoJob:
    """One video. The thread that recognises it writes, others read.

    Attributes:
        number: Random; whoever knows it can read the results.
        folder: Its own.
        order: What was asked for.
        state: ``uploading``, ``waiting``, ``running``, ``done``, ``failed``.
        error: Why it failed.
        stop: Set when nobody wants it any more.
        finished_s: `time.monotonic` when it was done.
    """

    number: str
    folder: Path
    order: Order
    state: str = "uploading"
    error: ApiError | None = None
    size: tuple[int, int] = (0, 0)
    frame_rate: float = 0.0
    duration_s: float | None = None
    frames_total: int | None = None
    frames_done: int = 0
    rows: int = 0
    frames_per_second: float = 0.0
    emotions: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    finished_s: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed")

    @property
    def upload(self) -> Path:
        """Where the upload is written; it is renamed when it is whole."""
        return self.folder / "upload.part"

    def file(self, name: str) -> Path | None:
        """One of its results, or None while there is none."""
        path = self.folder / name
        return path if path.exists() and (self.ended or path.suffix in (".jsonl", ".csv")) else None


class VideoJobs:
    """All videos of a server."""

    def __init__(self, recognizers: Recognizers, limits: Limits) -> None:
        """Without a folder yet: `open` comes before the first video."""
        self._recognizers = recognizers
        self._folder: Path | None = None
        self._limits = limits
        self._jobs: dict[str, VideoJob] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")

    def open(self, folder: Path) -> None:
        """Take a folder for theirs; whoever made it deletes it after `close`."""
        self._folder = folder

    @property
    def busy(self) -> int:
        """How many are being uploaded, wait or are being recognised."""
        return sum(not job.ended for job in self._jobs.values())

    def begin(self, order: Order) -> VideoJob:
        """Make room for a video that is about to be uploaded.

        Raises:
            ApiError: Too many are there already.
        """
        assert self._folder is not None, "the application's lifespan was not started"
        if self.busy > self._limits.videos_waiting:
            message = f"The server is busy with {self.busy} videos."
            raise ApiError(429, "busy", message, "Try again when one of them is done.", retry_s=15)
        ended = [job for job in self._jobs.values() if job.ended]
        while len(self._jobs) >= self._limits.videos_kept and ended:
            self.remove(ended.pop(0))
        number = secrets.token_urlsafe(18)
        job = VideoJob(number, self._folder / number, order)
        job.folder.mkdir(mode=0o700)
        self._jobs[number] = job
        return job

    def start(self, job: VideoJob) -> None:
        """Look at what was uploaded, and put it into the queue. It takes milliseconds: not for the event loop.

        Raises:
            ApiError: It is no video, or exceeds the limits. The job is gone then.
        """
        try:
            with job.upload.open("rb") as file:
                path = job.upload.with_suffix(ending_of(file.read(16)))
            job.upload.rename(path)
            video = open_upload(path, self._limits)
        except BaseException:
            self.remove(job)
            raise
        job.size, job.frame_rate, job.duration_s = video.size, video.frame_rate, duration_s(video)
        job.frames_total = video.frame_count or None
        job.state = "waiting"
        self._thread.submit(self._recognise, job, video, path)

    def get(self, number: str) -> VideoJob:
        """A video by its number.

        Raises:
            ApiError: There is none, or none any more.
        """
        job = self._jobs.get(number)
        if job is None or job.state == "uploading":
            minutes = self._limits.keep_seconds / 60
            way_out = f"Results are deleted {minutes:g} minutes after a video is done; send it again."
            raise ApiError(404, "not_found", "There is no video of this number, or none any more.", way_out)
        return job

    def remove(self, job: VideoJob) -> None:
        """Stop a video and delete everything about it."""
        job.stop.set()
        self._jobs.pop(job.number, None)
        if job.state != "running":
            _delete(job.folder)

    def sweep(self) -> None:
        """Delete what has been kept long enough."""
        now = time.monotonic()
        for job in list(self._jobs.values()):
            if job.finished_s is not None and now - job.finished_s > self._limits.keep_seconds:
                self.remove(job)

    def stop(self) -> None:
        """Let nothing go on; `close` waits for it."""
        for job in list(self._jobs.values()):
            job.stop.set()

    def close(self) -> None:
        """Stop and delete everything."""
        self.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)
        for job in list(self._jobs.values()):
            self.remove(job)

    def _recognise(self, job: VideoJob, video: VideoReader, path: Path) -> None:
        state, error = "failed", None
        try:
            if not job.stop.is_set():
                job.state = "running"
                _recognise(job, video, self._recognizers, self._limits)
                state = "done"
        except ApiError as problem:
            error = problem
        except EmodetError as problem:
            way_out = "What was recognised before is there." if job.frames_done else "Send another file."
            error = ApiError(422, "video_unreadable", told(problem, job.folder), way_out)
        except Exception:
            _log.exception("a video failed")
            error = ApiError(500, "internal", "Something broke in the server.", "Its messages say what.")
        finally:
            path.unlink(missing_ok=True)
            job.finished_s = time.monotonic()
            job.error, job.state = error, state
            if job.stop.is_set() or job.number not in self._jobs:
                job.state = "failed"
                _delete(job.folder)


class _JobSink(Sink):
    """Progress of a video, its limits, and the timeline as JSON."""

    def __init__(self, job: VideoJob, limits: Limits, timeline: Timeline) -> None:
        super().__init__()
        self._job, self._limits, self._timeline = job, limits, timeline
        self._started = time.perf_counter()

    def write(self, result: Result) -> None:
        job, frame = self._job, result.frame
        if frame.time_s > self._limits.video_seconds or frame.index >= self._limits.video_frames:
            raise too_long(self._limits)
        if result.fresh:
            job.emotions.update(face.emotion for face in result.faces)
            job.rows += len(result.faces)
        job.frames_done = frame.index + 1
        job.frames_per_second = job.frames_done / max(1e-6, time.perf_counter() - self._started)

    def close(self, *, complete: bool) -> None:
        if self._job.frames_done and not self._job.stop.is_set():
            told = self._timeline.to_dict(self._job.duration_s or 0.0)
            (self._job.folder / TIMELINE).write_text(json.dumps(told), encoding="utf-8")


def _recognise(job: VideoJob, video: VideoReader, recognizers: Recognizers, limits: Limits) -> None:
    """Recognise one video from its first frame to its last; what was recognised before an error stays."""
    order = job.order
    recognizer = recognizers.recognizer(
        order.offer, order.detector, min_confidence=order.min_confidence, max_faces=order.max_faces
    )
    names = recognizer.model.info.class_names
    chart = TimelineSink(job.folder / TIMELINE_PNG, names, "video")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(open_rows(kind, job.folder / f"{ROWS}.{kind}", names)) for kind in ("jsonl", "csv")
        ]
        sinks = [_JobSink(job, limits, chart.timeline), RowSink(writers, "video"), chart]
        if order.annotate:
            sinks.append(AnnotatedVideoSink(job.folder / ANNOTATED, video))
        options = StreamOptions(
            smoothing=Smoothing(seconds=order.smooth), every=order.every, hide=order.blur_faces and order.annotate
        )
        recognise_stream(recognizer, video, sinks, options, stop=job.stop)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
