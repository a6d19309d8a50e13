"""Decoding of uploaded images with a time limit: in processes, because a thread cannot be stopped."""

import contextlib
import multiprocessing
import queue
import signal
import warnings
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt
from PIL import Image

from emodet.app.errors import ApiError
from emodet.errors import EmodetError
from emodet.images import TooManyPixelsError, decode_rgb

__all__ = ["Decoders"]

UInt8 = npt.NDArray[np.uint8]

_START_S = 60.0  # for a process to start, before its first image


class Decoders:
    """Processes that decode one image each at a time; they start when they are needed."""

    def __init__(self, *, seconds: float) -> None:
        """Prepare; an image that takes longer than `seconds` is refused, and its process killed."""
        self._seconds = seconds
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()

    def decode(self, data: bytes, max_pixels: int) -> UInt8:
        """Decode an image to uint8 (H, W, 3) RGB. Blocks: call it in a thread.

        Raises:
            ApiError: It takes too long, or the process ended: the image needs too much memory.
            EmodetError: As `emodet.images.decode_rgb`.
        """
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = _Process()
        try:
            image = process.decode(data, max_pixels, self._seconds)
        except EmodetError:
            self._idle.put(process)
            raise
        except BaseException:
            process.close()
            raise
        self._idle.put(process)
        return image

    def close(self) -> None:
        """End the idle processes."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


class _Process:
    def __init__(self) -> None:
        # Not fork: the server has threads.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._started = False

    def decode(self, data: bytes, max_pixels: int, seconds: float) -> UInt8:
        try:
            if not self._started and self._pipe.poll(_START_S):
                self._started = bool(self._pipe.recv())
            self._pipe.send((data, max_pixels))
            if not self._pipe.poll(seconds):
                message = f"The image was not decoded within {seconds:g} seconds."
                raise ApiError(422, "picture_unreadable", message, "Save it as an ordinary JPEG or PNG.")
            answer = self._pipe.recv()
            if isinstance(answer, EmodetError):
                raise answer
            return np.frombuffer(self._pipe.recv_bytes(), dtype=np.uint8).reshape(answer)
        except (EOFError, OSError):
            message = "The image could not be decoded: its decoder stopped."
            raise ApiError(422, "picture_unreadable", message, "Send a smaller one.") from None

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    """Decode what arrives until the server closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, and that this process
    # `decode_rgb` enforces the limit; Pillow's own would come first, or warn.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = None
    with contextlib.suppress(EOFError, OSError):
        pipe.send(True)
        while True:
            data, max_pixels = pipe.recv()
            try:
                image = decode_rgb(data, name="image", max_pixels=max_pixels)
            except TooManyPixelsError as problem:
                pipe.send(TooManyPixelsError(str(problem)))
            except EmodetError as problem:
                pipe.send(EmodetError(str(problem)))
            else:
                pipe.send(image.shape)
                pipe.send_bytes(np.ascontiguousarray(image).data.cast("B"))
