"""Recognition in several processes: pictures in batches, videos one by one."""

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
from emodet.inference.opening import open_images
from emodet.inference.sources import Source
from emodet.inference.summary import SourceSummary

PICTURES = 16
"""Batch size of pictures: one call of the net. If a process is killed, one batch is lost."""

_batch: Batch  # of this worker process
_folder: Path
_stopping = False


def recognise_in_processes(
    batch: Batch, sources: Iterable[Source], count: int, *, threads: int = 1
) -> Generator[list[Recognised], None, None]:
    """Recognise inputs in `count` processes, each with a copy of `batch`; yield results by batch when finished.

    If a process dies, the inputs in progress are repeated one by one; an input that ends its process again is an error.
    `threads` is the number of OpenCV's threads per process; those of the nets are set in the batch's recognizer. Raises
    `EmodetError` if an input is neither an image nor a video file, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="emodet-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Pass the batch as a file: as an argument, its megabytes would delay the start of each process.
        copy = dataclasses.replace(batch, rows=None, show=False, quiet=True)
        (folder / "batch").write_bytes(pickle.dumps(copy))
        groups = _groups(sources)
        while left := (yield from _finished(groups, count, 2 * count, (folder, threads))):
            batch.report("a worker process died (out of memory?); repeating the inputs in progress one by one")
            singles = iter([[source] for group in left for source in group])
            while killed := (yield from _finished(singles, 1, 1, (folder, threads))):
                name = killed[0][0].name
                error = f"{name}: its worker process died twice (out of memory, or a defect of a decoder)"
                yield [Recognised(SourceSummary(name, error=error), None)]


def _finished(
    groups: Iterator[list[Source]], count: int, ahead: int, options: tuple[Path, int]
) -> Generator[list[Recognised], None, list[list[Source]]]:
    """Yield results of groups, `ahead` of them in progress at once; return those in progress when a process died."""
    in_progress: list[list[Source]] = []
    waiting: dict[Future[list[Recognised]], list[Source]] = {}
    try:
        with worker_pool(count, _start, *options) as pool:
            while True:
                for group in itertools.islice(groups, ahead - len(in_progress)):
                    in_progress.append(group)
                    waiting[pool.submit(_work, group)] = group
                if not waiting:
                    return []
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    results = future.result()
                    in_progress.remove(waiting.pop(future))
                    yield results
    except BrokenProcessPool:
        return in_progress


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
    """Initialise a worker process, which exits immediately on Ctrl-C."""
    global _batch, _folder
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(level=logging.ERROR)  # warnings are returned with the results
    cv2.setNumThreads(threads)
    _batch, _folder = pickle.loads((folder / "batch").read_bytes()), folder
    raise_pillow_limit(_batch.max_pixels)


def _work(group: list[Source]) -> list[Recognised]:
    if group[0].kind != "video":
        return _batch.pictures(open_images(group, _batch.max_pixels))
    tqdm.set_lock(threading.RLock())  # the default is a multiprocessing lock, reported as leaked after a signal
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return [_batch.video(group[0], _folder / f"{uuid.uuid4().hex}.jsonl")]
    except KeyboardInterrupt:  # the video's files are complete
        os._exit(1)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopping
    if not _stopping:  # after Ctrl-C, the parent also sends SIGTERM
        _stopping = True
        raise KeyboardInterrupt
