"""Recognise inputs in several processes: pictures in batches, videos one by one."""

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2

from emodet.errors import EmodetError
from emodet.inference.batch import Batch, Recognised
from emodet.inference.opening import opened, pillow_limit
from emodet.inference.sources import Source
from emodet.inference.summary import SourceSummary

__all__ = ["Workers"]

PICTURES = 16
"""Pictures of a batch: one call of the net, and what a kill loses per process."""

_MAX_DEATHS = 5

_batch: Batch  # of this worker process


class Workers:
    """Processes that hold a copy of a `Batch`.

    When a process dies, the inputs that were in work are repeated one process at a time; an input that ends its
    process again becomes an error of this input.
    """

    def __init__(self, batch: Batch, count: int, *, threads: int = 1) -> None:
        """Prepare `count` processes; `threads` are OpenCV's in each, and the batch's recognizer has its own."""
        self._arguments = (
            Batch(
                batch.recognizer,
                None,
                folder=batch.folder,
                annotate=batch.annotate,
                stream=batch.stream,
                max_pixels=batch.max_pixels,
                quiet=True,
            ),
            threads,
        )
        self._count, self._report = count, batch.report
        self._deaths = 0

    def run(self, sources: Iterable[Source]) -> Generator[list[Recognised], None, None]:
        """Recognise inputs; results by batch, as they are finished.

        Raises:
            EmodetError: An input is neither image nor video file, five processes in a row died, or the disk is full.
        """
        batches = _batches(sources)
        waiting: dict[Future[list[Recognised]], list[Source]] = {}
        with tempfile.TemporaryDirectory(prefix="emodet-", ignore_cleanup_errors=True) as folder:
            pool = self._pool(self._count)
            try:
                while True:
                    while len(waiting) < 2 * self._count and (batch := next(batches, None)):
                        waiting[_submitted(pool, batch, folder)] = batch
                    if not waiting:
                        break
                    try:
                        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                            results = future.result()
                            del waiting[future]
                            yield results
                    except BrokenProcessPool:
                        self._report("a worker process died; what it had in work is repeated, one process at a time")
                        pool.shutdown()
                        suspects, waiting = list(waiting.values()), {}
                        for batch in suspects:
                            yield from self._alone(batch, folder)
                        pool = self._pool(self._count)
            except BaseException:
                for child in multiprocessing.active_children():
                    child.terminate()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def _pool(self, count: int) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, mp_context=spawn, initializer=_start, initargs=self._arguments)

    def _alone(self, batch: list[Source], folder: str) -> Iterator[list[Recognised]]:
        """Recognise a batch again in a process of its own; halve it where that dies."""
        pool = self._pool(1)
        try:
            results = _submitted(pool, batch, folder).result()
            self._deaths = 0
        except BrokenProcessPool:
            results = []
        finally:
            pool.shutdown(wait=False)
        if results:
            yield results
        elif len(batch) > 1:
            middle = len(batch) // 2
            yield from self._alone(batch[:middle], folder)
            yield from self._alone(batch[middle:], folder)
        else:
            self._deaths += 1
            name = batch[0].name
            if self._deaths >= _MAX_DEATHS:
                raise EmodetError(
                    f"{self._deaths} worker processes in a row died, the last one on {name}; if memory was short, use "
                    "fewer --workers"
                )
            error = f"{name}: its worker process died twice (out of memory, or a defect of a decoder)"
            yield [Recognised(SourceSummary(name, error=error))]


def _batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    pictures: list[Source] = []
    for source in sources:
        if source.kind == "video":
            yield [source]
        elif source.kind == "image":
            pictures.append(source)
        else:
            raise EmodetError(f"{source.name}: pipes, cameras and streams are recognised in one process: --workers 1")
        if len(pictures) == PICTURES:
            yield pictures
            pictures = []
    if pictures:
        yield pictures


def _submitted(pool: ProcessPoolExecutor, batch: list[Source], folder: str) -> Future[list[Recognised]]:
    try:
        return pool.submit(_work, batch, folder)
    except BrokenProcessPool as problem:
        failed: Future[list[Recognised]] = Future()
        failed.set_exception(problem)
        return failed


def _start(batch: Batch, threads: int) -> None:
    """Begin a worker process: it ends with its parent, and at once at Ctrl-C."""
    global _batch
    _batch = batch
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.ERROR)  # notes come with the results
    cv2.setNumThreads(threads)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(batch: list[Source], folder: str) -> list[Recognised]:
    with pillow_limit(_batch.max_pixels):
        if batch[0].kind == "video":
            return [_batch.video_apart(batch[0], Path(folder, f"{abs(hash(batch[0].name))}.jsonl"))]
        return _batch.pictures(opened(batch, _batch.max_pixels))
