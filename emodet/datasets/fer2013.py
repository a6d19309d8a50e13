"""FER2013: 48×48 grey faces as numbers in one CSV file. Goodfellow et al. 2013 (arXiv 1307.0414)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from emodet.datasets.class_labels import ORDERS
from emodet.datasets.csv_rows import damaged_or_has, header_of
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, FER2013_ORDER
from emodet.errors import EmodetError

__all__ = ["SPLITS", "Fer2013", "PixelReader", "PixelRow"]

SPLITS: Mapping[str, str] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""FER2013's word for a split, to ours."""

_FILES = ("fer2013.csv", "icml_face_data.csv")
_COLUMNS = ("emotion", "usage", "pixels")
_SIDE = 48
_MAX_LINE_BYTES = 1 << 16
_PIXEL = {str(value).encode(): value for value in range(256)}
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in ORDERS["fer2013"].items()}


class PixelRow(NamedTuple):
    """A row of a file with the columns emotion, Usage and pixels, and where it begins in the file."""

    emotion: str
    usage: str
    offset: int


class PixelReader(Reader):
    """A reader whose pictures are rows of a CSV file of 300 MB, which is not held in memory.

    A sample's key is the row's number from 0, its `Sample.file` the row's offset in bytes.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pixels = self.pixel_file()

    def pixel_file(self) -> Path:
        """Find the CSV file with the pixels."""
        raise NotImplementedError

    def pixel_rows(self) -> Iterator[PixelRow]:
        """Every row in order; one that does not fit, as the last one of a file that was cut off, is an error."""
        path = self.pixels
        header = header_of(path)
        if any(header.count(name) != 1 for name in _COLUMNS):
            there = ", ".join(header)[:200] or "none"
            raise EmodetError(f"{path}: needs the columns emotion, pixels and Usage once each; it has {there}")
        columns = [header.index(name) for name in _COLUMNS]
        place = number = 0
        try:
            with path.open("rb") as file:
                while line := file.readline(_MAX_LINE_BYTES):
                    offset, place, number = place, place + len(line), number + 1
                    if number == 1 or not line.strip():
                        continue
                    cells = _cells(line)
                    if len(cells) != len(header):
                        what = f"{len(cells)} columns where the header has {len(header)}"
                        raise EmodetError(f"{path}, line {number}: {what}; is it cut off?")
                    emotion, usage, pixels = (cells[column] for column in columns)
                    # Counting spaces takes a tenth of the time of splitting, and nearly always suffices.
                    count = pixels.count(b" ") + 1
                    if count != _SIDE * _SIDE and (count := len(pixels.split())) != _SIDE * _SIDE:
                        raise EmodetError(f"{path}, line {number}: {count} pixels instead of 48×48; is it cut off?")
                    yield PixelRow(emotion.decode(errors="replace"), usage.decode(errors="replace"), offset)
        except OSError as problem:
            raise EmodetError(f"{path}: cannot be read ({problem})") from None
        if number < 2:
            raise EmodetError(f"{path}: there are no rows below the header")

    def file_of(self, _sample: Sample) -> Path:
        return self.pixels

    def encoded(self, sample: Sample) -> bytes:
        """The picture as PNG, 48×48, grey."""
        with self.pixels.open("rb") as file:
            file.seek(int(sample.file or 0))
            pixels = max(_cells(file.readline(_MAX_LINE_BYTES)), key=len)
        try:
            picture = np.frombuffer(bytes(map(_PIXEL.__getitem__, pixels.split())), np.uint8).reshape(_SIDE, _SIDE)
        except (KeyError, ValueError):
            raise EmodetError(f"{self.pixels}, row {int(sample.key)}: not 48×48 numbers from 0 to 255") from None
        return bytes(cv2.imencode(".png", picture)[1].tobytes())


class Fer2013(PixelReader):
    """`fer2013.csv`, or `icml_face_data.csv`, which is the same with spaces before the names of its columns.

    A sample's key is the row's number from 0, as FER+ counts. PublicTest is our val and PrivateTest our test. The root
    may also be the file itself. The class folders in which FER2013 also goes round are read as class folders.
    """

    name = "fer2013"
    title = "FER2013 (CSV)"
    signs = "fer2013.csv or icml_face_data.csv with the columns emotion, pixels, Usage"
    expected = {  # noqa: RUF012
        "train": dict(zip(FER2013_ORDER, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)),
        "val": dict(zip(FER2013_ORDER, (467, 56, 496, 895, 653, 415, 607), strict=True)),
        "test": dict(zip(FER2013_ORDER, (491, 55, 528, 879, 594, 416, 626), strict=True)),
    }

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any(damaged_or_has(folder / name, _COLUMNS[1:]) for name in _FILES)

    @classmethod
    def matches_file(cls, file: Path) -> bool:
        return file.name.lower().endswith(".csv") and set(_COLUMNS) <= set(header_of(file))

    def pixel_file(self) -> Path:
        return self.root if self.root.is_file() else next(p for name in _FILES if (p := self.base / name).is_file())

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        for number, row in enumerate(self.pixel_rows()):
            where = f"{self.pixels}, row {number}"
            if row.usage not in SPLITS:
                raise EmodetError(f"{where}: Usage={row.usage!r} is not {', '.join(SPLITS)}")
            if row.emotion not in _CLASSES:
                raise EmodetError(f"{where}: emotion={row.emotion!r} is not a number from 0 to 6")
            yield Sample(f"{number:05d}", SPLITS[row.usage], _CLASSES[row.emotion], file=str(row.offset))


def _cells(line: bytes) -> list[bytes]:
    # No cell holds a comma, so quotes decide nothing; parsing them takes several times as long.
    return [cell.strip(b' "\r\n') for cell in line.split(b",")]
