"""Recognition of uploaded videos: a queue, one worker thread, and one folder of results per video."""

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from emodet.app.errors import ApiError
from emodet.app.models import Offer, Recognizers
from emodet.app.schema import Problem, VideoFiles, VideoOptions, VideoStatus
from emodet.app.settings import Limits
from emodet.errors import EmodetError
from emodet.inference.pipeline import FrameResult, StreamOptions, recognise_stream
from emodet.inference.rows import RowWriter
from emodet.inference.sinks import AnnotatedVideoSink, RowSink, Sink, TimelineSink
from emodet.inference.timeline import Timeline
from emodet.inference.tracking import Smoothing
from emodet.inference.video_reader import VideoReader

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RESULTS", "VideoJob", "VideoJobs", "temporary_folder"]

RESULTS = {
    "annotated": "annotated.mp4",
    "rows_csv": "rows.csv",
    "rows_jsonl": "rows.jsonl",
    "timeline": "timeline",
    "timeline_png": "timeline.png",
}
"""Field of `VideoFiles` to the name of the file, which is also the end of its URL."""

_FOLDER_PREFIX = "emodet-app-"

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class VideoJob:
    """One video. The worker thread writes the attributes, others read them.

    Attributes:
        folder: Holds the upload and the results.
        stop: Set to cancel the job.
        finished_s: `time.monotonic` at its end.
    """

    folder: Path
    offer: Offer
    detector: str
    options: VideoOptions
    status: VideoStatus
    uploading: bool = True
    emotions: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    finished_s: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is done or failed."""
        return self.status.state in ("done", "failed")

    @property
    def upload(self) -> Path:
        """Path of the uploaded file, which is deleted at the end."""
        return self.folder / "upload"

    def result(self, name: str) -> Path | None:
        """Path of one of `RESULTS`; None if it does not exist yet. Rows can be read while they are written."""
        path = self.folder / name
        return path if path.exists() and (self.ended or path.suffix in (".jsonl", ".csv")) else None

    def snapshot(self, keep_seconds: float) -> VideoStatus:
        """The present status."""
        status = self.status.model_copy(update={"emotions": dict(self.emotions.most_common())})
        status.faces = status.rows
        done, total = status.frames_done, status.frames_total
        status.progress = 1.0 if status.state == "done" else min(1.0, done / total) if total else None
        addresses = {key: f"v1/videos/{status.id}/{name}" for key, name in RESULTS.items() if self.result(name)}
        status.files = VideoFiles(**addresses)
        if self.finished_s is not None:
            left = timedelta(seconds=self.finished_s + keep_seconds - time.monotonic())
            status.expires_at = (datetime.now(UTC) + left).isoformat(timespec="seconds")
        return status


class VideoJobs:
    """All videos of a server.

    Attributes:
        folder: Holds the folders of the videos; must be set before the first upload.
    """

    folder: Path

    def __init__(self, recognizers: Recognizers, limits: Limits) -> None:
        self._recognizers, self._limits = recognizers, limits
        self._jobs: dict[str, VideoJob] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")
        self._idle = threading.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Number of videos being uploaded, waiting or running."""
        return sum(not job.ended for job in list(self._jobs.values()))

    def create(self, options: VideoOptions) -> VideoJob:
        """A job for a video that is about to be uploaded. Raises an `ApiError` if there are too many."""
        offer = self._recognizers.offer(options.model)
        detector = self._recognizers.detector_name(options.detector)
        self._check_queue()
        jobs = list(self._jobs.values())
        uploading = sum(job.uploading for job in jobs)
        if uploading >= self._limits.videos_uploading:
            message = f"{uploading} videos are being uploaded."
            raise ApiError(429, "busy", message, "Try again when one of them is complete.", retry_s=15)
        surplus = max(0, len(jobs) - uploading + 1 - self._limits.videos_kept)
        for job in [job for job in jobs if job.ended][:surplus]:
            self.delete(job)
        number = secrets.token_urlsafe(18)
        job = VideoJob(self.folder / number, offer, detector, options, VideoStatus(id=number))
        job.folder.mkdir(mode=0o700)
        self._jobs[number] = job
        return job

    def start(self, job: VideoJob) -> VideoStatus:
        """Open the uploaded video and queue it. Takes milliseconds: do not call it in the event loop.

        Returns:
            The status before the recognition starts.

        Raises:
            ApiError: It is not a video, exceeds the limits, or the queue is full. The job is deleted.
        """
        try:
            self._check_queue()
            video = _open(job.upload, self._limits)
        except BaseException:
            self.delete(job)
            raise
        status = job.status
        (status.width, status.height), status.frame_rate = video.size, video.frame_rate
        status.duration_s, status.frames_total = video.duration_s, video.frame_count or None
        job.uploading = False
        waiting = job.snapshot(self._limits.keep_seconds)
        self._thread.submit(self._run, job, video)
        return waiting

    def get(self, number: str) -> VideoJob:
        """A video by its id. Raises an `ApiError` if there is none."""
        job = self._jobs.get(number)
        if job is None or job.uploading:
            way_out = f"Results are deleted {self._limits.keep_seconds / 60:g} minutes after a video is done."
            raise ApiError(404, "not_found", "There is no video with this id, or it was deleted.", way_out)
        return job

    def delete(self, job: VideoJob) -> None:
        """Cancel a job and delete its files."""
        job.stop.set()
        self._jobs.pop(job.status.id, None)
        if job.status.state != "running":  # otherwise its thread does it
            shutil.rmtree(job.folder, ignore_errors=True)

    def delete_old(self) -> None:
        """Delete results that were kept for `Limits.keep_seconds`."""
        oldest = time.monotonic() - self._limits.keep_seconds
        for job in list(self._jobs.values()):
            if job.finished_s is not None and job.finished_s < oldest:
                self.delete(job)

    def close(self, *, timeout_s: float) -> bool:
        """Cancel and delete everything. Returns whether the running job ended within `timeout_s`."""
        for job in list(self._jobs.values()):
            self.delete(job)
        self._thread.shutdown(wait=False, cancel_futures=True)
        return self._idle.wait(timeout_s)

    def _check_queue(self) -> None:
        queued = sum(not job.ended and not job.uploading for job in list(self._jobs.values()))
        if queued > self._limits.videos_waiting:
            message = f"The server is busy with {queued} videos."
            raise ApiError(429, "busy", message, "Try again when one of them is done.", retry_s=15)

    def _run(self, job: VideoJob, video: VideoReader) -> None:
        state: Literal["done", "failed"] = "failed"
        error: ApiError | None = None
        self._idle.clear()
        try:
            if not job.stop.is_set():
                job.status.state = "running"
                _recognise(job, video, self._recognizers, self._limits)
                state = "done"
        except ApiError as problem:
            error = problem
        except EmodetError as problem:
            way_out = "The results up to there are available." if job.status.frames_done else "Send another file."
            error = ApiError(422, "video_unreadable", _without_paths(problem, job.folder), way_out)
        except Exception:
            _log.exception("video recognition failed")
            error = ApiError(500, "internal", "Internal error.", "See the server's log.")
        finally:
            job.upload.unlink(missing_ok=True)
            job.finished_s = time.monotonic()
            job.status.error = None if error is None else Problem(**error.to_dict())
            job.status.state = "failed" if job.stop.is_set() else state
            if job.stop.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)
            self._idle.set()


