"""The page at /, served from memory."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emodet import __version__
from emodet.app.models import Recognizers
from emodet.app.page.files import PageFile
from emodet.app.settings import Settings

_LIMITS = ("image_bytes", "pixels", "video_bytes", "video_seconds", "video_frames", "keep_seconds")


def server_description(settings: Settings, recognizers: Recognizers) -> dict[str, object]:
    """What the page must know about its server; the value of ``server`` in ``page.json``."""
    return {
        "version": __version__,
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
    pages = {} if isinstance(files, str) else files

    def respond(scope: Scope) -> Response:
        name = scope["path"][1:] or "index.html"
        readable = scope["method"] in ("GET", "HEAD")
        if isinstance(files, str) and name == "index.html" and readable:
            return PlainTextResponse(f"emodet: {files}.\n\nThe REST interface works: see /docs.", status_code=503)
        if name not in pages:
            raise HTTPException(404)
        if not readable:
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        page = pages[name]
        headers = {"ETag": page.etag, "Cache-Control": "no-cache"}
        if page.etag in Headers(scope=scope).get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(page.content, media_type=page.media_type, headers=headers)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope)(scope, receive, send)

    return application
