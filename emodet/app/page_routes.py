"""The page at /: its files, and what it must know of its server."""

import hashlib
import html
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emodet.app.page.files import PageFile
from emodet.app.recognizers import Recognizers
from emodet.app.settings import Settings

__all__ = ["about_server", "page_application"]


def about_server(settings: Settings, recognizers: Recognizers, version: str) -> dict[str, object]:
    """What `page.json` says of the server."""
    limits = settings.limits
    return {
        "version": version,
        "default_model": recognizers.default,
        "models": [
            {
                "name": offer.name,
                "file": f"v1/models/{offer.name}.onnx",
                "bytes": offer.size,
                "precision": offer.file.info.precision,
                "classes": list(offer.file.info.class_names),
            }
            for offer in recognizers.offers.values()
        ],
        "detectors": ["auto", *recognizers.detectors],
        "detector": recognizers.detector,
        "limits": {
            "image_bytes": limits.image_bytes,
            "pixels": limits.pixels,
            "video_bytes": limits.video_bytes,
            "video_seconds": limits.video_seconds,
            "video_frames": limits.video_frames,
            "keep_seconds": limits.keep_seconds,
        },
        "secure": settings.secure,
    }


def page_application(files: Mapping[str, PageFile] | str) -> ASGIApp:
    """Answers whatever is no operation of the server.

    Args:
        files: The page by relative address; or, where there is none, what is missing and how to get it.
    """
    tags: dict[str, str] = {}
    if not isinstance(files, str):
        tags = {name: f'"{hashlib.sha256(file.content).hexdigest()}"' for name, file in files.items()}

    def respond(scope: Scope) -> Response:
        path: str = scope["path"]
        name = path[1:] or "index.html"
        if isinstance(files, str):
            file = None
            if name == "index.html" and scope["method"] in ("GET", "HEAD"):
                return HTMLResponse(_not_there(files), status_code=503)
        else:
            file = files.get(name)
        if file is None:
            raise HTTPException(404)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        headers = {"ETag": tags[name], "Cache-Control": "no-cache"}
        asked = dict(scope["headers"]).get(b"if-none-match", b"").decode("latin-1")
        if tags[name] in asked:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope)(scope, receive, send)

    return application


def _not_there(problem: str) -> str:
    lines = [f"{problem[:1].upper()}{problem[1:]}.", "The REST interface works: see openapi.json."]
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>emodet</title><h1>emodet</h1>{text}</html>'