class _JobSink(Sink):
    """Updates the progress of a job, enforces the limits, and writes the timeline as JSON."""

    def __init__(self, job: VideoJob, limits: Limits, timeline: Timeline) -> None:
        super().__init__()
        self._job, self._limits, self._timeline = job, limits, timeline
        self._started = time.perf_counter()

    def write(self, result: FrameResult) -> None:
        job, status, frame = self._job, self._job.status, result.frame
        if frame.time_s > self._limits.video_seconds or frame.index >= self._limits.video_frames:
            raise _too_long(self._limits)
        if result.fresh:
            job.emotions.update(face.emotion for face in result.faces)
            status.rows += len(result.faces)
        status.frames_done = frame.index + 1
        status.frames_per_second = round(status.frames_done / max(1e-6, time.perf_counter() - self._started), 2)

    def close(self, *, complete: bool) -> None:
        if self._job.status.frames_done and not self._job.stop.is_set():
            values = self._timeline.to_dict(self._job.status.duration_s or 0.0)
            (self._job.folder / RESULTS["timeline"]).write_text(json.dumps(values), encoding="utf-8")


def _recognise(job: VideoJob, video: VideoReader, recognizers: Recognizers, limits: Limits) -> None:
    """Recognise one video; results up to an error are kept."""
    options = job.options
    recognizer = recognizers.recognizer(
        job.offer, job.detector, min_confidence=options.min_confidence, max_faces=options.max_faces
    )
    names = recognizer.model.info.class_names
    chart = TimelineSink(job.folder / RESULTS["timeline_png"], names, "video")
    with ExitStack() as stack:
        writers = [
            stack.enter_context(RowWriter(kind, job.folder / f"rows.{kind}", names)) for kind in ("jsonl", "csv")
        ]
        sinks = [_JobSink(job, limits, chart.timeline), RowSink(writers, "video"), chart]
        if options.annotate:
            sinks.append(AnnotatedVideoSink(job.folder / RESULTS["annotated"], video))
        hide = options.blur_faces and options.annotate
        how = StreamOptions(smoothing=Smoothing(seconds=options.smooth), every=options.every, hide=hide)
        recognise_stream(recognizer, video, sinks, how, stop=job.stop)


def _open(path: Path, limits: Limits) -> VideoReader:
    """Open an uploaded video. Raises an `ApiError` if it is not a video or exceeds the limits."""
    try:
        video = VideoReader(path, max_pixels=limits.pixels)
    except EmodetError as problem:
        message = "The frames are too large." if "pixels" in str(problem) else "The file is not a readable video."
        way_out = f"Send MP4, MOV, AVI, MKV or WebM with frames of at most {limits.pixels:,} pixels."
        raise ApiError(422, "video_unreadable", message, way_out) from None
    seconds = video.duration_s
    if seconds is not None and (seconds > limits.video_seconds or video.frame_count > limits.video_frames):
        raise _too_long(limits)
    return video


def _too_long(limits: Limits) -> ApiError:
    most = f"{limits.video_seconds / 60:g} minutes or {limits.video_frames:,} frames"
    return ApiError(422, "video_too_long", f"The video is longer than {most}.", "Send a part of it.")


def _without_paths(problem: EmodetError, folder: Path) -> str:
    text = re.sub(re.escape(str(folder)) + r"[\\/][^\s:]+:?\s*", "", str(problem))
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A private folder, deleted at the end. Also deletes the folders of servers that were killed."""
    # ignore_cleanup_errors: a job that did not stop in time may still write.
    with tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX, ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        if fcntl is not None:
            # The lock is held as long as this process lives.
            lock = stack.enter_context((folder / "lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            for other in set(folder.parent.glob(f"{_FOLDER_PREFIX}*")) - {folder}:
                _delete_abandoned(other)
        yield folder


def _delete_abandoned(folder: Path) -> None:
    # Fails, and is left alone: of another user, in use, or not ours.
    with contextlib.suppress(OSError):
        if folder.lstat().st_uid == os.getuid():
            with (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
