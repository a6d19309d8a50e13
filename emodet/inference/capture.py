"""Cameras, streams, and reading ahead in a thread.

Reading a file yields every frame, even if recognition is slow. Reading a live source yields the newest frame; older
frames are dropped and counted.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from emodet.errors import EmodetError, require
from emodet.images import MAX_PIXELS
from emodet.inference.sources import hide_password
from emodet.inference.video_reader import FALLBACK_RATE, MAX_RATE, Frame, VideoReader

_MAX_WAIT_S = 30.0

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


class LiveVideo(contextlib.AbstractContextManager["LiveVideo", None]):
    """A camera or a stream; a context manager. Iteration yields the newest frame until the source is closed or lost.

    Attributes:
        name: Name for messages, without a password.
        frame_rate: Frames per second as reported by the device; 25 if it reports none.
        size: Width and height in pixels.
        dropped: Number of frames that were replaced by a newer one before they were read.
        frame_count: 0: the length is unknown.
    """

    def __init__(
        self,
        address: str | int,
        *,
        attempts: int = 8,
        first_wait_s: float = 0.5,
        on_event: Callable[[str], None] | None = None,
        max_pixels: int | None = MAX_PIXELS,
        source: "VideoReader | _Camera | None" = None,
    ) -> None:
        """Open a camera index or a URL; `on_event` and `max_pixels` as in `open_video`.

        After a lost connection, an error is raised when `attempts` to reconnect have failed. The pause before an
        attempt is `first_wait_s` seconds and doubles up to 30 s. `source` is that of `address` if it is already open.
        """
        self.name = f"camera {address}" if isinstance(address, int) else hide_password(address)
        self._address, self._attempts, self._first_wait_s = address, attempts, first_wait_s
        self._report = on_event or _log.warning
        self._max_pixels = max_pixels
        self._source = source or self._connect()
        self.frame_rate, self.size = self._source.frame_rate, self._source.size
        self.frame_count = self.damaged = self.partly_damaged = self.dropped = 0
        self._newest: deque[Frame] = deque(maxlen=1)
        self._changed, self._stop = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._is_read = False

    def close(self) -> None:
        """End the iteration. Can be called from any thread."""
        self._stop.set()
        self._changed.set()
        if not self._is_read:  # otherwise the reading thread closes the source
            self._source.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Generator[Frame, None, None]:
        """Yield the newest frame repeatedly; raise `EmodetError` if the connection is lost and cannot be restored."""
        thread = threading.Thread(target=self._read, name=f"capture {self.name}", daemon=True)
        self._is_read = True
        thread.start()
        try:
            while self._newest or not self._stop.is_set():
                self._changed.wait(timeout=0.5)  # a wait without a timeout blocks Ctrl-C on some systems
                self._changed.clear()
                if self._newest:
                    yield self._newest.popleft()
            if self._error is not None:
                raise self._error
        finally:
            self.close()
            # A device that hangs in its driver must not prevent the program from exiting.
            thread.join(timeout=2)

    def _read(self) -> None:
        started: float | None = None
        index = 0
        try:
            while not self._stop.is_set():
                with contextlib.suppress(EmodetError):  # a stream that ends early is a lost connection
                    for frame in self._source:
                        if self._stop.is_set():
                            return
                        started = frame.taken_s if started is None else started
                        self.dropped += len(self._newest)
                        self._newest.append(Frame(index, frame.taken_s - started, frame.image_rgb, frame.taken_s))
                        self._changed.set()
                        index += 1
                self._reconnect()
        except BaseException as error:  # raised again in the iterating thread
            self._error = error
        finally:
            self._source.close()
            self.close()

    def _connect(self) -> "VideoReader | _Camera":
        address = self._address
        return _Camera(address) if isinstance(address, int) else VideoReader(address, max_pixels=self._max_pixels)

    def _reconnect(self) -> None:
        wait_s = self._first_wait_s
        self._source.close()
        for attempt in range(1, self._attempts + 1):
            self._report(f"{self.name}: connection lost; attempt {attempt} of {self._attempts} in {wait_s:g} s")
            if self._stop.wait(wait_s):
                return
            try:
                self._source = self._connect()
            except EmodetError:
                wait_s = min(2 * wait_s, _MAX_WAIT_S)
                continue
            self._report(f"{self.name}: connected again")
            return
        raise EmodetError(f"{self.name}: the connection was lost and not restored in {self._attempts} attempts")


class _Camera:
    """A camera by its index, through OpenCV."""

    def __init__(self, index: int) -> None:
        require(index >= 0, "camera", index, "0 or more")  # OpenCV crashes on negative indices
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(index)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise EmodetError(f"camera {index}: there is no such camera, or another program uses it")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = rate if 0 < rate <= MAX_RATE else FALLBACK_RATE
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        self.size = int(self._capture.get(width)), int(self._capture.get(height))

    def __iter__(self) -> Iterator[Frame]:
        while True:
            success, image = self._capture.read()
            if not success:
                return
            rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            yield Frame(0, 0.0, rgb, time.perf_counter())

    def close(self) -> None:
        self._capture.release()


def open_video(
    address: Path | str | int,
    *,
    live: bool | None = None,
    max_pixels: int | None = MAX_PIXELS,
    on_event: Callable[[str], None] | None = None,
) -> VideoReader | LiveVideo:
    """Open a video, camera or stream: a context manager, which yields `Frame`s when iterated.

    A web address of a video with a known end is read frame by frame, like a file. Raises `EmodetError` if the address
    is not a video or cannot be opened.

    Args:
        address: A path, a camera index, or an address such as ``rtsp://…`` or ``https://…``.
        live: Whether the source is live; None means that addresses and cameras are.
        max_pixels: Maximum of width times height of a frame; None for no limit.
        on_event: Called with a message when the connection is lost or restored.
    """
    live = isinstance(address, str) and "://" in address if live is None else live
    if isinstance(address, int):
        return LiveVideo(address, on_event=on_event)
    reader = VideoReader(address, max_pixels=max_pixels)
    if not live or (str(address).lower().startswith("http") and reader.has_end):
        return reader
    return LiveVideo(str(address), on_event=on_event, max_pixels=max_pixels, source=reader)


def read_ahead(
    items: Iterable[Item], capacity: int = 4, *, before_close: Callable[[], None] | None = None
) -> Generator[Item, None, None]:
    """Yield the items; a background thread produces at most `capacity` of them ahead.

    An exception of `items` is raised after the preceding items. Closing the iterator calls `before_close`, which can
    wake up the thread, and joins the thread.
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    ahead = deque(pool.submit(next, iterator, end) for _ in range(capacity))
    try:
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        if before_close is not None:
            before_close()
        pool.shutdown(cancel_futures=True)
        if isinstance(iterator, Generator):
            iterator.close()
