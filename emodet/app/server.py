"""State of the server: models and detectors by name, the queue of images, the videos."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Request

from emodet.app.errors import ApiError, busy
from emodet.app.page.files import model_card
from emodet.app.processes import Decoders
from emodet.app.schema import Options
from emodet.app.settings import Settings
from emodet.app.video_jobs import VideoJobs
from emodet.errors import EmodetError
from emodet.inference import yunet
from emodet.inference.detectors import make_detector
from emodet.inference.recognizer import Recognizer
from emodet.modelfile import SHIPPED, ModelFile, model_path, read_model_file

Result = TypeVar("Result")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that requests can name, with its model card (Markdown)."""

    name: str
    file: ModelFile
    path: Path
    card: str | None


class Server:
    """State of one application, injected into operations as `ServerDep`. Threads share the models and detectors.

    Attributes:
        models: Models by name; the first is the default.
        auto: Detector for ``detector=auto``.
        detectors: All detectors by name.
        workers: Limiter of the images that are recognised in parallel; the others wait in its queue.
        page_problem: Reason why the page is not available; None if it is.
        held_bytes: Size of all encoded images in memory, in bytes.
    """

    def __init__(self, settings: Settings) -> None:
        """Open models and detectors; raises `EmodetError` if one is missing or invalid, or two have the same name."""
        self.models: dict[str, ServedModel] = {}
        for text in settings.models or SHIPPED:
            served = _open(text, settings)
            if served.name in self.models:
                raise EmodetError(f"--model {text}: there are two models called {served.name}; use NAME=FILE")
            self.models[served.name] = served
        self.limits = settings.limits
        weights = yunet.installed_weights()  # without a download
        names = ["centerface", "none"] if weights is None else [f"yunet:{weights}", "centerface", "none"]
        made = [make_detector(name, threads=settings.threads) for name in (*names, settings.detector)]
        self.detectors, self.auto = {each.name: each for each in made}, made[-1]
        self.workers = anyio.CapacityLimiter(settings.workers)
        self.decoders, self.jobs = Decoders(seconds=self.limits.decode_seconds), VideoJobs(self.limits)
        self.page_problem: str | None = None
        self.held_bytes = 0

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return self.workers.statistics().tasks_waiting

    def model(self, name: str | None = None) -> ServedModel:
        """Return a model by name, None for the default; raises `ApiError` for an unknown name."""
        served = self.models.get(next(iter(self.models)) if name is None else name)
        if served is None:
            message = f"There is no model called {str(name)[:80]!r}."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self.models)}.")
        return served

    def recognizer(self, options: Options) -> Recognizer:
        """Create the recognizer for a request; raises `ApiError` if model, detector or prior are not available."""
        served = self.model(options.model)
        name = self.auto.name if options.detector == "auto" else options.detector
        if name not in self.detectors:
            message = f"The detector {name!r} is not available."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self.detectors)}.")
        try:
            return Recognizer(
                served.file,
                detector=self.detectors[name],
                **options.model_dump(include={"min_confidence", "max_faces", "prior"}),
            )
        except EmodetError:  # the schema has checked the other values
            message = f"prior=balanced: {served.name} lacks the class shares of its training data."
            raise ApiError(422, "bad_value", message, "Use prior=trained, or another model.") from None

    def check_queue(self) -> None:
        """Raise `ApiError` if the queue of images is full."""
        if self.workers.available_tokens <= 0 and self.waiting >= self.limits.waiting:
            raise busy(f"The server is busy: {self.waiting} images are in the queue.")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread; raises `ApiError` if the queue is full. ONNX Runtime and OpenCV release the GIL."""
        self.check_queue()
        return await anyio.to_thread.run_sync(work, limiter=self.workers)

    def close(self) -> None:
        """Stop all work except the images that are being recognised."""
        self.decoders.close()
        self.jobs.close()


# Asynchronous, because FastAPI would run a plain function in a thread.
async def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


ServerDep = Annotated[Server, Depends(_server)]


def _open(text: str, settings: Settings) -> ServedModel:
    name, sign, rest = text.partition("=")
    if not sign or Path(text).exists():
        name, rest = "", text
    path = model_path(rest)
    name = name or path.stem
    if not _NAME.fullmatch(name):
        raise EmodetError(f"--model {text}: {name!r} cannot be part of a URL; use NAME=FILE (letters, digits, -._)")
    file = read_model_file(path, providers=settings.providers, threads=settings.threads)
    return ServedModel(name, file, path, model_card(path))
