"""How operations are described where their signatures do not say enough: bodies that are files, and refusals."""

from typing import Any

from emodet.app.schema import ErrorAnswer

__all__ = ["BINARY", "one_file", "refused_with"]

BINARY = {"schema": {"type": "string", "format": "binary"}}


def one_file(*kinds: str) -> dict[str, Any]:
    """How OpenAPI describes a body that is one file."""
    form = {"type": "object", "required": ["file"], "properties": {"file": BINARY["schema"]}}
    content: dict[str, Any] = dict.fromkeys((*kinds, "application/octet-stream"), BINARY)
    return {"requestBody": {"required": True, "content": content | {"multipart/form-data": {"schema": form}}}}


def refused_with(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI describes the refusals of an operation."""
    told = {
        400: "The body is empty, or a form that cannot be read.",
        401: "The token is missing or wrong.",
        403: "The server was called by a foreign name or from a foreign page.",
        404: "There is no such thing, or none any more.",
        408: "The upload stalled.",
        409: "It is not there yet.",
        413: "The file is larger than the limit.",
        416: "The range is outside the file.",
        422: "A value is not what it should be, or the file is no picture or video that can be read.",
        429: "The queue is full; the header Retry-After says when to try again.",
        503: "There was no answer in time, or the server is ending.",
        507: "The server's disk is full.",
    }
    return {status: {"model": ErrorAnswer, "description": told[status]} for status in (401, 403, *statuses)}
