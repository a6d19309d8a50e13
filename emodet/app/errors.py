"""Errors of the REST interface, all as JSON: ``{"error": {"code", "message", "way_out"}}``."""

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from emodet.app.schema import ErrorAnswer


class ApiError(Exception):
    """An error answer: HTTP status, an identifier for programs, what is wrong, and what to do about it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        way_out: str,
        *,
        retry_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """With `retry_s`, the answer has a Retry-After header, in whole seconds."""
        super().__init__(message)
        self.status, self.code, self.message, self.way_out = status, code, message, way_out
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))

    def to_dict(self) -> dict[str, str]:
        """The value of ``error`` in the answer."""
        return {"code": self.code, "message": self.message, "way_out": self.way_out}


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The error as a response."""
    return JSONResponse({"error": error.to_dict()}, status_code=error.status, headers=error.headers | (headers or {}))


def error_responses(*statuses: int, by_reference: bool = False) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of an operation's errors; `by_reference` if its other answers are not JSON."""
    described: dict[str, Any] = {"model": ErrorAnswer}
    if by_reference:  # FastAPI describes a model with the media type of the other answers
        schema = {"$ref": f"#/components/schemas/{ErrorAnswer.__name__}"}
        described = {"content": {"application/json": {"schema": schema}}}
    return {each: {**described, "description": HTTPStatus(each).phrase} for each in (401, 403, *statuses)}


def install_handlers(app: FastAPI, headers: dict[str, str]) -> None:
    """Answer every exception as JSON; `headers` to unexpected ones, which bypass the middleware."""

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> JSONResponse:
        return error_response(ApiError(499, "gone", "The client closed the connection.", "Send the request again."))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        name, given = str(problem["loc"][-1]), problem.get("input")
        value = f"={str(given)[:80]!r}" if isinstance(given, str | int | float) else ""
        message = f"{name}{value}: {problem['msg'][:1].lower()}{problem['msg'][1:]}."
        if problem["type"] == "extra_forbidden":
            message = f"There is no parameter {name[:80]!r}."
        return error_response(ApiError(422, "bad_value", message, "See openapi.json for what is accepted."))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        known = {
            404: ("not_found", "There is nothing at this address.", "See openapi.json for all addresses."),
            405: ("method_not_allowed", f"{request.method} is not allowed here.", "See the Allow header."),
        }
        default = ("bad_request", str(error.detail), "See openapi.json for what is accepted.")
        answer = ApiError(error.status_code, *known.get(error.status_code, default), headers=dict(error.headers or {}))
        return error_response(answer)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        answer = ApiError(500, "internal", "Internal error.", "See the server's log, and please report it.")
        return error_response(answer, headers)
