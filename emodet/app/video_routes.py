"""Videos: POST /v1/videos, then status, events and results."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi import Path as InPath
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import FileResponse, Response, StreamingResponse

from emodet.app.errors import ApiError, error_responses
from emodet.app.schema import Problem, TimelineAnswer, VideoFiles, VideoOptions, VideoStatus
from emodet.app.settings import Limits
from emodet.app.state import State
from emodet.app.uploads import one_file, save_video
from emodet.app.video_jobs import ANNOTATED, ROWS, TIMELINE, TIMELINE_PNG, VideoJob

__all__ = ["router"]

_POLL_S, _PROGRESS_S = 0.1, 0.25
_CHUNK = 65_536
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
        "id": {"type": "string", "description": "With rows: the position after them."},
        "data": {"type": "string", "description": "JSON."},
    },
}

router = APIRouter(prefix="/v1/videos", tags=["videos"])


def _job(state: State, number: Annotated[str, InPath(max_length=64, description="The `id` of the video.")]) -> VideoJob:
    return state.jobs.get(number)


Job = Annotated[VideoJob, Depends(_job)]


@router.post(
    "",
    status_code=202,
    responses=error_responses(400, 404, 408, 413, 422, 429, 503, 507),
    openapi_extra=one_file("video/mp4", "video/webm"),
    operation_id="send_video",
)
async def send_video(
    request: Request, response: Response, state: State, options: Annotated[VideoOptions, Query()]
) -> VideoStatus:
    """Upload a video and queue it. Poll its status, or listen to its events.

    The body is the encoded video (MP4, MOV, AVI, MKV, WebM and others; the Content-Type is ignored), or a form with one
    file. The upload is deleted when the recognition ends.
    """
    job = state.jobs.create(options)
    try:
        await save_video(request, job.upload, state.limits)
    except BaseException:
        state.jobs.delete(job)
        raise
    await asyncio.to_thread(state.jobs.start, job)
    response.headers["Location"] = f"/v1/videos/{job.number}"
    return _status(job, state.limits)


@router.get("/{number}", responses=error_responses(404), operation_id="video")
async def get_video(job: Job, state: State) -> VideoStatus:
    """Status and progress."""
    return _status(job, state.limits)


@router.delete("/{number}", status_code=204, responses=error_responses(404), operation_id="delete_video")
async def delete_video(job: Job, state: State) -> None:
    """Cancel the recognition and delete the video and its results."""
    state.jobs.delete(job)


@router.get(
    "/{number}/events",
    responses={
        **error_responses(404, by_reference=True),
        200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}, "description": "Events until the end."},
    },
    response_class=EventSourceResponse,
    operation_id="video_events",
)
async def video_events(
    job: Job, state: State, last_event_id: Annotated[str, Header(include_in_schema=False)] = "0"
) -> AsyncIterator[ServerSentEvent]:
    """Progress and rows as server-sent events.

    `progress`: the status of the video. `rows`: a list of rows; the header Last-Event-ID with their `id` continues
    after them. The last event is `done` or `failed`, with the status.
    """
    position = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else 0
    path = job.folder / f"{ROWS}.jsonl"
    sent, sent_s = "", 0.0
    while not job.stop.is_set():
        ended = job.ended  # read before the rows, which are complete if it is true
        rows, position = _rows_after(path, position)
        if rows:
            yield ServerSentEvent(event="rows", id=str(position), raw_data=f"[{','.join(rows)}]")
        elif ended:
            status = _status(job, state.limits)
            yield ServerSentEvent(event="done" if status.state == "done" else "failed", data=status)
            return
        status_json, now = _status(job, state.limits).model_dump_json(), time.monotonic()
        if status_json != sent and now - sent_s >= _PROGRESS_S and not ended:
            yield ServerSentEvent(event="progress", raw_data=status_json)
            sent, sent_s = status_json, now
        await asyncio.sleep(0 if ended else _POLL_S)
    error = ApiError(410, "gone", "The video was deleted, or the server is shutting down.", "Send it again.")
    yield ServerSentEvent(event="failed", raw_data=json.dumps({"state": "failed", "error": error.to_dict()}))


def _file_response(media_type: str, *, ranges: bool = False) -> dict[str, Any]:
    """The OpenAPI description of an operation that returns a file."""
    responses: dict[int | str, Any] = error_responses(404, 409)
    if ranges:
        responses |= {206: {"content": {media_type: {}}, "description": "A part of the file."}, **error_responses(416)}
    responses[200] = {"content": {media_type: {"schema": {"type": "string"}}}, "description": "The file."}
    return {"responses": responses, "response_class": Response}


@router.get("/{number}/annotated.mp4", operation_id="annotated_video", **_file_response("video/mp4", ranges=True))
async def get_annotated(job: Job) -> Response:
    """The annotated video: H.264, with the sound of the source."""
    return FileResponse(_result(job, ANNOTATED), media_type="video/mp4")


@router.get("/{number}/rows.csv", operation_id="video_rows_csv", **_file_response("text/csv"))
async def get_rows_csv(job: Job) -> Response:
    """One row per face and frame, as far as recognised."""
    return _growing_file(_result(job, f"{ROWS}.csv"), "text/csv")


@router.get("/{number}/rows.jsonl", operation_id="video_rows_jsonl", **_file_response("application/jsonl"))
async def get_rows_jsonl(job: Job) -> Response:
    """The same as JSON lines."""
    return _growing_file(_result(job, f"{ROWS}.jsonl"), "application/jsonl")


@router.get("/{number}/timeline.png", operation_id="timeline_picture", **_file_response("image/png", ranges=True))
async def get_timeline_png(job: Job) -> Response:
    """The timeline as an image."""
    return FileResponse(_result(job, TIMELINE_PNG), media_type="image/png")


@router.get("/{number}/timeline", responses=error_responses(404, 409), operation_id="timeline")
async def get_timeline(job: Job) -> TimelineAnswer:
    """Emotion over time, per face."""
    return TimelineAnswer.model_validate_json(_result(job, TIMELINE).read_bytes())


def _result(job: VideoJob, name: str) -> Path:
    path = job.file(name)
    if path is None:
        if job.ended:
            raise ApiError(404, "not_found", "This video has no such result.", "Its status says why.")
        raise ApiError(409, "not_ready", "The result is not ready yet.", "Try again when the state is done.", retry_s=2)
    return path


def _status(job: VideoJob, limits: Limits) -> VideoStatus:
    state = job.state  # read first: if it is done, the other values are final
    total, done = job.frames_total, job.frames_done
    expires = None
    if job.finished_s is not None:
        left = job.finished_s + limits.keep_seconds - time.monotonic()
        expires = (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds")
    base = f"v1/videos/{job.number}"
    files = {key: f"{base}/{address}" if job.file(name) else None for key, (name, address) in _RESULTS.items()}
    return VideoStatus(
        id=job.number,
        state="waiting" if state == "uploading" else state,  # type: ignore[arg-type]
        error=None if job.error is None else Problem(**job.error.to_dict()),
        width=job.size[0],
        height=job.size[1],
        frame_rate=job.frame_rate,
        duration_s=job.duration_s,
        frames_done=done,
        frames_total=total,
        progress=1.0 if state == "done" else min(1.0, done / total) if total else None,
        frames_per_second=round(job.frames_per_second, 2),
        faces=job.rows,
        rows=job.rows,
        emotions=dict(job.emotions.most_common()),
        files=VideoFiles(**files),
        expires_at=expires,
    )


def _rows_after(path: Path, position: int) -> tuple[list[str], int]:
    """Complete lines of a growing file after a position, and the position after them."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read(_CHUNK)
    except OSError:  # not written yet, or deleted
        return [], position
    lines = data[: data.rfind(b"\n") + 1]
    return lines.decode("utf-8", "replace").splitlines(), position + len(lines)


def _growing_file(path: Path, media_type: str) -> Response:
    """A file at its present length, though it may grow meanwhile."""
    file = path.open("rb")
    size = path.stat().st_size

    def chunks() -> Iterator[bytes]:
        left = size
        with file:
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk

    return StreamingResponse(chunks(), media_type=media_type, headers={"Content-Length": str(size)})
