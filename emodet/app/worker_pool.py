"""A thread pool with a bounded queue, for recognition."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request

from emodet.app.errors import ApiError, client_gone, stopping

__all__ = ["WorkerPool"]

Result = TypeVar("Result")


class WorkerPool:
    """Runs work in threads; ONNX Runtime and OpenCV release the GIL."""

    def __init__(self, *, workers: int, waiting: int, answer_seconds: float) -> None:
        """Start `workers` threads; `waiting` is the length of the queue, `answer_seconds` includes the time in it."""
        self._limit, self._answer_s = workers + waiting, answer_seconds
        self._threads = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="recognizer")
        self._futures: set[concurrent.futures.Future[Any]] = set()

    @property
    def running(self) -> int:
        """Number of images being recognised."""
        return sum(future.running() for future in list(self._futures))

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return len(self._futures) - self.running

    def check(self) -> None:
        """Raise an `ApiError` if the queue is full."""
        if len(self._futures) >= self._limit:
            message = f"The server is busy: {self._limit} images are in the queue."
            raise ApiError(429, "busy", message, "Try again in a moment.", retry_s=2)

    async def run(self, work: Callable[[], Result], request: Request) -> Result:
        """Run `work` in a thread, for a request whose body has been read.

        Waiting work is dropped if the client disconnects or the time limit is reached. Running work cannot be
        interrupted and keeps its place until it ends.

        Raises:
            ApiError: The queue is full, the time limit is reached, the client is gone, or the server is stopping.
        """
        self.check()
        try:
            future = self._threads.submit(work)
        except RuntimeError:  # the pool is closed
            raise stopping() from None
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            tasks: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(tasks, timeout=self._answer_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.cancelled():
                raise stopping()
            if answer.done():
                return answer.result()
            if gone.done():
                raise client_gone()
            message = f"There was no answer within {self._answer_s:g} seconds."
            raise ApiError(503, "took_too_long", message, "Try again when the server is less busy.", retry_s=10)
        finally:
            gone.cancel()
            answer.cancel()

    def close(self, *, timeout_s: float) -> bool:
        """Drop waiting work and wait for running work. Returns whether all of it ended within `timeout_s`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        return not concurrent.futures.wait(list(self._futures), timeout=timeout_s).not_done


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
