"""Uploads: a file as the request body or as the only file of a form, with limits on size, time and memory.

The client's file name and content type are ignored; decoding determines the type of a file.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from emodet.app.errors import ApiError, busy
from emodet.app.server import Server
from emodet.app.settings import Limits

BINARY = {"schema": {"type": "string", "format": "binary"}}

_FORM_BYTES = 65_536  # maximum size of a form without its file
_CHUNK = 2**20


def one_file(*media_types: str) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is one file."""
    form = {"type": "object", "required": ["file"], "properties": {"file": BINARY["schema"]}}
    content: dict[str, Any] = dict.fromkeys((*media_types, "application/octet-stream"), BINARY)
    return {"requestBody": {"required": True, "content": content | {"multipart/form-data": {"schema": form}}}}


@asynccontextmanager
async def image_upload(request: Request, server: Server) -> AsyncIterator[bytes]:
    """Receive an encoded image; its size counts in `server.held_bytes` until the block ends.

    Raises `ApiError` if the body is empty, too large or too slow, or if too many images are in memory.
    """
    data, limits = bytearray(), server.limits

    def write(chunk: bytes) -> None:
        if server.held_bytes + len(chunk) > limits.held_bytes:
            raise busy("Too many images are being uploaded at once.")
        server.held_bytes += len(chunk)
        data.extend(chunk)

    try:
        await _receive(_limited(request, limits.image_bytes, limits), write)
        yield bytes(data)
    finally:
        server.held_bytes -= len(data)


async def save_video(request: Request, path: Path, limits: Limits) -> None:
    """Write an encoded video to a new file; raises `ApiError` if it is empty, too large or slow, or the disk full."""
    try:
        with path.open("xb") as file:
            await _receive(_limited(request, limits.video_bytes, limits), file.write)
    except OSError:
        message = "The disk of the server is full."
        raise ApiError(507, "disk_full", message, "Send a smaller video, or free space on the server.") from None


async def _receive(request: Request, write: Callable[[bytes], object]) -> None:
    """Receive a file in chunks, and pass each to `write`."""
    count = 0
    if _is_form(request):
        async with request.form(max_files=1, max_fields=100) as form:
            file = next((value for _, value in form.multi_items() if isinstance(value, UploadFile)), None)
            if file is None:
                raise HTTPException(400, "The form contains no complete file.")
            while chunk := await file.read(_CHUNK):
                count += len(chunk)
                write(chunk)
    else:
        async for chunk in request.stream():
            count += len(chunk)
            write(chunk)
    if not count:
        raise ApiError(400, "bad_request", "The body is empty.", "Send an encoded image or video as the body.")


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


def _limited(request: Request, max_bytes: int, limits: Limits) -> Request:
    """Limit the body of a request to a maximum size and a minimum rate."""
    message = f"The file is larger than {max_bytes / 1e6:,.0f} MB."
    too_large = ApiError(413, "too_large", message, "Send a smaller file, or start the server with a higher limit.")
    max_bytes += _FORM_BYTES if _is_form(request) else 0
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    loop, received = asyncio.get_running_loop(), 0
    started = loop.time()

    async def receive() -> Message:
        nonlocal received
        slowest = started + limits.pause_seconds + received / limits.upload_rate
        try:
            async with asyncio.timeout_at(min(slowest, loop.time() + limits.pause_seconds)):
                message = await request.receive()
        except TimeoutError:
            slow = f"paused for {limits.pause_seconds:g} seconds, or is slower than {limits.upload_rate} B/s"
            headers = {"Connection": "close"}
            raise ApiError(408, "took_too_long", f"The upload {slow}.", "Send it again.", headers=headers) from None
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise too_large
        return message

    return Request(request.scope, receive)
