"""Read and decode the images among the inputs, from files, pipes and web addresses."""

import contextlib
import itertools
import logging
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS, decode_rgb
from emodet.inference.fetch import MAX_BYTES, NoImageError, fetch_image
from emodet.inference.sources import Source, TableImage, is_video

_MIN_SIDE = 8  # pixels; nothing smaller shows a face


@dataclass(frozen=True, slots=True)
class Opened:
    """An input with its decoded image; without one for a video or after an error."""

    source: Source
    image_rgb: UInt8 | None = None
    notes: tuple[str, ...] = ()
    error: Exception | None = None


def opened(sources: Iterable[Source], max_pixels: int = MAX_PIXELS) -> Generator[Opened, None, None]:
    """Decode the images among the inputs, one at a time."""
    for source in sources:
        try:
            yield _opened(source, max_pixels)
        except Exception as error:  # reported in its turn
            yield Opened(source, error=error)


def _opened(source: Source, max_pixels: int) -> Opened:
    if source.error is not None:
        raise EmodetError(source.error)
    if isinstance(source.address, TableImage):
        if not (data := _tables.read(source.address, source.name)):
            raise EmodetError(f"{source.name}: the row is empty")
        return _decoded(source, source.name, data, max_pixels)
    if isinstance(source.address, bytes):
        return _decoded(source, source.name, source.address, max_pixels)
    name = "standard input" if source.address == "-" else source.name
    try:
        if source.kind == "video" or isinstance(source.address, int):
            return Opened(source)
        if source.kind == "live":
            try:
                data = fetch_image(str(source.address), source.name)
            except NoImageError:
                return Opened(source)  # a stream, perhaps; FFmpeg reports why it cannot be opened
        else:
            if source.address == "-":
                data = sys.stdin.buffer.read(MAX_BYTES + 1)
            else:
                with Path(source.address).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise EmodetError(f"{name}: more than {MAX_BYTES >> 20} MB are no image")
    except OSError as problem:
        raise EmodetError(f"{name}: could not be read ({problem.strerror or problem})") from None
    if source.kind == "pipe" and is_video(data[:16]):
        raise EmodetError(f"{name}: a video cannot be read from a pipe; save it to a file and name that")
    return _decoded(source, name, data, max_pixels)


def _decoded(source: Source, name: str, data: bytes, max_pixels: int) -> Opened:
    logger, notes = logging.getLogger("emodet.images"), _Notes()
    logger.addFilter(notes)
    try:
        image = decode_rgb(data, name=name, max_pixels=max_pixels)
    finally:
        logger.removeFilter(notes)
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        raise EmodetError(f"{name}: {width}×{height} pixels are too few to show a face")
    return Opened(source, image, tuple(note.removeprefix(f"{name}: ") for note in notes.texts))


class _Tables:
    """Reads encoded images of Parquet files, of each row group forward, so that memory does not grow with its size."""

    def __init__(self) -> None:
        self._place: tuple[Path, str, int] | None = None
        self._next = 0
        self._values: Iterator[Any] = iter(())

    def read(self, image: TableImage, name: str) -> Any:
        """The image's bytes, or None; `EmodetError` if the file is damaged there."""
        from pyarrow import ArrowException

        place = image[:3]
        if place != self._place or image.row < self._next:
            self._place, self._next, self._values = place, 0, _column(*place)
        try:
            value = next(itertools.islice(self._values, image.row - self._next, None)).as_py()
        except (ArrowException, OSError, StopIteration) as problem:
            self._place = None
            raise EmodetError(f"{name}: not readable as Parquet ({problem})") from None
        self._next = image.row + 1
        return value["bytes"] if isinstance(value, dict) else value


def _column(file: Path, column: str, group: int) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(file, memory_map=True, pre_buffer=False) as table:
        for batch in table.iter_batches(batch_size=16, row_groups=[group], columns=[column], use_threads=False):
            yield from batch.column(0)


_tables = _Tables()  # of this process


class _Notes(logging.Filter):
    """Collects what the decoder warns of, for the summary, instead of logging it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        return False


@contextlib.contextmanager
def pillow_limit(pixels: int) -> Iterator[None]:
    """Raise Pillow's own limit of pixels to what the user asked for; `decode_rgb` enforces it."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if before is not None:
            Image.MAX_IMAGE_PIXELS = max(before, pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
