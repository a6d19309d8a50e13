"""Processes for work on untrusted files: unlike a thread, a process that takes too long can be killed."""

import contextlib
import multiprocessing
import queue
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from emodet.arrays import UInt8
from emodet.cpu import end_with_parent
from emodet.errors import EmodetError
from emodet.images import decode_rgb, raise_pillow_limit

_START_S = 60.0


class ProcessEnded(EmodetError):  # noqa: N818 (also after `close`)
    """The process crashed, or was killed."""


class Process:
    """Runs ``target(pipe, *args)`` in a process of its own, which sends objects or raises `EmodetError`."""

    def __init__(self, target: Callable[..., None], *args: object) -> None:
        context = multiprocessing.get_context("spawn")  # not fork: the server has threads
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, target, *args), daemon=True)
        self._process.start()
        theirs.close()
        self._started = False

    def send(self, value: object) -> None:
        """Give the process an object."""
        with contextlib.suppress(OSError):  # `receive` reports it
            self._pipe.send(value)

    def receive(self, seconds: float) -> Any:
        """Wait for an object of the process; the `EmodetError` that it raised is raised here.

        `TimeoutError` after `seconds`, not counting the start of the process; `ProcessEnded` if there will be none.
        """
        try:
            if not self._started and self._pipe.poll(_START_S):
                self._started = bool(self._pipe.recv())
            if not self._started or not self._pipe.poll(seconds):
                raise TimeoutError
            value = self._pipe.recv()
        except (EOFError, ConnectionError) as problem:
            raise ProcessEnded("the process ended") from problem
        if isinstance(value, EmodetError):
            raise value
        return value

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()


class Decoders:
    """Processes that decode one image each at a time; they start when they are needed."""

    def __init__(self, *, seconds: float) -> None:
        """An image that takes longer than `seconds` is refused, and its process killed."""
        self._seconds = seconds
        self._idle: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._all: set[Process] = set()

    def decode(self, data: bytes, max_pixels: int) -> UInt8:
        """Decode an image as `emodet.images.decode_rgb`. Blocks: call it in a thread.

        `TimeoutError` if it takes too long; `ProcessEnded` if it needs too much memory, or `close` was called.
        """
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = Process(_decode)
            self._all.add(process)
        try:
            process.send((data, max_pixels))
            image: UInt8 = process.receive(self._seconds)
            return image
        except BaseException as problem:
            # Only after a whole answer may it be used again: the next image would get what is left in the pipe.
            if isinstance(problem, ProcessEnded) or not isinstance(problem, EmodetError):
                self._all.discard(process)
                process.close()
            raise
        finally:
            if process in self._all:
                self._idle.put(process)

    def close(self) -> None:
        """Kill all processes, also those that decode."""
        for process in list(self._all):
            process.close()


def _main(pipe: Connection, target: Callable[..., None], *args: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and that this process
    end_with_parent()
    with contextlib.suppress(EOFError, ConnectionError):  # the server has ended
        pipe.send(True)
        try:
            target(pipe, *args)
        except EmodetError as problem:
            pipe.send(problem)


def _decode(pipe: Connection) -> None:
    while True:
        data, max_pixels = pipe.recv()
        raise_pillow_limit(max_pixels)
        try:
            pipe.send(decode_rgb(data, name="image", max_pixels=max_pixels))
        except EmodetError as problem:
            pipe.send(problem)
