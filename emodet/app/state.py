"""What the operations share: one object per server, as a FastAPI dependency."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from emodet.app.decoding import Decoders
from emodet.app.models import Recognizers
from emodet.app.settings import Limits
from emodet.app.uploads import HeldBytes
from emodet.app.video_jobs import VideoJobs
from emodet.app.worker_pool import WorkerPool

__all__ = ["ServerState", "State"]


@dataclass(frozen=True, slots=True)
class ServerState:
    """The shared objects of a server; `page_problem` says why there is no page, None if there is one."""

    limits: Limits
    recognizers: Recognizers
    pool: WorkerPool
    decoders: Decoders
    jobs: VideoJobs
    memory: HeldBytes
    version: str
    page_problem: str | None

    def close(self, *, timeout_s: float) -> bool:
        """End all work. Returns whether it ended within `timeout_s` for images and again for videos."""
        images_ended = self.pool.close(timeout_s=timeout_s)
        self.decoders.close()
        return self.jobs.close(timeout_s=timeout_s) and images_ended


# Not a plain function: FastAPI would run it in a thread.
async def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(_state)]
