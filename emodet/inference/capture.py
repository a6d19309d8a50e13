"""Frames of video files, cameras and streams, read in a thread of their own.

A file gives every frame, however long recognition takes; something live gives its newest one, and what came in
between is left out and counted. At most a handful of frames are in memory.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference.sources import hide_password

__all__ = ["Frame", "LiveVideo", "VideoFile", "open_video", "read_ahead"]

_FALLBACK_RATE = 25.0
_LARGEST_RATE = 1000.0
_TIMEOUT_MS = 10_000
_LARGEST_WAIT_S = 30.0
_MISSING_SHARE = 0.02
_EXACT_COUNTS = frozenset([".mp4", ".m4v", ".mov", ".3gp", ".avi"])

_log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video.

    Attributes:
        index: From 0, counting also those that were left out.
        time_s: Seconds since the video's start, or since a live one was opened.
        image_rgb: uint8, (H, W, 3), RGB.
        taken_s: `time.perf_counter` when it was there.
    """

    index: int
    time_s: float
    image_rgb: npt.NDArray[np.uint8]
    taken_s: float


class VideoFile:
    """A video that ends. Iterating gives every frame, once.

    Attributes:
        name: For messages.
        frame_rate: Frames per second; 25 where the file says nothing that can be true.
        frame_count: How many there should be, 0 where the file does not say.
        size: Width and height in pixels, upright.
    """

    def __init__(
        self, address: Path | str, *, max_pixels: int | None = None, capture: cv2.VideoCapture | None = None
    ) -> None:
        """Open the file.

        Args:
            address: A path, or the URL of a file.
            max_pixels: Frames with more pixels are refused; None for no limit.
            capture: The address opened already.

        Raises:
            EmodetError: It is not there, is no video that OpenCV can read, or its frames are larger than
                `max_pixels`.
        """
        self.name = hide_password(str(address))
        self._suffix = Path(str(address).partition("?")[0]).suffix.lower()
        if isinstance(address, Path) and not address.stat().st_size:
            raise EmodetError(f"{self.name}: the file is empty")
        self._capture = capture or _open(str(address))
        if not self._capture.isOpened():
            raise EmodetError(f"{self.name}: not a video that OpenCV can read, or cut off before its first frame")
        self.frame_rate = _frame_rate(self._capture)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if 0 < count < 1e9 else 0
        self.size = _size(self._capture)
        if max_pixels is not None and self.size[0] * self.size[1] > max_pixels:
            self._capture.release()
            raise EmodetError(
                f"{self.name}: frames of {self.size[0]}×{self.size[1]} pixels are more than the limit of "
                f"{max_pixels:,}; raise max_pixels if the file is to be trusted"
            )

    def __iter__(self) -> Generator[Frame, None, None]:
        """`frames` without leaving any out."""
        return self.frames()

    def frames(self, every: int = 1) -> Generator[Frame, None, None]:
        """Every so many frames, beginning with the first; those between are not even decoded where that can be.

        Raises:
            EmodetError: There is none, or the file ends before it should; after the last frame that can be read.
        """
        index, time_s = 0, 0.0
        try:
            while True:
                wanted = index % every == 0
                found, image = self._capture.read() if wanted else (self._capture.grab(), None)
                if not found:
                    break
                position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                # Some containers give no times, or turn back to 0 at the end.
                time_s = position if index and position > time_s else index / self.frame_rate
                if wanted:
                    yield Frame(index, time_s, _rgb(image), time.perf_counter())
                index += 1
        finally:
            self._capture.release()
        if not index:
            raise EmodetError(f"{self.name}: there is no frame in this video")
        if self._ends_early(index, time_s):
            raise EmodetError(
                f"{self.name}: the video ends early, after {index} of {self.frame_count} frames; those were recognised"
            )

    def _ends_early(self, frames: int, last_s: float) -> bool:
        if self._suffix in _EXACT_COUNTS:
            return self.frame_count - frames > 2 + self.frame_count * _MISSING_SHARE
        # Other containers only tell their length in time, of whichever track is the longest.
        duration = self.frame_count / self.frame_rate
        return duration - last_s - 1 / self.frame_rate > max(1.0, duration * _MISSING_SHARE)


