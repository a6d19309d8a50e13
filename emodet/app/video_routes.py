"""Operations on videos: upload, status, events, results and deletion."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi import Path as InPath
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from emodet.app.errors import ApiError, error_responses
from emodet.app.schema import VideoOptions, VideoStatus
from emodet.app.server import ServerDep
from emodet.app.uploads import one_file, save_video
from emodet.app.video_jobs import VideoJob
from emodet.app.video_work import RESULTS

_POLL_S = 0.2
_CHUNK = 1 << 18
_MEDIA_TYPES = dict(RESULTS.values())
_TYPES = {
    kind: {"schema": {"type": "object" if kind.endswith("/json") else "string"}} for kind in _MEDIA_TYPES.values()
}

router = APIRouter(prefix="/v1/videos", tags=["videos"])


async def _job(
    server: ServerDep, number: Annotated[str, InPath(max_length=64, description="The `id` of the video.")]
) -> VideoJob:
    return server.jobs.get(number)


Job = Annotated[VideoJob, Depends(_job)]


@router.post(
    "",
    status_code=202,
    responses=error_responses(400, 404, 408, 413, 422, 429, 503, 507),
    openapi_extra=one_file("video/mp4", "video/webm"),
    operation_id="send_video",
)
async def send_video(
    request: Request, response: Response, server: ServerDep, options: Annotated[VideoOptions, Query()]
) -> VideoStatus:
    """Upload a video and queue it. Then poll its status, or listen to its events.

    The body is the encoded video (MP4, MOV, AVI, MKV, WebM and others; the Content-Type is ignored), or a form with one
    file. The upload is deleted when the recognition ends.
    """
    job = server.jobs.create(options, server.recognizer(options))
    response.headers["Location"] = f"/v1/videos/{job.status.id}"
    try:
        await save_video(request, job.upload, server.limits)
        return await asyncio.to_thread(server.jobs.start, job)
    except BaseException:
        server.jobs.delete(job)
        raise


@router.get("/{number}", responses=error_responses(404), operation_id="video")
async def get_video(job: Job) -> VideoStatus:
    """Return status and progress of a video."""
    return job.snapshot()


@router.delete("/{number}", status_code=204, responses=error_responses(404), operation_id="delete_video")
def delete_video(job: Job, server: ServerDep) -> None:
    """Cancel the recognition and delete the video and its results."""
    server.jobs.delete(job)


@router.get(
    "/{number}/events",
    responses=error_responses(404, by_reference=True),
    response_class=EventSourceResponse,
    operation_id="video_events",
)
async def video_events(
    job: Job, last_event_id: Annotated[str, Header(include_in_schema=False)] = "0"
) -> AsyncIterator[ServerSentEvent]:
    """Send progress and rows as server-sent events.

    `progress` contains the status of the video. `rows` contains a list of rows; to continue after them, send their `id`
    in the header Last-Event-ID. The last event is `done` or `failed` and contains the status.
    """
    position = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else 0
    path = job.folder / RESULTS["rows_jsonl"][0]
    sent = ""
    while not job.deleted:
        ended = job.ended  # read before the rows, so that they are complete if it is true
        rows, position = _rows_after(path, position)
        if rows:
            yield ServerSentEvent(event="rows", id=str(position), raw_data=f"[{','.join(rows)}]")
        elif ended:
            status = job.snapshot()
            yield ServerSentEvent(event="done" if status.state == "done" else "failed", data=status)
            return
        status_json = job.snapshot().model_dump_json()
        if status_json != sent and not ended:
            yield ServerSentEvent(event="progress", raw_data=status_json)
            sent = status_json
        await asyncio.sleep(0 if ended else _POLL_S)
    error = ApiError(410, "gone", "The video was deleted, or the server is shutting down.", "Send it again.")
    yield ServerSentEvent(event="failed", raw_data=json.dumps({"state": "failed", "error": error.problem.model_dump()}))


@router.get(
    "/{number}/{name}",
    operation_id="video_result",
    response_class=Response,
    responses={
        **error_responses(404, 409, 416),
        200: {"content": _TYPES, "description": "The file."},
        206: {"content": _TYPES, "description": "A part of the file."},
    },
)
def get_result(job: Job, name: Annotated[str, InPath(json_schema_extra={"enum": list(_MEDIA_TYPES)})]) -> Response:
    """Download a result of a video.

    `annotated.mp4`: the annotated video (H.264, with sound). `rows.csv`: one row per face and recognised frame so far.
    `rows.jsonl`: the same rows as JSON lines. `timeline.png` and `timeline`: emotions of each face over time, as an
    image and as JSON.
    """
    if name not in _MEDIA_TYPES:
        raise HTTPException(404)
    path = job.result(name)
    if path is None and job.ended:
        raise ApiError(404, "not_found", "This video has no such result.", "Its status contains the reason.")
    if path is None:
        headers = {"Retry-After": "2"}
        raise ApiError(409, "not_ready", "The result is not ready yet.", "Try again when it is done.", headers=headers)
    if path.suffix in (".csv", ".jsonl"):  # can grow during the transfer
        return Response(path.read_bytes(), media_type=_MEDIA_TYPES[name])
    return FileResponse(path, media_type=_MEDIA_TYPES[name])


def _rows_after(path: Path, position: int) -> tuple[list[str], int]:
    """Read complete lines of a growing file from a position; returns them and the next position."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read(_CHUNK)
    except OSError:  # not written yet, or deleted
        return [], position
    lines = data[: data.rfind(b"\n") + 1]
    return lines.decode("utf-8", "replace").splitlines(), position + len(lines)
