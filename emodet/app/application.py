"""The ASGI application of the server: `create_app`."""

import asyncio
import contextlib
import mimetypes
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from emodet import __version__
from emodet.app import routes, video_routes
from emodet.app.auth import AuthMiddleware
from emodet.app.docs_page import docs_page
from emodet.app.errors import HANDLERS
from emodet.app.page.files import page_files, write_folder
from emodet.app.server import Server
from emodet.app.settings import Settings
from emodet.errors import EmodetError

_LIMITS_OF_PAGE = ("image_bytes", "pixels", "video_bytes", "video_seconds", "video_frames", "keep_seconds")

_DESCRIPTION = """\
Facial emotion recognition in images and videos.

Probabilities are calibrated: of the predictions with a probability of 0.8, about 80 % are correct on faces like those
in the model's evaluation data. A facial expression is not a feeling. In the European Union, Article 5(1)(f) of the AI
Act prohibits inferring emotions of people at work and in education, except for medical or safety reasons.

Errors are `{"error": {"code", "message", "way_out"}}`. If the server was started with a token, send it as
`Authorization: Bearer TOKEN`.
"""


def create_app(settings: Settings) -> FastAPI:
    """Open the models and build the ASGI application; it must run with its lifespan.

    Raises `EmodetError` if a model file or the detector is missing or invalid.
    """
    app = FastAPI(
        title="emodet",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        exception_handlers=HANDLERS,
        # FastAPI's own documentation loads scripts from a CDN, which the security headers forbid.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.server = server = Server(settings)
    app.add_middleware(AuthMiddleware, settings=settings)
    # For the OpenAPI description only: the middleware checks the token, for the page too.
    token = Depends(HTTPBearer(auto_error=False, description="If the server was started with a token."))
    app.include_router(routes.health)
    app.include_router(routes.router, dependencies=[token])
    app.include_router(video_routes.router, dependencies=[token])
    app.add_api_route("/docs", lambda: HTMLResponse(docs_page(app.openapi())), include_in_schema=False)
    app.state.page = _page_files(settings, server)
    if server.page_problem is not None:
        text = f"emodet: {server.page_problem}.\n\nThe REST interface is available: see /docs."
        app.add_api_route("/", lambda: PlainTextResponse(text, 503), include_in_schema=False)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: Server = app.state.server
    # ignore_cleanup_errors: a request that is being cancelled can still write files.
    with tempfile.TemporaryDirectory(prefix="emodet-app-", ignore_cleanup_errors=True) as folder:
        server.jobs.folder = Path(folder)
        if app.state.page:
            mimetypes.add_type("text/javascript", ".js")  # the registry of Windows can contain another type
            directory = write_folder(app.state.page, Path(folder, "page"))
            # Not a mount, which would also receive operations with a wrong method.
            app.router.default = _Page(directory=directory, html=True)
        try:
            yield
        finally:
            await asyncio.to_thread(server.close)


class _Page(StaticFiles):
    """Static files; returns 404 for a mistyped operation, whatever its method."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["path"].startswith("/v1/"):
            raise HTTPException(404)
        return await super().get_response(path, scope)


def _page_files(settings: Settings, server: Server) -> dict[str, bytes]:
    """Return the files of the page; if the installation lacks parts, none, and set `Server.page_problem`."""
    default = server.model()
    about = {
        "version": __version__,
        "default_model": default.name,
        "models": [
            {
                "name": served.name,
                "file": f"v1/models/{served.name}.onnx",
                "bytes": served.path.stat().st_size,
                "precision": served.file.info.precision,
                "classes": list(served.file.info.class_names),
            }
            for served in server.models.values()
        ],
        "detectors": ["auto", *server.detectors],
        "detector": server.auto.name,
        "limits": {name: getattr(settings.limits, name) for name in _LIMITS_OF_PAGE},
        "secure": settings.secure,
    }
    try:
        return page_files(default.path, server=about)
    except EmodetError as problem:
        server.page_problem = str(problem)
        return {}