class LiveVideo:
    """A camera or a stream. Iterating gives the newest frame each time, until closed or lost for good.

    Attributes:
        name: For messages.
        frame_rate: Frames per second that the device claims; 25 where it does not say.
        size: Width and height in pixels.
        left_out: How many frames were never given because a newer one was there.
        reconnected: How often the connection was lost and made again.
    """

    def __init__(
        self,
        address: str | int,
        *,
        attempts: int = 8,
        first_wait_s: float = 0.5,
        on_event: Callable[[str], None] | None = None,
        capture: cv2.VideoCapture | None = None,
    ) -> None:
        """Open the camera or the stream; if it drops later, it is opened again after growing pauses.

        Args:
            address: A camera's number, or a URL.
            attempts: How often in a row to try to open it again before giving up.
            first_wait_s: The first pause; it doubles up to half a minute.
            on_event: Told in words when the connection is lost and when it is back.
            capture: The address opened already.

        Raises:
            EmodetError: It cannot be opened.
        """
        self.name = f"camera {address}" if isinstance(address, int) else hide_password(address)
        self._address = address
        self._attempts, self._first_wait_s = attempts, first_wait_s
        self._tell = on_event or _log.warning
        self._capture = capture or _open(address)
        if not self._capture.isOpened():
            raise EmodetError(
                f"{self.name}: there is no such camera, or another program uses it"
                if isinstance(address, int)
                else f"{self.name}: the stream cannot be opened"
            )
        self.frame_rate = _frame_rate(self._capture)
        self.size = _size(self._capture)
        self.reconnected = 0
        self._stop = threading.Event()
        self._slot = _Slots[Frame](1, drop_oldest=True)

    @property
    def left_out(self) -> int:
        """See the class."""
        return self._slot.dropped

    def close(self) -> None:
        """End the iteration, from whichever thread."""
        self._stop.set()
        self._slot.end()

    def __iter__(self) -> Generator[Frame, None, None]:
        """The newest frame, again and again.

        Raises:
            EmodetError: The connection was lost and could not be made again.
        """
        thread = threading.Thread(target=self._read, name=f"capture {self.name}", daemon=True)
        thread.start()
        try:
            yield from self._slot
        finally:
            self.close()
            self._slot.close()
            # A device that hangs in its driver must not keep the program from ending.
            thread.join(timeout=2)

    def _read(self) -> None:
        started = time.perf_counter()
        index = 0
        try:
            while not self._stop.is_set():
                found, image = self._capture.read()
                if not found:
                    self._connect_again()
                    continue
                now = time.perf_counter()
                self._slot.put(Frame(index, now - started, _rgb(image), now))
                index += 1
            self._slot.end()
        except BaseException as problem:  # handed to the thread that iterates
            self._slot.end(problem)
        finally:
            self._capture.release()

    def _connect_again(self) -> None:
        wait_s = self._first_wait_s
        for attempt in range(1, self._attempts + 1):
            self._tell(f"{self.name}: connection lost; attempt {attempt} of {self._attempts} in {wait_s:g} s")
            self._capture.release()
            if self._stop.wait(wait_s):
                return
            self._capture = _open(self._address)
            if self._capture.isOpened():
                self.reconnected += 1
                self._tell(f"{self.name}: connected again")
                return
            wait_s = min(2 * wait_s, _LARGEST_WAIT_S)
        raise EmodetError(f"{self.name}: the connection was lost and did not come back in {self._attempts} attempts")


def open_video(
    address: Path | str | int,
    *,
    live: bool,
    max_pixels: int | None = None,
    on_event: Callable[[str], None] | None = None,
) -> VideoFile | LiveVideo:
    """Open a file, or something live; a web address that has an end is read like a file, every frame.

    Raises:
        EmodetError: It cannot be opened.
    """
    if not live and not isinstance(address, int):
        return VideoFile(address, max_pixels=max_pixels)
    if isinstance(address, Path):
        address = str(address)
    capture = _open(address)
    if isinstance(address, str) and address.lower().startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return VideoFile(address, max_pixels=max_pixels, capture=capture)
    return LiveVideo(address, on_event=on_event, capture=capture)


def read_ahead(items: Iterable[Item], capacity: int = 4) -> Generator[Item, None, None]:
    """The same items, made in a thread of their own while the last ones are being used.

    Args:
        items: Exhausted in the thread; what it raises is raised here, after the items before it.
        capacity: How many wait at most.
    """
    slots = _Slots[Item](capacity, drop_oldest=False)
    thread = threading.Thread(target=_fill, args=(items, slots), name="read ahead", daemon=True)
    thread.start()
    try:
        yield from slots
    finally:
        slots.close()
        thread.join()


class _Slots(Generic[Item]):
    """A bounded queue between two threads that either waits or forgets when it is full."""

    def __init__(self, capacity: int, *, drop_oldest: bool) -> None:
        self._capacity, self._drop_oldest = capacity, drop_oldest
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._problem: BaseException | None = None
        self.dropped = 0

    def put(self, item: Item) -> bool:
        """False once nobody takes items any more."""
        with self._changed:
            if self._drop_oldest and len(self._items) >= self._capacity:
                self._items.popleft()
                self.dropped += 1
            while len(self._items) >= self._capacity and not self._closed:
                self._changed.wait()
            if not self._closed:
                self._items.append(item)
            self._changed.notify_all()
            return not self._closed

    def end(self, problem: BaseException | None = None) -> None:
        with self._changed:
            self._ended, self._problem = True, problem
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                while not self._items and not self._ended:
                    # With a timeout, so that Ctrl-C is heard on every system.
                    self._changed.wait(timeout=0.5)
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if self._problem is not None:
            raise self._problem


def _fill(items: Iterable[Item], slots: _Slots[Item]) -> None:
    iterator = iter(items)
    try:
        for item in iterator:
            if not slots.put(item):
                break
        if isinstance(iterator, Generator):
            iterator.close()
        slots.end()
    except BaseException as problem:  # handed to the thread that iterates
        slots.end(problem)


def _open(address: str | int) -> cv2.VideoCapture:
    # ffmpeg writes to standard error what is said in our own words here.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if isinstance(address, int):
            return cv2.VideoCapture(address)
        timeouts = (
            [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
            if "://" in address
            else []
        )
        # Only ffmpeg: other backends would take a name with digits for a series of pictures.
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _frame_rate(capture: cv2.VideoCapture) -> float:
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if 0 < rate <= _LARGEST_RATE else _FALLBACK_RATE


def _size(capture: cv2.VideoCapture) -> tuple[int, int]:
    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def _rgb(image: Any) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
