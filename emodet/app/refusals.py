"""What a request is told when it is not answered: one JSON form, ``{"error": {"code", "message", "way_out"}}``."""

import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

__all__ = ["ApiError", "answer", "ending", "gone", "install"]

_log = logging.getLogger(__name__)


class ApiError(Exception):  # noqa: N818 (it is no defect, neither here nor always there)
    """A request that gets no answer, and why.

    Attributes:
        status: The HTTP status.
        code: For programs.
        message: What is wrong, for people.
        way_out: What to do about it.
        retry_s: After how many seconds to try again, or None.
        headers: Further headers of the answer.
    """

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
        super().__init__(message)
        self.status, self.code, self.message, self.way_out = status, code, message, way_out
        self.retry_s = retry_s
        self.headers = headers or {}

    def to_dict(self) -> dict[str, str]:
        """The inner part of the JSON form."""
        return {"code": self.code, "message": self.message, "way_out": self.way_out}


def gone() -> ApiError:
    """For a client that went away: nobody reads it."""
    return ApiError(499, "gone", "The client went away.", "Send it again.")


def ending(headers: dict[str, str] | None = None) -> ApiError:
    """For what the server does not do any more."""
    return ApiError(503, "stopping", "The server is ending.", "Start it again.", retry_s=10, headers=headers)


def answer(refusal: ApiError) -> JSONResponse:
    """The refusal as a response."""
    headers = dict(refusal.headers)
    if refusal.retry_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_s)))
    return JSONResponse({"error": refusal.to_dict()}, status_code=refusal.status, headers=headers)


def install(app: FastAPI) -> None:
    """Answer everything that goes wrong in an application in this form."""

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, ApiError)
        return answer(problem)

    async def invalid(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        first = problem.errors()[0]
        name = str(first["loc"][-1])
        given = first.get("input")
        value = f"={str(given)[:80]!r}" if isinstance(given, str | int | float) else ""
        message = f"{name}{value}: {first['msg'][:1].lower()}{first['msg'][1:]}."
        if first["type"] == "extra_forbidden":
            message = f"There is no option {name[:80]!r}."
        return answer(ApiError(422, "bad_value", message, "See openapi.json for what is taken."))

    async def http(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        known = {
            404: ("not_found", "There is nothing at this address.", "See openapi.json for what there is."),
            405: ("method_not_allowed", f"{request.method} is not for this address.", "The header Allow says what is."),
        }
        code, message, way_out = known.get(
            problem.status_code, ("bad_request", str(problem.detail), "See openapi.json for what is taken.")
        )
        return answer(ApiError(problem.status_code, code, message, way_out, headers=dict(problem.headers or {})))

    async def broken(request: Request, problem: Exception) -> Response:
        # The traceback goes to the log, and to nobody else.
        return answer(
            ApiError(500, "internal", "Something broke in the server.", "Its messages say what; please report it.")
        )

    app.add_exception_handler(ApiError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, broken)
