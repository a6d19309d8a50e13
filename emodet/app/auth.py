"""Access control and security headers, as ASGI middleware."""

import asyncio
import hmac

from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emodet.app.errors import ApiError, handle_error
from emodet.app.settings import Settings

COOKIE = "emodet_token"

SECURITY_HEADERS = {
    # Allows compiling WebAssembly, but no `eval`, and no requests to other origins.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    # Cross-origin isolation enables threads in WebAssembly.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), serial=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class AuthMiddleware:
    """Checks Host, Origin and token before the body is read; adds the security headers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process an ASGI request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                # Browsers cache the page and revalidate it; responses about faces are not cached.
                headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith("/v1/") else "no-cache")
            await send(message)

        try:
            response = self._checked(Request(scope)) or self.app
            await response(scope, receive, send_with_headers)
        except (asyncio.CancelledError, Exception) as problem:
            if not started:
                response = await handle_error(Request(scope), problem)
                await response(scope, receive, send_with_headers)
            if not isinstance(problem, ApiError | asyncio.CancelledError):
                raise  # for the server's log

    def _checked(self, request: Request) -> Response | None:
        """Check a request; returns a redirect for an address with the token, else None. Raises `ApiError`."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        hosts = self._settings.hosts
        if hosts is not None and _host_name(host) not in hosts:
            # Prevents DNS rebinding, where the name of another site resolves to this machine.
            way_out = f"Use {', '.join(sorted(hosts))}, or start the server with --allowed-host NAME."
            raise ApiError(403, "foreign_host", f"Host {host[:100]!r} is not allowed.", way_out)
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            message = f"Requests from the origin {origin[:100]!r} are not allowed."
            raise ApiError(403, "foreign_origin", message, "Use the page of this server, or a program.")
        if self._settings.token is None or request.scope["path"] == "/healthz":
            return None
        is_page = request.scope["method"] in ("GET", "HEAD") and request.scope["path"] == "/"
        if is_page and self._is_token(given := request.query_params.get("token")):
            # With a cookie, the token does not appear in the address bar, the history and links.
            response = RedirectResponse("./", status_code=303)
            response.set_cookie(
                COOKIE, given or "", httponly=True, samesite="strict", secure=self._settings.tls, max_age=30 * 86400
            )
            return response
        scheme, bearer = get_authorization_scheme_param(request.headers.get("authorization"))
        sent_token = scheme.lower() == "bearer" and self._is_token(bearer.strip())
        if sent_token or self._is_token(request.cookies.get(COOKIE)):
            return None
        way_out = "Open the address that the command printed, or send the header Authorization: Bearer TOKEN."
        headers = {"WWW-Authenticate": "Bearer"}
        raise ApiError(401, "token_needed", "This server needs a token.", way_out, headers=headers)

    def _is_token(self, given: str | None) -> bool:
        token = (self._settings.token or "").encode()
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), token)


def _host_name(host: str) -> str:
    """Return the name in a Host header, in lower case, without port and brackets."""
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.rstrip(".").lower()
