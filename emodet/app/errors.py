"""Errors of the REST interface: JSON ``{"error": {"code", "message", "way_out"}}``, or plain text in a browser."""

from asyncio import CancelledError
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from emodet.app.schema import ErrorResponse, Problem

_SEE = "See openapi.json for valid requests."


class ApiError(HTTPException):
    """An error response: HTTP status, code for programs, message, and way out."""

    def __init__(
        self, status: int, code: str, message: str, way_out: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.problem = Problem(code=code, message=message, way_out=way_out)


def busy(message: str, way_out: str = "Try again in a moment.", retry_s: int = 2) -> ApiError:
    """Return the error for too many requests; `retry_s` is the Retry-After header, in seconds."""
    return ApiError(429, "busy", message, way_out, headers={"Retry-After": str(retry_s)})


def error_responses(*statuses: int, by_reference: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of an operation's errors; `by_reference` if its other responses are not JSON."""
    described: dict[str, Any] = {"model": ErrorResponse}
    if by_reference:  # FastAPI would describe the model with the media type of the other responses
        schema = {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}
        described = {"content": {"application/json": {"schema": schema}}}
    return {each: {**described, "description": HTTPStatus(each).phrase} for each in (401, 403, *statuses)}


def _as_api_error(request: Request, error: BaseException) -> ApiError:
    """Convert an exception to an `ApiError`."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            problem = error.errors()[0]
            name, received = str(problem["loc"][-1]), problem.get("input")
            value = f"={str(received)[:80]!r}" if isinstance(received, str | int | float) else ""
            message = f"{name}{value}: {problem['msg'][:1].lower()}{problem['msg'][1:]}."
            if problem["type"] == "extra_forbidden":
                message = f"There is no parameter {name[:80]!r}."
            return ApiError(422, "bad_value", message, _SEE)
        case HTTPException(status_code=404):
            return ApiError(
                404, "not_found", "There is nothing at this address.", "See openapi.json for all addresses."
            )
        case HTTPException(status_code=405):
            message = f"{request.method} is not allowed here."
            return ApiError(405, "method_not_allowed", message, "See the Allow header.", headers=error.headers)
        case HTTPException():
            message = f"{str(error.detail).rstrip('.')}."
            return ApiError(error.status_code, "bad_request", message, _SEE, headers=error.headers)
        case ClientDisconnect():
            return ApiError(499, "gone", "The client closed the connection.", "Send the request again.")
        case CancelledError():  # uvicorn cancels requests that do not end during its graceful shutdown
            headers = {"Connection": "close"}
            return ApiError(503, "stopping", "The server is shutting down.", "Start it again.", headers=headers)
    return ApiError(500, "internal", "Internal error.", "See the server's log, and please report it.")


async def handle_error(request: Request, error: BaseException) -> Response:
    """Return the response for an exception: JSON, or for a browser plain text."""
    api_error = _as_api_error(request, error)
    if "text/html" in request.headers.get("accept", ""):
        text = f"{api_error.problem.message} {api_error.problem.way_out}"
        return PlainTextResponse(text, api_error.status_code, api_error.headers)
    return JSONResponse(ErrorResponse(error=api_error.problem).model_dump(), api_error.status_code, api_error.headers)


HANDLERS: dict[Any, Any] = dict.fromkeys((HTTPException, RequestValidationError, ClientDisconnect), handle_error)
"""Exception handlers of the application; `AuthMiddleware` handles all other exceptions."""
