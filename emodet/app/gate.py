"""Who may come in, and what every answer says about itself.

Before a byte of a body is read: the name the server was called by, the page a request comes from, the token. After:
the security headers.
"""

import asyncio
import hmac
import html
import logging
import re
import threading
import time
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emodet.app.refusals import ApiError, answer
from emodet.app.settings import Settings

__all__ = ["COOKIE", "SECURITY_HEADERS", "Gate"]

COOKIE = "emodet_token"

SECURITY_HEADERS = {
    # WebAssembly is compiled, nothing else is evaluated; nothing comes from elsewhere, nothing goes there.
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    # Isolated from other pages, which is what threads of WebAssembly need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), serial=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_OPEN = frozenset(["/healthz"])  # for whoever watches over the server

_log = logging.getLogger("emodet.app")


class Gate:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, stopping: threading.Event) -> None:
        self.app = app
        self._stopping = stopping
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        response = self._checked(scope)
        try:
            await (response or self.app)(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # The server ends and waits no longer; anything else is a defect.
            if not self._stopping.is_set():
                raise
        finally:
            if self._settings.log:
                # Neither queries nor the numbers of videos: both let whoever reads them in.
                path = re.sub(r"(?<=/v1/videos/)[^/]+", "…", scope["path"])
                _log.info("%s %s %d %.0f ms", scope["method"], path, status, (time.perf_counter() - started) * 1000)

    def _checked(self, scope: Scope) -> Response | None:
        """What to answer instead of the application, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        hosts = self._settings.hosts
        if hosts is not None and _name(host) not in hosts:
            # A page elsewhere whose name was turned to this machine (DNS rebinding) calls by its own name.
            way_out = f"Call it {', '.join(sorted(hosts))}, or start it with --allowed-host NAME."
            return answer(ApiError(403, "foreign_host", f"This server is not called {host[:100]!r}.", way_out))
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            message = f"Requests of the page {origin[:100]!r} are not taken."
            return answer(ApiError(403, "foreign_origin", message, "Use this server's own page, or a program."))
        if self._settings.token is None or scope["path"] in _OPEN:
            return None
        return self._identified(scope, headers)

    def _identified(self, scope: Scope, headers: Headers) -> Response | None:
        is_page = scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if is_page:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            if given and self._is_token(given):
                # So that it stays in no address bar, history or link.
                response = RedirectResponse("./", status_code=303)
                response.set_cookie(
                    COOKIE, given[0], httponly=True, samesite="strict", secure=self._settings.tls, max_age=30 * 86400
                )
                return response
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token([shown.strip()]):
            return None
        if self._is_token(_cookies(headers)):
            return None
        message = "This server answers only with its token."
        way_out = "Open the address that the command printed, or send the header Authorization: Bearer TOKEN."
        refusal = ApiError(401, "token_needed", message, way_out, headers={"WWW-Authenticate": "Bearer"})
        if is_page and "text/html" in headers.get("accept", ""):
            text = f"<!doctype html><meta charset=utf-8><title>emodet</title><h1>emodet</h1><p>{html.escape(message)}"
            return HTMLResponse(f"{text}<p>{html.escape(way_out)}", status_code=401, headers=refusal.headers)
        return answer(refusal)

    def _is_token(self, given: Sequence[str]) -> bool:
        token = (self._settings.token or "").encode()
        # Each in constant time.
        return any(hmac.compare_digest(each.encode("utf-8", "replace"), token) for each in given)


def _name(host: str) -> str:
    """The header ``Host`` without its port, in lower case, an IPv6 address without its brackets."""
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.rstrip(".").lower()


def _cookies(headers: Headers) -> list[str]:
    try:
        jar = SimpleCookie("; ".join(headers.getlist("cookie")))
    except CookieError:
        return []
    return [jar[COOKIE].value] if COOKIE in jar else []
