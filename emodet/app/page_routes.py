"""The page at /, served from memory."""

import hashlib
import html
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emodet.app.models import Recognizers
from emodet.app.page.files import PageFile
from emodet.app.settings import Settings

__all__ = ["page_application", "server_description"]

_LIMITS = ("image_bytes", "pixels", "video_bytes", "video_seconds", "video_frames", "keep_seconds")


def server_description(settings: Settings, recognizers: Recognizers, version: str) -> dict[str, object]:
    """What the page must know about its server; the value of ``server`` in ``page.json``."""
    return {
        "version": version,
        "default_model": recognizers.default,
        "models": [
            {
                "name": offer.name,
                "file": f"v1/models/{offer.name}.onnx",
                "bytes": offer.path.stat().st_size,
                "precision": offer.file.info.precision,
                "classes": list(offer.file.info.class_names),
            }
            for offer in recognizers.offers.values()
        ],
        "detectors": ["auto", *recognizers.detectors],
        "detector": recognizers.detector,
        "limits": {name: getattr(settings.limits, name) for name in _LIMITS},
        "secure": settings.secure,
    }


def page_application(files: Mapping[str, PageFile] | str) -> ASGIApp:
    """Serve the page, and answer 404 for any other address.

    Args:
        files: The page by relative URL; or the reason why there is none.
    """
    missing = files if isinstance(files, str) else None
    pages = {} if isinstance(files, str) else files
    tags = {name: f'"{hashlib.sha256(file.content).hexdigest()}"' for name, file in pages.items()}

    def respond(scope: Scope) -> Response:
        name = scope["path"][1:] or "index.html"
        readable = scope["method"] in ("GET", "HEAD")
        if missing is not None and name == "index.html" and readable:
            return HTMLResponse(_explanation(missing), status_code=503)
        if name not in pages:
            raise HTTPException(404)
        if not readable:
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        if tags[name] in Headers(scope=scope).get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(pages[name].content, media_type=pages[name].media_type, headers=headers)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope)(scope, receive, send)

    return application


def _explanation(problem: str) -> str:
    lines = [f"{problem[:1].upper()}{problem[1:]}.", "The REST interface works: see openapi.json."]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>emodet</title><h1>emodet</h1>{text}</html>'
