"""What a request brings: the encoded file as the body itself, or as the one file of a form, in bounded memory and time.

What a client says about it (its name, its type) is not looked at: whether it is a picture or a video is found out by
decoding it.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.message import Message
from pathlib import Path
from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect

from emodet.app.refusals import ApiError, ending, gone
from emodet.app.settings import Limits

__all__ = ["HeldBytes", "read_picture", "save_video"]

_ENVELOPE = 65_536  # of a form, around its file
_LOOK_S = 0.2
_SPACE_EVERY = 64 * 2**20


class HeldBytes:
    """Counts the encoded pictures in memory, all requests together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def take(self, count: int) -> None:
        """Add some.

        Raises:
            ApiError: There are too many already.
        """
        if self._held + count > self._limit:
            message = "Too many pictures are being uploaded at once."
            raise ApiError(429, "busy", message, "Try again in a moment.", retry_s=2)
        self._held += count

    def give_back(self, count: int) -> None:
        """Take some off again."""
        self._held -= count


async def read_picture(request: Request, limits: Limits, held: HeldBytes, stopping: threading.Event) -> bytes:
    """The encoded picture. The caller gives its bytes back to `held`.

    Raises:
        ApiError: There is none, it is too large, it stalls, the server holds too many, or it ends.
    """
    data = bytearray()
    try:
        async with aclosing(_file(request, limits.image_bytes, limits.pause_seconds, stopping)) as chunks:
            async for chunk in chunks:
                held.take(len(chunk))
                data += chunk
    except BaseException:
        held.give_back(len(data))
        raise
    return bytes(data)


async def save_video(request: Request, path: Path, limits: Limits, stopping: threading.Event) -> None:
    """Write the encoded video to a file that is not there yet.

    Raises:
        ApiError: There is none, it is too large, it stalls, the disk is full, or the server ends.
    """
    written = next_look = 0
    try:
        with path.open("xb") as file:
            async with aclosing(_file(request, limits.video_bytes, limits.pause_seconds, stopping)) as chunks:
                async for chunk in chunks:
                    if written >= next_look:
                        next_look = written + _SPACE_EVERY
                        if shutil.disk_usage(path.parent).free < limits.free_bytes + _SPACE_EVERY:
                            raise _disk_full()
                    # Into the system's memory most often: too short to need a thread.
                    file.write(chunk)
                    written += len(chunk)
    except OSError:
        raise _disk_full() from None


async def _file(request: Request, limit: int, pause_s: float, stopping: threading.Event) -> AsyncGenerator[bytes, None]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit + _ENVELOPE:
        raise _too_large(limit)
    kind = Message()
    kind["Content-Type"] = request.headers.get("content-type", "")
    body = _pieces(request, pause_s, stopping)
    if kind.get_content_type() == "multipart/form-data":
        boundary = kind.get_param("boundary")
        if not isinstance(boundary, str) or not 0 < len(boundary) <= 200:
            raise _bad_form("it has no boundary")
        body = _file_of_form(body, boundary.encode("latin-1", "replace"), limit + _ENVELOPE)
    count = 0
    async with aclosing(body) as pieces:
        async for piece in pieces:
            count += len(piece)
            if count > limit:
                raise _too_large(limit)
            yield piece
    if not count:
        raise ApiError(400, "bad_request", "The body is empty.", "Send an encoded picture or video as the body.")


async def _pieces(request: Request, pause_s: float, stopping: threading.Event) -> AsyncGenerator[bytes, None]:
    stream = request.stream()
    while True:
        following = asyncio.ensure_future(anext(stream, None))
        waited_s = 0.0
        try:
            while not (await asyncio.wait({following}, timeout=_LOOK_S))[0]:
                waited_s += _LOOK_S
                # Whatever still comes belongs to the old request.
                if stopping.is_set():
                    raise ending(headers={"Connection": "close"})
                if waited_s >= pause_s:
                    message = f"Nothing of the upload came for {pause_s:g} seconds."
                    headers = {"Connection": "close"}
                    raise ApiError(408, "took_too_long", message, "Send it again.", headers=headers)
            piece = following.result()
        except ClientDisconnect:
            raise gone() from None
        finally:
            following.cancel()
        if piece is None:
            return
        if piece:
            yield piece


async def _file_of_form(body: AsyncGenerator[bytes, None], boundary: bytes, limit: int) -> AsyncGenerator[bytes, None]:
    form = _Form()
    parser = MultipartParser(boundary, form.callbacks())
    count = 0
    async with aclosing(body) as pieces:
        async for piece in pieces:
            count += len(piece)
            if count > limit:
                raise _too_large(limit - _ENVELOPE)
            try:
                parser.write(piece)
            except MultipartParseError as problem:
                raise _bad_form(str(problem)) from None
            if form.files > 1:
                raise _bad_form("it holds several files; one is taken")
            for part in form.taken():
                yield part
    if not form.ended:
        raise _bad_form("it is cut off")
    if not form.files:
        raise _bad_form("it holds no file")


class _Form:
    """Collects the bytes of a form's file and leaves out its other fields."""

    def __init__(self) -> None:
        self.files = 0
        self.ended = False
        self._parts: list[bytes] = []
        self._field = b""
        self._value = b""
        self._is_file = False

    def taken(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._is_file = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            header = Message()
            header["Content-Disposition"] = self._value.decode("latin-1")
            if header.get_filename() is not None:
                self._is_file = True
                self.files += 1
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file and self.files == 1:
            self._parts.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _too_large(limit: int) -> ApiError:
    message = f"The file is larger than {limit / 1e6:,.0f} MB."
    return ApiError(413, "too_large", message, "Send a smaller one, or start the server with a higher limit.")


def _bad_form(problem: str) -> ApiError:
    return ApiError(400, "bad_request", f"The form cannot be read: {problem}.", "Send the file as the body itself.")


def _disk_full() -> ApiError:
    return ApiError(507, "disk_full", "The server's disk is full.", "Send a smaller video, or make room there.")
