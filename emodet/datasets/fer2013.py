"""FER2013: 48×48 grey faces as numbers in one CSV file. Goodfellow et al. 2013 (arXiv 1307.0414)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np

from emodet.datasets.class_labels import ORDERS
from emodet.datasets.csv_rows import CsvRows, damaged_or_has, header_of
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, FER2013_ORDER
from emodet.errors import EmodetError

SPLITS: Mapping[str, str] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""FER2013's word for a split, to ours."""

_FILES = ("fer2013.csv", "icml_face_data.csv")
_COLUMNS = ("emotion", "usage", "pixels")
_SIDE = 48
_PIXEL = {str(value).encode(): value for value in range(256)}
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in ORDERS["fer2013"].items()}


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

    def pixel_rows(self) -> Iterator[tuple[str, str, int]]:
        """Emotion, Usage and offset of every row; one that does not fit, as the last one of a file that was cut off, is
        an error.
        """
        rows = CsvRows(self.pixels, _COLUMNS, delimiter=",")
        place = 0
        try:
            with self.pixels.open("rb") as file:
                for rows.line, line in enumerate(file, start=1):
                    offset, place = place, place + len(line)
                    if rows.line == 1 or not line.strip():
                        continue
                    cells = _cells(line)
                    if len(cells) != rows.width:
                        raise rows.error(f"{len(cells)} columns where the header has {rows.width}; is it cut off?")
                    emotion, usage, pixels = (cells[rows.columns[name]] for name in _COLUMNS)
                    # Counting spaces takes a tenth of the time of splitting, and nearly always suffices.
                    count = pixels.count(b" ") + 1
                    if count != _SIDE * _SIDE and (count := len(pixels.split())) != _SIDE * _SIDE:
                        raise rows.error(f"{count} pixels instead of 48×48; is it cut off?")
                    yield emotion.decode(errors="replace"), usage.decode(errors="replace"), offset
        except OSError as problem:
            raise EmodetError(f"{self.pixels}: cannot be read ({problem})") from None
        if rows.line < 2:
            raise EmodetError(f"{self.pixels}: there are no rows below the header")

    def file_of(self, _sample: Sample) -> Path:
        return self.pixels

    def encoded(self, sample: Sample) -> bytes:
        """The picture as PNG, 48×48, grey."""
        with self.pixels.open("rb") as file:
            file.seek(int(sample.file or 0))
            pixels = max(_cells(file.readline()), key=len)
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
        for number, (emotion, usage, offset) in enumerate(self.pixel_rows()):
            where = f"{self.pixels}, row {number}"
            if usage not in SPLITS:
                raise EmodetError(f"{where}: Usage={usage!r} is not {', '.join(SPLITS)}")
            if emotion not in _CLASSES:
                raise EmodetError(f"{where}: emotion={emotion!r} is not a number from 0 to 6")
            yield Sample(f"{number:05d}", SPLITS[usage], _CLASSES[emotion], file=str(offset))


def _cells(line: bytes) -> list[bytes]:
    # No cell holds a comma, so quotes decide nothing; parsing them takes several times as long.
    return [cell.strip(b' "\r\n') for cell in line.split(b",")]
