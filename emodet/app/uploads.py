"""Uploads: the encoded file as the request body, or as the only file of a form, with limits on size, time and memory.

The client's file name and content type are ignored; decoding decides what a file is.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from emodet.app.errors import ApiError
from emodet.app.settings import Limits

__all__ = ["BINARY", "HeldBytes", "image_upload", "one_file", "save_video"]

BINARY = {"schema": {"type": "string", "format": "binary"}}

_FORM_BYTES = 65_536  # of a form, besides its file
_CHUNK = 2**20
_SPACE_CHECK = 64 * 2**20


class HeldBytes:
    """Counts the encoded images in memory, all requests together."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    def take(self, count: int) -> None:
        """Add bytes; raises an `ApiError` above the limit."""
        if self._held + count > self._limit:
            message = "Too many images are being uploaded at once."
            raise ApiError(429, "busy", message, "Try again in a moment.", retry_s=2)
        self._held += count

    def release(self, count: int) -> None:
        """Remove bytes."""
        self._held -= count


def one_file(*media_types: str) -> dict[str, Any]:
    """The OpenAPI description of a body that is one file."""
    form = {"type": "object", "required": ["file"], "properties": {"file": BINARY["schema"]}}
    content: dict[str, Any] = dict.fromkeys((*media_types, "application/octet-stream"), BINARY)
    return {"requestBody": {"required": True, "content": content | {"multipart/form-data": {"schema": form}}}}


@asynccontextmanager
async def image_upload(request: Request, limits: Limits, memory: HeldBytes) -> AsyncIterator[bytes]:
    """The encoded image, counted in `memory` until the context ends.

    Raises:
        ApiError: The body is empty, too large or too slow, or the server holds too many images.
    """
    held = 0

    def hold(count: int) -> None:
        nonlocal held
        memory.take(count)
        held += count

    try:
        data = bytearray()
        async with aclosing(_chunks(request, limits.image_bytes, limits, hold)) as chunks:
            async for chunk in chunks:
                data += chunk
        yield bytes(data)
    finally:
        memory.release(held)


async def save_video(request: Request, path: Path, limits: Limits) -> None:
    """Write the encoded video to a new file.

    Raises:
        ApiError: The body is empty, too large or too slow, or the disk is full.
    """
    received = next_check = 0

    def check_space(count: int) -> None:
        nonlocal received, next_check
        if received >= next_check:
            next_check = received + _SPACE_CHECK
            if shutil.disk_usage(path.parent).free < limits.free_bytes + _SPACE_CHECK:
                raise OSError("not enough free space")
        received += count

    try:
        with path.open("xb") as file:
            async with aclosing(_chunks(request, limits.video_bytes, limits, check_space)) as chunks:
                async for chunk in chunks:
                    file.write(chunk)
    except OSError:
        message = "The disk of the server is full."
        raise ApiError(507, "disk_full", message, "Send a smaller video, or free space on the server.") from None


async def _chunks(
    request: Request, max_bytes: int, limits: Limits, on_chunk: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """The file in pieces."""
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    body = _limited(request, max_bytes + _FORM_BYTES if is_form else max_bytes, limits, on_chunk)
    count = 0
    if is_form:
        try:
            async with body.form(max_files=1, max_fields=100) as form:
                file = next((value for _, value in form.multi_items() if isinstance(value, UploadFile)), None)
                if file is None:
                    raise _bad_form("it holds no complete file")
                while chunk := await file.read(_CHUNK):
                    count += len(chunk)
                    yield chunk
        except HTTPException as problem:
            raise _bad_form(str(problem.detail).rstrip(".")) from None
    else:
        async for chunk in body.stream():
            count += len(chunk)
            yield chunk
    if not count:
        raise ApiError(400, "bad_request", "The body is empty.", "Send an encoded image or video as the body.")


def _limited(request: Request, max_bytes: int, limits: Limits, on_chunk: Callable[[int], None]) -> Request:
    """The same request, whose body must stay within a size and arrive at a minimum rate."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    loop, received = asyncio.get_running_loop(), 0
    started = loop.time()

    async def receive() -> Message:
        nonlocal received
        slowest = started + limits.pause_seconds + received / limits.upload_rate
        try:
            async with asyncio.timeout_at(min(slowest, loop.time() + limits.pause_seconds)):
                message = await request.receive()
        except TimeoutError:
            text = (
                f"The upload paused for {limits.pause_seconds:g} seconds, or is slower than {limits.upload_rate} B/s."
            )
            headers = {"Connection": "close"}
            raise ApiError(408, "took_too_long", text, "Send it again.", headers=headers) from None
        count = len(message.get("body", b""))
        received += count
        if received > max_bytes:
            raise _too_large(max_bytes)
        on_chunk(count)
        return message

    return Request(request.scope, receive)


def _too_large(limit: int) -> ApiError:
    message = f"The file is larger than {limit / 1e6:,.0f} MB."
    return ApiError(413, "too_large", message, "Send a smaller one, or start the server with a higher limit.")


def _bad_form(problem: str) -> ApiError:
    return ApiError(400, "bad_request", f"The form cannot be read: {problem}.", "Send the file as the body itself.")
