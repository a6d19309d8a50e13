"""Videos that are recognised after their upload: one folder each, in a queue, until somebody has read the results.

The folder is all there is of a video: rows go to files as they come, so that memory stays flat however long it is.
"""

import contextlib
import json
import logging
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from emodet.errors import EmodetError
from emodet.inference.capture import VideoFile
from emodet.inference.pictures import draw
from emodet.inference.pipeline import recognise_video
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import face_row, open_rows
from emodet.inference.smoothing import Smoothing
from emodet.inference.timeline import Timeline
from emodet.inference.video_writer import VideoWriter
from emodet.app.recognizers import Offer, Recognizers
from emodet.app.refusals import ApiError
from emodet.app.settings import Limits
from emodet.app.video_file import duration_s, ending_of, open_upload, told, too_long

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

    def _recognise(self, job: VideoJob, video: VideoFile, path: Path) -> None:
        state, error = "failed", None
        try:
            if not job.stop.is_set():
                job.state = "running"
                _Recognising(job, video, self._recognizers, self._limits).run()
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


class _Recognising:
    """One video from its first frame to its last."""

    def __init__(self, job: VideoJob, video: VideoFile, recognizers: Recognizers, limits: Limits) -> None:
        self._job, self._video, self._limits = job, video, limits
        order = job.order
        self._recognizer: Recognizer = recognizers.recognizer(
            order.offer, order.detector, min_confidence=order.min_confidence, max_faces=order.max_faces
        )

    def run(self) -> None:
        job, order = self._job, self._job.order
        names = self._recognizer.model.info.class_names
        timeline = Timeline(names)
        started = time.perf_counter()
        results = recognise_video(
            self._recognizer,
            self._video,
            smoothing=Smoothing(seconds=order.smooth),
            every=order.every,
            all_frames=order.annotate,
            hide=order.blur_faces and order.annotate,
        )
        with closing(results), ExitStack() as stack, self._drawn(timeline):
            writers = [
                stack.enter_context(open_rows(kind, job.folder / f"{ROWS}.{kind}", names)) for kind in ("jsonl", "csv")
            ]
            movie: VideoWriter | None = None
            for result in results:
                if job.stop.is_set():
                    if movie is not None:
                        movie.discard()
                    return
                frame = result.frame
                if frame.time_s > self._limits.video_seconds or frame.index >= self._limits.video_frames:
                    raise too_long(self._limits)
                if result.fresh:
                    for place, face in enumerate(result.faces):
                        row = face_row("video", frame.index, frame.time_s, place, face)
                        for writer in writers:
                            writer.write(row)
                        job.emotions[face.emotion] += 1
                        job.rows += 1
                    timeline.add(frame.time_s, result.faces)
                if order.annotate:
                    picture = draw(frame.image_rgb, result.faces, hidden=result.hidden if order.blur_faces else None)
                    if movie is None:
                        size = (picture.shape[1], picture.shape[0])
                        movie = stack.enter_context(
                            VideoWriter(job.folder / ANNOTATED, size=size, frame_rate=self._video.frame_rate)
                        )
                    movie.write(picture)
                job.frames_done = frame.index + 1
                job.frames_per_second = job.frames_done / max(1e-6, time.perf_counter() - started)

    @contextlib.contextmanager
    def _drawn(self, timeline: Timeline) -> Iterator[None]:
        """Write the timeline at the end, also of a video that breaks off."""
        try:
            yield
        finally:
            if self._job.frames_done and not self._job.stop.is_set():
                tracks: dict[int, list[dict[str, object]]] = {}
                for each in timeline.stretches():
                    tracks.setdefault(each.track_id, []).append(
                        {
                            "start_s": round(each.start_s, 3),
                            "end_s": round(each.end_s, 3),
                            "emotion": each.emotion,
                            "confidence": round(each.confidence, 4),
                        }
                    )
                told = {
                    "duration_s": round(max(timeline.end_s, self._job.duration_s or 0), 3),
                    "tracks": [{"track_id": number, "stretches": found} for number, found in tracks.items()],
                }
                (self._job.folder / TIMELINE).write_text(json.dumps(told), encoding="utf-8")
                picture = cv2.cvtColor(timeline.draw("video"), cv2.COLOR_RGB2BGR)
                (self._job.folder / TIMELINE_PNG).write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
