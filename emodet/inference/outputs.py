"""Where results go: rows, annotated pictures and videos, timelines, a window."""

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TextIO

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.inference.capture import LiveVideo, VideoFile
from emodet.inference.faces import Box, Face
from emodet.inference.pictures import draw, heat_maps, readable
from emodet.inference.pipeline import Result
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowWriter, face_row, open_rows
from emodet.inference.sources import Source
from emodet.inference.timeline import Timeline
from emodet.inference.video_writer import VideoWriter

__all__ = ["Outputs", "VideoOutputs", "WindowClosed", "write_whole"]

UInt8 = npt.NDArray[np.uint8]

_JPEG_QUALITY = 92
_MOST_STILL_MAPS = 3
_LARGEST_GAP_S = 60  # of something live that dropped: a longer one is not filled with its last frame


class WindowClosed(Exception):  # noqa: N818 (a wish, not an error)
    """The user closed the window, or pressed q or Esc in it."""


class Outputs:
    """What one run writes and shows; a context manager that finishes its files."""

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        folder: Path | None = None,
        rows: str | None = None,
        stream: TextIO | None = None,
        annotate: bool = False,
        show: bool = False,
        hide: bool = False,
        explain: bool = False,
    ) -> None:
        """Open the file of rows.

        Args:
            recognizer: What recognises; heat maps ask it again.
            folder: Where files go. It must be there.
            rows: One of `emodet.inference.rows.ROW_FORMATS`, or None for no rows.
            stream: Where rows go without a folder.
            annotate: Write annotated pictures and videos.
            show: Show them in a window.
            hide: Make faces unrecognisable in both.
            explain: Put heat maps beside them.

        Raises:
            EmodetError: The file of rows cannot be opened.
        """
        self.recognizer = recognizer
        self.folder = folder
        self.show, self.hide, self.explain = show, hide, explain
        self.annotate = annotate and folder is not None
        self.rows_path: Path | None = None
        self._open = ExitStack()
        self._rows: RowWriter | None = None
        if rows is not None:
            self.rows_path = folder / f"faces.{rows}" if folder else None
            target = self.rows_path or stream
            if target is None:
                raise EmodetError("rows need a folder or a stream to go to")
            names = recognizer.model.info.class_names
            self._rows = self._open.enter_context(open_rows(rows, target, names))

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, problem, trace)

    @property
    def draws(self) -> bool:
        """Whether anybody will see pictures."""
        return self.annotate or self.show

    def write_rows(self, name: str, frame: int, time_s: float | None, faces: Sequence[Face]) -> None:
        """Add the rows of a frame.

        Raises:
            RowsError: They cannot be written.
        """
        if self._rows is not None:
            for place, face in enumerate(faces):
                self._rows.write(face_row(name, frame, time_s, place, face))

    def still(self, source: Source, image_rgb: UInt8, faces: Sequence[Face], hidden: Sequence[Box]) -> list[Path]:
        """Everything about one picture.

        Args:
            source: Which.
            image_rgb: uint8, (H, W, 3), RGB.
            faces: What was recognised.
            hidden: What must not be recognisable where faces are hidden.

        Returns:
            The files written, besides the rows.

        Raises:
            EmodetError: A file cannot be written.
            WindowClosed: The user wants no more.
        """
        self.write_rows(source.name, 0, None, faces)
        if not self.draws:
            return []
        maps = heat_maps(self.recognizer, image_rgb, faces, at_most=_MOST_STILL_MAPS) if self.explain else None
        large, moved = readable(image_rgb, faces)
        factor = large.shape[1] / image_rgb.shape[1]
        boxes = [tuple(value * factor for value in box) for box in hidden] if self.hide else None
        picture = draw(large, moved, hidden=boxes, maps=maps)
        written = []
        if self.annotate:
            path = self.path(source, ".annotated.jpg")
            write_whole(_encoded(picture, ".jpg"), path)
            written.append(path)
        if self.show:
            _show(picture, wait_ms=0)
        return written

    def video(self, source: Source, video: VideoFile | LiveVideo) -> "VideoOutputs":
        """Outputs of one video; a context manager."""
        return VideoOutputs(self, source, video)

    def path(self, source: Source, ending: str) -> Path:
        """Where a result of a source goes.

        Raises:
            EmodetError: Its folder cannot be made.
        """
        assert self.folder is not None
        path = self.folder / source.stem.with_name(source.stem.name + ending)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise EmodetError(f"{path.parent}: the folder could not be made ({problem.strerror})") from None
        return path


