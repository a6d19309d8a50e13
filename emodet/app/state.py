"""What the operations share: one object per server, as a FastAPI dependency."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Request

from emodet.app.errors import ApiError
from emodet.app.models import Recognizers
from emodet.app.processes import Decoders
from emodet.app.settings import Limits
from emodet.app.video_jobs import VideoJobs

Result = TypeVar("Result")


@dataclass(slots=True)
class ServerState:
    """The shared objects of a server."""

    limits: Limits
    recognizers: Recognizers
    workers: anyio.CapacityLimiter  # images recognised in parallel, and in the queue
    decoders: Decoders
    jobs: VideoJobs
    page_problem: str | None  # why there is no page; None if there is one
    held_bytes: int = 0  # encoded images in memory, all requests together

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return self.workers.statistics().tasks_waiting

    def check_queue(self) -> None:
        """Raise an `ApiError` if the queue of images is full."""
        if self.workers.available_tokens <= 0 and self.waiting >= self.limits.waiting:
            message = f"The server is busy: {self.waiting} images are in the queue."
            raise ApiError(429, "busy", message, "Try again in a moment.", retry_s=2)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in a thread, where ONNX Runtime and OpenCV release the GIL; `ApiError` if none is free in time."""
        self.check_queue()
        try:
            with anyio.fail_after(self.limits.queue_seconds):
                return await anyio.to_thread.run_sync(work, limiter=self.workers)
        except TimeoutError:
            message = f"No worker was free within {self.limits.queue_seconds:g} seconds."
            raise ApiError(503, "took_too_long", message, "Try again later.", retry_s=10) from None

    def close(self) -> None:
        """End all work but the images that are being recognised."""
        self.decoders.close()
        self.jobs.close()


# Not a plain function: FastAPI would run it in a thread.
async def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(_state)]
