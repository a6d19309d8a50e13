"""Videos: POST /v1/videos, then its progress, its results, and its end."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.responses import FileResponse, Response, StreamingResponse

from emodet.app.openapi import one_file, refused_with
from emodet.app.recognizers import Recognizers
from emodet.app.refusals import ApiError
from emodet.app.schema import Problem, TimelineAnswer, VideoFiles, VideoOptions, VideoStatus
from emodet.app.settings import Limits
from emodet.app.uploads import save_video
from emodet.app.video_jobs import ANNOTATED, ROWS, TIMELINE, TIMELINE_PNG, Order, VideoJob, VideoJobs

__all__ = ["video_routes"]

_LOOK_S = 0.1
_PROGRESS_S = 0.25
_ALIVE_S = 15.0
_PIECE = 65_536
_MANY = 50  # rows at once: there are more to come
_RESULTS = {
    "annotated": (ANNOTATED, "annotated.mp4"),
    "rows_csv": (f"{ROWS}.csv", "rows.csv"),
    "rows_jsonl": (f"{ROWS}.jsonl", "rows.jsonl"),
    "timeline": (TIMELINE, "timeline"),
    "timeline_png": (TIMELINE_PNG, "timeline.png"),
}

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "rows", "done", "failed"]},
        "id": {"type": "string", "description": "Of rows: where they end."},
        "data": {"type": "string", "description": "JSON."},
    },
}

Number = Annotated[str, InPath(max_length=64, description="The `id` of the video.")]


def video_routes(recognizers: Recognizers, jobs: VideoJobs, limits: Limits, stopping: threading.Event) -> APIRouter:
    """All operations on videos."""
    routes = APIRouter(prefix="/v1/videos", tags=["videos"])

    @routes.post(
        "",
        status_code=202,
        responses=refused_with(400, 404, 408, 413, 422, 429, 503, 507),
        openapi_extra=one_file("video/mp4", "video/webm"),
        operation_id="send_video",
    )
    async def send(request: Request, response: Response, options: Annotated[VideoOptions, Query()]) -> VideoStatus:
        """Send a video; it is recognised while you ask for its progress, or listen to its events.

        The body is the encoded video itself (MP4, MOV, AVI, MKV, WebM and more; its Content-Type is not looked at), or
        a form with one file. The upload is deleted as soon as it is recognised.
        """
        order = Order(
            offer=recognizers.offer(options.model),
            detector=recognizers.detector_named(options.detector),
            **options.model_dump(exclude={"model", "detector"}),
        )
        job = jobs.begin(order)
        try:
            await save_video(request, job.upload, limits, stopping)
        except BaseException:
            jobs.remove(job)
            raise
        await asyncio.to_thread(jobs.start, job)
        response.headers["Location"] = f"/v1/videos/{job.number}"
        return _status(job, limits)

    @routes.get("/{number}", responses=refused_with(404), operation_id="video")
    async def status(number: Number) -> VideoStatus:
        """How far it is."""
        return _status(jobs.get(number), limits)

    @routes.delete("/{number}", status_code=204, responses=refused_with(404), operation_id="delete_video")
    async def delete(number: Number) -> None:
        """Stop it, and delete everything about it."""
        jobs.remove(jobs.get(number))

    @routes.get(
        "/{number}/events",
        responses={
            **refused_with(404),
            200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "Until its end."},
        },
        response_class=Response,
        operation_id="video_events",
    )
    async def events(request: Request, number: Number) -> Response:
        """Progress and rows as they come, as server-sent events.

        `progress`: as GET of the video. `rows`: a list of rows; their `id` continues there after a lost connection
        (the header Last-Event-ID). The last one is `done` or `failed`, with the same data as `progress`.
        """
        job = jobs.get(number)
        last = request.headers.get("last-event-id", "0")
        start = int(last) if last.isdecimal() and len(last) < 19 else 0
        return StreamingResponse(_events(job, start, limits, stopping), media_type="text/event-stream")

    def result(job: VideoJob, name: str) -> Path:
        path = job.file(name)
        if path is None:
            if job.ended:
                raise ApiError(404, "not_found", "This video has no such result.", "Its state says why.")
            raise ApiError(409, "not_ready", "It is not there yet.", "Ask again when the state is done.", retry_s=2)
        return path

    def described(kind: str, *, parts: bool = False) -> dict[str, Any]:
        answers = {200: {"content": {kind: {"schema": {"type": "string"}}}, "description": "The file."}}
        ranges = {206: {"content": {kind: {}}, "description": "A part of it."}, **refused_with(416)} if parts else {}
        return {"responses": {**refused_with(404, 409), **ranges, **answers}, "response_class": Response}

    @routes.get("/{number}/annotated.mp4", operation_id="annotated_video", **described("video/mp4", parts=True))
    async def annotated(number: Number) -> Response:
        """The annotated video: H.264 without sound."""
        return FileResponse(result(jobs.get(number), ANNOTATED), media_type="video/mp4")

    @routes.get("/{number}/rows.csv", operation_id="video_rows_csv", **described("text/csv"))
    async def rows_csv(number: Number) -> Response:
        """One row for each face of each frame, as far as it is."""
        return _so_far(result(jobs.get(number), f"{ROWS}.csv"), "text/csv")

    @routes.get("/{number}/rows.jsonl", operation_id="video_rows_jsonl", **described("application/jsonl"))
    async def rows_jsonl(number: Number) -> Response:
        """The same as JSON lines."""
        return _so_far(result(jobs.get(number), f"{ROWS}.jsonl"), "application/jsonl")

    @routes.get("/{number}/timeline.png", operation_id="timeline_picture", **described("image/png", parts=True))
    async def timeline_png(number: Number) -> Response:
        """The timeline as a picture."""
        return FileResponse(result(jobs.get(number), TIMELINE_PNG), media_type="image/png")

    @routes.get("/{number}/timeline", responses=refused_with(404, 409), operation_id="timeline")
    async def timeline(number: Number) -> TimelineAnswer:
        """Which emotion each face showed when."""
        return TimelineAnswer.model_validate_json(result(jobs.get(number), TIMELINE).read_bytes())

    return routes


def _status(job: VideoJob, limits: Limits) -> VideoStatus:
    state = job.state  # before the rest: once it says done, the rest is
    total, done = job.frames_total, job.frames_done
    progress = 1.0 if state == "done" else min(1.0, done / total) if total else None
    expires = None
    if job.finished_s is not None:
        left = job.finished_s + limits.keep_seconds - time.monotonic()
        expires = (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds")
    base = f"v1/videos/{job.number}"
    files = {key: f"{base}/{address}" if job.file(name) else None for key, (name, address) in _RESULTS.items()}
    return VideoStatus(
        id=job.number,
        state="waiting" if state in ("uploading", "waiting") else state,  # type: ignore[arg-type]
        error=None if job.error is None else Problem(**job.error.to_dict()),
        width=job.size[0],
        height=job.size[1],
        frame_rate=job.frame_rate,
        duration_s=job.duration_s,
        frames_done=done,
        frames_total=total,
        progress=progress,
        frames_per_second=round(job.frames_per_second, 2),
        faces=job.rows,
        rows=job.rows,
        emotions=dict(job.emotions.most_common()),
        files=VideoFiles(**files),
        expires_at=expires,
    )


async def _events(job: VideoJob, start: int, limits: Limits, stopping: threading.Event) -> AsyncGenerator[str, None]:
    at, told_s, told = start, 0.0, ""
    path = job.folder / f"{ROWS}.jsonl"
    while not stopping.is_set() and not job.stop.is_set():
        ended = job.ended  # before the rows are read: then those are all
        rows, at = _rows_after(path, at)
        if rows:
            yield f"event: rows\nid: {at}\ndata: [{','.join(rows)}]\n\n"
            continue_at_once = len(rows) >= _MANY
        elif ended:
            break
        else:
            continue_at_once = False
        status, now = _status(job, limits).model_dump_json(), time.monotonic()
        if status != told and now - told_s >= _PROGRESS_S and not ended:
            yield f"event: progress\ndata: {status}\n\n"
            told_s, told = now, status
        elif now - told_s >= _ALIVE_S:
            yield ": still here\n\n"
            told_s = now
        if not continue_at_once:
            await asyncio.sleep(_LOOK_S)
    if job.stop.is_set() or stopping.is_set():
        gone = ApiError(410, "gone", "The video was deleted, or the server ends.", "Send it again.")
        yield f"event: failed\ndata: {json.dumps({'state': 'failed', 'error': gone.to_dict()})}\n\n"
        return
    event = "done" if job.state == "done" else "failed"
    yield f"event: {event}\ndata: {_status(job, limits).model_dump_json()}\n\n"


def _rows_after(path: Path, at: int) -> tuple[list[str], int]:
    """Whole lines of a growing file after a position, and the position after them."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            data = file.read(_PIECE)
    except OSError:  # not there yet, or not any more
        return [], at
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace").splitlines(), at + len(whole)


def _so_far(path: Path, kind: str) -> Response:
    """A file as long as it is now: it may be growing."""
    file = path.open("rb")
    size = path.stat().st_size

    def pieces() -> Iterator[bytes]:
        left = size
        with file:
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece

    return StreamingResponse(pieces(), media_type=kind, headers={"Content-Length": str(size)})
