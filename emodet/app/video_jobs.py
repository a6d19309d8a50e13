"""Recognition of uploaded videos: a queue, one process at a time, and one folder of results per video."""

import re
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer

from emodet.app.errors import ApiError, busy
from emodet.app.processes import Process, ProcessEnded
from emodet.app.schema import VideoFiles, VideoOptions, VideoStatus
from emodet.app.settings import Limits
from emodet.app.video_work import RESULTS, VideoTooLongError, recognise
from emodet.errors import EmodetError
from emodet.inference.pipeline import StreamOptions
from emodet.inference.recognizer import Recognizer
from emodet.inference.tracking import Smoothing

_SKIPPED_S = 0.2  # time limit for a frame that `every` skips


@dataclass(slots=True, eq=False)
class VideoJob:
    """One video; its folder contains the upload and the results."""

    folder: Path
    recognizer: Recognizer
    options: StreamOptions
    annotate: bool
    status: VideoStatus
    process: Process | None = None  # None while the video is being uploaded
    deleted: bool = False
    deletion: Timer | None = None  # started when the job ends

    @property
    def ended(self) -> bool:
        """Whether the job is done or failed."""
        return self.status.state in ("done", "failed")

    @property
    def upload(self) -> Path:
        """Path of the uploaded file, which is deleted when the recognition ends."""
        return self.folder / "upload"

    def result(self, name: str) -> Path | None:
        """Return the path of one of `RESULTS`, or None if it is not ready. Rows can be read while they are written."""
        path = self.folder / name
        return path if path.exists() and (self.ended or path.suffix in (".jsonl", ".csv")) else None

    def snapshot(self) -> VideoStatus:
        """Return the current status."""
        status = self.status
        done, total = status.frames_done, status.frames_total
        progress = 1.0 if status.state == "done" else min(1.0, done / total) if total else None
        addresses = {key: f"v1/videos/{status.id}/{name}" for key, (name, _) in RESULTS.items() if self.result(name)}
        return status.model_copy(update={"progress": progress, "files": VideoFiles(**addresses)})

    def update(self, **fields: object) -> None:
        """Set fields of the status."""
        self.status = self.status.model_copy(update=fields)


class VideoJobs:
    """All videos of a server."""

    folder: Path  # parent folder of the videos' folders; must be set before the first upload

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: dict[str, VideoJob] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")

    @property
    def active(self) -> int:
        """Number of videos being uploaded, waiting or running."""
        return sum(not job.ended for job in list(self._jobs.values()))

    def create(self, options: VideoOptions, recognizer: Recognizer) -> VideoJob:
        """Create the job for a video before its upload; raises `ApiError` if there are too many."""
        self._check_queue()
        jobs = list(self._jobs.values())
        uploading = sum(job.process is None for job in jobs)
        if uploading >= self._limits.videos_uploading:
            message = f"{uploading} videos are being uploaded."
            raise busy(message, "Try again when one of them is complete.", 15)
        surplus = max(0, len(jobs) - uploading + 1 - self._limits.videos_kept)
        for job in [job for job in jobs if job.ended][:surplus]:
            self.delete(job)
        number = secrets.token_urlsafe(18)
        folder = self.folder / number
        folder.mkdir(mode=0o700)
        hide = options.blur_faces and options.annotate
        stream = StreamOptions(smoothing=Smoothing(seconds=options.smooth), every=options.every, hide=hide)
        self._jobs[number] = VideoJob(folder, recognizer, stream, options.annotate, VideoStatus(id=number))
        return self._jobs[number]

    def start(self, job: VideoJob) -> VideoStatus:
        """Open the uploaded video and queue it; returns its status. Blocks, so call it in a thread.

        Raises `ApiError` if the file is not a video, exceeds the limits, or the queue is full.
        """
        self._check_queue()
        job.process = Process(recognise, job.upload, self._limits)
        try:
            header = job.process.receive(self._limits.open_seconds)
        except (TimeoutError, EmodetError) as problem:
            raise self._error(problem, job) from None
        job.update(**header)
        waiting = job.snapshot()
        self._thread.submit(self._run, job, job.process)
        return waiting

    def get(self, number: str) -> VideoJob:
        """Return a video by its id; raises `ApiError` for an unknown id."""
        job = self._jobs.get(number)
        if job is None or job.process is None:
            way_out = f"Results are deleted {self._limits.keep_seconds / 60:g} minutes after a video is done."
            raise ApiError(404, "not_found", "There is no video with this id, or it was deleted.", way_out)
        return job

    def delete(self, job: VideoJob) -> None:
        """Cancel a job and delete its files."""
        job.deleted = True
        self._jobs.pop(job.status.id, None)
        if job.deletion is not None:
            job.deletion.cancel()
        if job.process is not None:
            job.process.close()
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        """Cancel and delete all jobs."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for job in list(self._jobs.values()):
            self.delete(job)

    def _check_queue(self) -> None:
        queued = sum(not job.ended and job.process is not None for job in list(self._jobs.values()))
        if queued > self._limits.videos_waiting:
            raise busy(f"The server is busy with {queued} videos.", "Try again when one of them is done.", 15)

    def _run(self, job: VideoJob, process: Process) -> None:
        """Recognise a video and update its status."""
        limits, error = self._limits, None
        job.update(state="running")
        pause = limits.frame_seconds + job.options.every * _SKIPPED_S
        end = time.monotonic() + limits.recognise_seconds
        try:
            process.send((job.recognizer, job.options, job.annotate, job.folder))
            while (fields := process.receive(max(0.0, min(pause, end - time.monotonic())))) is not None:
                job.update(**fields)
        except (TimeoutError, EmodetError) as problem:
            error = self._error(problem, job).problem
        process.close()
        job.upload.unlink(missing_ok=True)
        if not job.deleted:
            job.deletion = Timer(limits.keep_seconds, self.delete, (job,))
            job.deletion.daemon = True
            job.deletion.start()
        expires_at = (datetime.now(UTC) + timedelta(seconds=limits.keep_seconds)).isoformat(timespec="seconds")
        job.update(state="failed" if error else "done", error=error, expires_at=expires_at)

    def _error(self, problem: Exception, job: VideoJob) -> ApiError:
        """Return the error of a rejected video, or of a recognition that ended early."""
        limits, opened = self._limits, job.status.state != "waiting"
        if isinstance(problem, VideoTooLongError):
            limit = f"{limits.video_seconds / 60:g} minutes or {limits.video_frames:,} frames"
            return ApiError(422, "video_too_long", f"The video is longer than {limit}.", "Send a part of it.")
        if isinstance(problem, ProcessEnded) and opened:
            return ApiError(500, "internal", "The recognition of the video crashed.", "See the server's log.")
        if isinstance(problem, TimeoutError):
            text = f"The video was not opened within {limits.open_seconds:g} seconds"
            text = "Decoding and recognising the video takes too long: it may be damaged" if opened else text
        elif opened:
            text = re.sub(re.escape(str(job.folder)) + r"[\\/][^\s:]+:?\s*", "", str(problem)).rstrip(".")
        else:
            text = "The frames are too large" if "pixels" in str(problem) else "The file is not a readable video"
        way_out = f"Send MP4, MOV, AVI, MKV or WebM with frames of at most {limits.pixels:,} pixels."
        if job.status.frames_done:
            way_out = "The results up to this point are available."
        return ApiError(422, "video_unreadable", f"{text[:1].upper()}{text[1:]}.", way_out)
