"""Processes for untrusted files: unlike a thread, a process can be killed if it takes too long."""

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


class ProcessEnded(EmodetError):  # noqa: N818 (also raised after `close`, which is no error)
    """The process crashed or was killed."""


class Process:
    """Runs ``target(pipe, *args)`` in a new process, which sends objects or raises `EmodetError`."""

    def __init__(self, target: Callable[..., None], *args: object) -> None:
        context = multiprocessing.get_context("spawn")  # not fork: the server has threads
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_main, args=(child_pipe, target, *args), daemon=True)
        self._process.start()
        child_pipe.close()
        self._started = False

    def send(self, value: object) -> None:
        """Send an object to the process."""
        with contextlib.suppress(OSError):  # `receive` reports that the process has ended
            self._pipe.send(value)

    def receive(self, seconds: float) -> Any:
        """Wait for an object from the process.

        Raises `TimeoutError` after `seconds`, not counting the start of the process, `ProcessEnded` if the process has
        ended, and an `EmodetError` that the process raised.
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
    """Pool of processes that decode images; a process is started when none is idle."""

    def __init__(self, *, seconds: float) -> None:
        """Create the pool; `seconds` is the time limit per image, after which its process is killed."""
        self._seconds = seconds
        self._idle: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._all: set[Process] = set()

    def decode(self, data: bytes, max_pixels: int) -> UInt8:
        """Decode an image like `emodet.images.decode_rgb`. Blocks, so call it in a thread.

        Raises `TimeoutError` if it takes too long, and `ProcessEnded` if memory is exhausted or after `close`.
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
            # Reuse a process only after a complete result; the pipe could still contain a part of this one.
            if isinstance(problem, ProcessEnded) or not isinstance(problem, EmodetError):
                self._all.discard(process)
                process.close()
            raise
        finally:
            if process in self._all:
                self._idle.put(process)

    def close(self) -> None:
        """Kill all processes, including busy ones."""
        for process in list(self._all):
            process.close()


def _main(pipe: Connection, target: Callable[..., None], *args: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C and ends this process
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
