"""A few threads that recognise, and a short queue before them."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from emodet.app.refusals import ApiError, ending, gone

__all__ = ["Pool"]

Result = TypeVar("Result")


class Pool:
    """Runs work in threads; ONNX Runtime and OpenCV leave Python's lock while they count.

    Attributes:
        workers: How many threads there are.
    """

    def __init__(self, *, workers: int, waiting: int, answer_s: float) -> None:
        """Start it.

        Args:
            workers: Threads.
            waiting: How much work may wait; more is refused.
            answer_s: How long an answer may take, waiting included.
        """
        self.workers = workers
        self._limit = workers + waiting
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="recognising")
        self._lock = threading.Lock()
        self._inside = 0
        self._running = 0
        self._mean_s = 0.1

    @property
    def waiting(self) -> int:
        """How much work waits for a thread."""
        return max(0, self._inside - self._running)

    @property
    def running(self) -> int:
        """How much work is being done."""
        return self._running

    def check(self) -> None:
        """Refuse what could not be taken anyway, before it is uploaded.

        Raises:
            ApiError: The queue is full.
        """
        if self._inside >= self._limit:
            retry_s = self._mean_s * self._limit / self.workers
            message = f"The server is busy: {self._limit} pictures are waiting or being recognised."
            raise ApiError(429, "busy", message, "Try again in a moment.", retry_s=retry_s)

    async def run(self, work: Callable[[], Result], request: Request) -> Result:
        """Do some work in a thread, for a request whose body has been read.

        Work that still waits is dropped, and its place with it, when the client goes away or the time is over. Work
        that has begun ends by itself; its place is free then.

        Raises:
            ApiError: The queue is full, the time is over, or nobody waits for the answer any more.
        """
        self.check()
        try:
            future = self._threads.submit(self._timed, work)
        except RuntimeError:
            raise ending() from None
        with self._lock:
            self._inside += 1
        future.add_done_callback(self._done)
        answer = asyncio.wrap_future(future)
        left = asyncio.ensure_future(_left(request))
        try:
            waited: set[asyncio.Future[Any]] = {answer, left}
            done, _ = await asyncio.wait(waited, timeout=self._answer_s, return_when=asyncio.FIRST_COMPLETED)
            if answer in done:
                if future.cancelled():
                    raise ending()
                return answer.result()
            if left in done:
                raise gone()
            message = f"There was no answer within {self._answer_s:g} seconds."
            raise ApiError(503, "took_too_long", message, "Try again when the server is less busy.", retry_s=10)
        finally:
            left.cancel()
            answer.cancel()

    def close(self) -> None:
        """Drop what waits and wait for what is being done."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _timed(self, work: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        with self._lock:
            self._running += 1
        try:
            return work()
        finally:
            with self._lock:
                self._running -= 1
                self._mean_s += 0.1 * (time.perf_counter() - started - self._mean_s)

    def _done(self, future: "Future[Result]") -> None:
        with self._lock:
            self._inside -= 1


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
