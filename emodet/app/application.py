"""The server as an ASGI application: `create_app` puts it together."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from importlib import metadata

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.types import Receive, Scope, Send

from emodet.errors import EmodetError
from emodet.app.page.files import PageFile, page_files
from emodet.app.gate import Gate
from emodet.app.model_routes import model_routes
from emodet.app.page_routes import about_server, page_application
from emodet.app.picture_routes import picture_routes
from emodet.app.pool import Pool
from emodet.app.recognizers import Recognizers
from emodet.app.refusals import install
from emodet.app.schema import Health
from emodet.app.settings import Limits, Settings
from emodet.app.temporary import TemporaryFolder
from emodet.app.video_jobs import VideoJobs
from emodet.app.video_routes import video_routes

__all__ = ["Application", "Limits", "Settings", "create_app"]

_SWEEP_S = 20.0

_ABOUT = """\
Finds faces in pictures and videos and says which emotion they show.

Probabilities are calibrated: of the answers with 0.8, about eight in ten are meant to be right on faces like those the
model was measured on. An expression is not a feeling. In the European Union, Article 5(1)(f) of the AI Act forbids
inferring emotions of people at work and in education, except for medical or safety reasons.

Every refusal is `{"error": {"code", "message", "way_out"}}`. Where the server was started with a token, send it as
`Authorization: Bearer TOKEN`.
"""


class Application:
    """The whole server; an ASGI application.

    Attributes:
        recognizers: The models it offers.
        page_problem: Why there is no page at /, or None.
    """

    def __init__(self, settings: Settings, page: Mapping[str, PageFile] | None) -> None:
        """See `create_app`."""
        self.recognizers = Recognizers(
            settings.models, detector=settings.detector, providers=settings.providers, threads=settings.threads
        )
        self._settings = settings
        self._stopping = threading.Event()
        self._folder: TemporaryFolder | None = None
        limits = settings.limits
        self._pool = Pool(workers=settings.workers, waiting=limits.waiting, answer_s=limits.answer_seconds)
        self._jobs = VideoJobs(self.recognizers, limits)
        self._version = metadata.version("emodet")
        self.page_problem: str | None = None
        self._page = page_application(self._gathered() if page is None else page)
        self.api = self._built()
        self._gate = Gate(self.api, settings, self._stopping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._gate(scope, receive, send)

    def stop(self) -> None:
        """Let nothing go on that would keep the server from ending: long answers, videos."""
        self._stopping.set()
        self._jobs.stop()

    def close(self) -> None:
        """End everything and delete all uploads and results. The lifespan does it, where it comes to its end."""
        self.stop()
        self._pool.close()
        self._jobs.close()
        if self._folder is not None:
            self._folder.close()

    def _gathered(self) -> Mapping[str, PageFile] | str:
        offer = self.recognizers.offer(None)
        about = about_server(self._settings, self.recognizers, self._version)
        try:
            return page_files(offer.path.read_bytes(), server=about, card=offer.card)
        except EmodetError as problem:
            self.page_problem = str(problem)
            return self.page_problem

    def _built(self) -> FastAPI:
        limits, pool, jobs = self._settings.limits, self._pool, self._jobs

        @contextlib.asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            self._folder = TemporaryFolder()
            jobs.open(self._folder.path)
            sweeping = asyncio.create_task(_sweep(jobs))
            try:
                yield
            finally:
                sweeping.cancel()
                await asyncio.to_thread(self.close)

        api = FastAPI(
            title="emodet",
            version=self._version,
            description=_ABOUT,
            lifespan=lifespan,
            # Their pages load scripts from elsewhere.
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            # What is done here is told to nobody, whatever else this process is set up to report.
            telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        )
        install(api)

        @api.get("/healthz", tags=["server"], operation_id="health")
        async def health() -> Health:
            """Whether the server lives, and how busy it is. Needs no token."""
            return Health(
                status="ok", version=self._version, waiting=pool.waiting, running=pool.running, videos=jobs.busy
            )

        # For the description only: the gate has looked at it before.
        token = [Depends(HTTPBearer(auto_error=False, description="Where the server was started with a token."))]
        api.include_router(picture_routes(self.recognizers, pool, limits, self._stopping), dependencies=token)
        api.include_router(video_routes(self.recognizers, jobs, limits, self._stopping), dependencies=token)
        api.include_router(model_routes(self.recognizers), dependencies=token)
        # What no operation answers: a mounted page would also take the wrong methods of the operations.
        api.router.default = self._page
        return api


def create_app(settings: Settings | None = None, *, page: Mapping[str, PageFile] | None = None) -> Application:
    """Open the models and put the server together.

    Args:
        settings: See `Settings`; None for one that only this machine reaches.
        page: Another page than the package's own, by relative address.

    Returns:
        An ASGI application, which needs its lifespan: uploaded videos lie in a temporary folder that ends with it.

    Raises:
        EmodetError: A model file or the detector's weights are not there or refused. Without the page the rest works:
            see `Application.page_problem`.
    """
    return Application(settings or Settings(), page)


async def _sweep(jobs: VideoJobs) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        jobs.sweep()
