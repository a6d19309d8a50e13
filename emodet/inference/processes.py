"""Recognise inputs in several processes: pictures in batches, videos one by one."""

import dataclasses
import itertools
import logging
import os
import pickle
import signal
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType

import cv2
from tqdm import tqdm

from emodet.cpu import worker_pool
from emodet.errors import EmodetError
from emodet.images import raise_pillow_limit
from emodet.inference.batch import Batch, Recognised
from emodet.inference.opening import opened
from emodet.inference.sources import Source
from emodet.inference.summary import SourceSummary

PICTURES = 16
"""Pictures of a batch: one call of the net, and what a kill loses per process."""

_batch: Batch  # of this worker process
_folder: Path
_stopping = False


def recognise_in_processes(
    batch: Batch, sources: Iterable[Source], count: int, *, threads: int = 1
) -> Generator[list[Recognised], None, None]:
    """Recognise inputs in `count` processes that hold a copy of a `Batch`; results by batch, as they are finished.

    When a process dies, the inputs that were in work are repeated one by one; an input that ends its process again
    becomes an error of this input. `threads` are OpenCV's in each process; the batch's recognizer has its own.

    Raises:
        EmodetError: An input is neither image nor video file, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="emodet-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # As an argument, its megabytes would hold up the start of each process until the one before has read them.
        copy = dataclasses.replace(batch, rows=None, show=False, quiet=True)
        (folder / "batch").write_bytes(pickle.dumps(copy))
        groups = _groups(sources)
        while left := (yield from _finished(groups, count, 2 * count, (folder, threads))):
            batch.report("a worker process died (out of memory?); what was in work is repeated one by one")
            singles = iter([[source] for group in left for source in group])
            while killed := (yield from _finished(singles, 1, 1, (folder, threads))):
                name = killed[0][0].name
                error = f"{name}: its worker process died twice (out of memory, or a defect of a decoder)"
                yield [Recognised(SourceSummary(name, error=error), None)]


def _finished(
    groups: Iterator[list[Source]], count: int, ahead: int, options: tuple[Path, int]
) -> Generator[list[Recognised], None, list[list[Source]]]:
    """Results of groups, `ahead` of them in work at once; returns those in work when a process died, in order."""
    in_work: list[list[Source]] = []
    waiting: dict[Future[list[Recognised]], list[Source]] = {}
    try:
        with worker_pool(count, _start, *options) as pool:
            while True:
                for group in itertools.islice(groups, ahead - len(in_work)):
                    in_work.append(group)
                    waiting[pool.submit(_work, group)] = group
                if not waiting:
                    return []
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    results = future.result()
                    in_work.remove(waiting.pop(future))
                    yield results
    except BrokenProcessPool:
        return in_work


def _groups(sources: Iterable[Source]) -> Iterator[list[Source]]:
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


def _start(folder: Path, threads: int) -> None:
    """Begin a worker process, which ends at once at Ctrl-C."""
    global _batch, _folder
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(level=logging.ERROR)  # notes come with the results
    cv2.setNumThreads(threads)
    _batch, _folder = pickle.loads((folder / "batch").read_bytes()), folder
    raise_pillow_limit(_batch.max_pixels)


def _work(group: list[Source]) -> list[Recognised]:
    if group[0].kind != "video":
        return _batch.pictures(opened(group, _batch.max_pixels))
    tqdm.set_lock(threading.RLock())  # its own is shared by processes, and reported as leaked after a signal
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return [_batch.video(group[0], _folder / f"{uuid.uuid4().hex}.jsonl")]
    except KeyboardInterrupt:  # its files are finished
        os._exit(1)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopping
    if not _stopping:  # Ctrl-C reaches this process too, and then the parent's SIGTERM
        _stopping = True
        raise KeyboardInterrupt