class VideoOutputs:
    """What is written and shown of one video; a context manager that finishes its files, also after an error.

    Attributes:
        files: What has been written when it is closed.
    """

    def __init__(self, outputs: Outputs, source: Source, video: VideoFile | LiveVideo) -> None:
        self._outputs, self._source = outputs, source
        self._live = isinstance(video, LiveVideo)
        self._rate = video.frame_rate
        self._timeline = Timeline(outputs.recognizer.model.info.class_names) if outputs.folder else None
        self._writer: VideoWriter | None = None
        self._written = 0
        self._frames = 0
        self.files: list[Path] = []

    def __enter__(self) -> "VideoOutputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.__exit__(kind, problem, trace)
                if self._writer.path.exists():
                    self.files.append(self._writer.path)
            if self._timeline is not None and self._frames:
                path = self._outputs.path(self._source, ".timeline.png")
                write_whole(_encoded(self._timeline.draw(self._source.name), ".png"), path)
                self.files.append(path)
        except EmodetError:
            # The first trouble is the one to tell of.
            if problem is None or isinstance(problem, KeyboardInterrupt):
                raise

    def add(self, result: Result, note: str) -> None:
        """Take in one frame, in order.

        Args:
            result: The frame and its faces.
            note: A line to draw into it.

        Raises:
            EmodetError: Something cannot be written.
            WindowClosed: The user wants no more.
        """
        frame = result.frame
        if result.fresh:
            self._frames += 1
            self._outputs.write_rows(self._source.name, frame.index, frame.time_s, result.faces)
            if self._timeline is not None:
                self._timeline.add(frame.time_s, result.faces)
        if not self._outputs.draws:
            return
        hidden = result.hidden if self._outputs.hide else None
        maps = result.maps if self._outputs.explain else None
        picture = draw(frame.image_rgb, result.faces, hidden=hidden, maps=maps, note=note)
        if self._outputs.annotate:
            self._write(picture, frame.time_s)
        if self._outputs.show:
            _show(picture, wait_ms=1)

    def _write(self, picture: UInt8, time_s: float) -> None:
        if self._writer is None:
            size = (picture.shape[1], picture.shape[0])
            path = self._outputs.path(self._source, ".annotated.mp4")
            self._writer = VideoWriter(path, size=size, frame_rate=self._rate)
        # Every frame of a file once. What is live was recognised as often as it could be: it is shown for as long
        # as it lasted, so that the video runs at the speed of life.
        copies = 1
        if self._live:
            copies = math.floor(time_s * self._rate) + 1 - self._written
            copies = min(copies, math.ceil(_LARGEST_GAP_S * self._rate))
            self._written += max(0, math.floor(time_s * self._rate) + 1 - self._written)
        for _ in range(copies):
            self._writer.write(picture)


def write_whole(data: bytes, path: Path) -> None:
    """Write a file whole or not at all; one that is there is replaced.

    Raises:
        EmodetError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as problem:
        raise EmodetError(f"{path}: could not be written ({problem.strerror or problem})") from None
    finally:
        if partial.exists():
            partial.unlink()


def _encoded(picture: UInt8, suffix: str) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else []
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise EmodetError(f"a picture of {picture.shape[1]}×{picture.shape[0]} pixels could not be encoded as {suffix}")
    return bytes(data.tobytes())


def _show(picture: UInt8, *, wait_ms: int) -> None:
    title = "emodet"
    try:
        cv2.imshow(title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        while True:
            key = cv2.waitKey(wait_ms or 50) & 0xFF
            if key in (ord("q"), 27) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
                raise WindowClosed
            if wait_ms or key != 0xFF:
                return
    except cv2.error as problem:
        raise EmodetError(
            f"no window can be opened here ({problem.err or problem}); opencv-python-headless has none"
        ) from None
