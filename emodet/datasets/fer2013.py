"""FER2013: 48×48 grey faces as numbers in one CSV file. Goodfellow et al. 2013 (arXiv 1307.0414)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emodet.datasets.csv_rows import header_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, FER2013_ORDER
from emodet.errors import EmodetError

__all__ = ["SPLITS", "Fer2013", "PixelTable"]

SPLITS: Mapping[str, str] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""FER2013's word for a split, to ours."""

_FILES = ("fer2013.csv", "icml_face_data.csv")
_COLUMNS = ("emotion", "pixels", "usage")
_SIDE = 48
_MAX_LINE_BYTES = 1 << 16
_PIXEL = {str(value).encode(): value for value in range(256)}
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in enumerate(FER2013_ORDER)}


class Fer2013(FolderReader):
    """`fer2013.csv`, or `icml_face_data.csv`, which is the same with spaces before the names of its columns.

    A record's key is the row's number from 0, as FER+ counts. PublicTest is our val and PrivateTest our test. The file
    of 300 MB is not held in memory: a picture is read from its place in it, and handed out as PNG without loss. The
    class folders in which FER2013 also goes round are read as class folders.

    Args:
        root: The file, the folder that holds it, or a folder that holds nothing but that folder.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "fer2013"
    title: ClassVar[str] = "FER2013 (CSV)"
    signs: ClassVar[str] = "fer2013.csv or icml_face_data.csv with the columns emotion, pixels, Usage"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": dict(zip(FER2013_ORDER, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)),
        "val": dict(zip(FER2013_ORDER, (467, 56, 496, 895, 653, 415, 607), strict=True)),
        "test": dict(zip(FER2013_ORDER, (491, 55, 528, 879, 594, 416, 626), strict=True)),
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        files = (self.base / name for name in _FILES)
        self.table = PixelTable(root if root.is_file() else next(file for file in files if _has_columns(file)))

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: The file cannot be read or has a row that does not fit. The message names the line.
        """
        records = []
        for row, face in enumerate(self.table.faces()):
            where = f"{self.table.path}, row {row}"
            if face.usage not in SPLITS:
                raise EmodetError(f"{where}: Usage={face.usage!r} is not {', '.join(SPLITS)}")
            if face.emotion not in _CLASSES:
                raise EmodetError(f"{where}: emotion={face.emotion!r} is not a number from 0 to 6")
            records.append(Sample(f"{row:05d}", SPLITS[face.usage], _CLASSES[face.emotion]))
        return Listing(tuple(records))

    def file_of(self, _record: Sample) -> Path:
        """The one file that holds all pictures."""
        return self.table.path

    def encoded(self, record: Sample) -> bytes:
        """The picture as PNG.

        Raises:
            OSError: The file cannot be read.
            EmodetError: The row does not hold 48×48 numbers from 0 to 255.
        """
        return self.table.png(int(record.key))

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any(_has_columns(folder / name) for name in _FILES)

    @classmethod
    def _fits(cls, file: Path) -> bool:
        return file.name.lower().endswith(".csv") and _has_columns(file)


class PixelRow(NamedTuple):
    """What a row of `PixelTable` says besides its pixels."""

    emotion: str
    usage: str


class PixelTable:
    """A CSV file with the columns emotion, pixels (2,304 numbers) and Usage, of which only the rows' places are kept.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at: dict[str, int] = {}
        self._width = 0
        self._places: npt.NDArray[np.int64] | None = None

    def faces(self) -> list[PixelRow]:
        """Every row in order, from 0.

        Raises:
            EmodetError: The file cannot be read or has a row that does not fit, as the last one of a file that was cut
                off. The message names the line.
        """
        header = header_of(self.path)
        if sorted(name for name in header if name in _COLUMNS) != sorted(_COLUMNS):
            raise EmodetError(
                f"{self.path}: the header must have emotion, pixels and Usage; it has {', '.join(header)}"
            )
        self._at = {name: header.index(name) for name in _COLUMNS}
        self._width = len(header)
        found: list[PixelRow] = []
        places: list[int] = []
        place = number = 0
        try:
            with self.path.open("rb") as file:
                while line := file.readline(_MAX_LINE_BYTES):
                    number += 1
                    start, place = place, place + len(line)
                    if number == 1 or not line.strip():
                        continue
                    cells = self._cells(line, f"line {number}")
                    pixels = cells[self._at["pixels"]].strip()
                    # Counting spaces takes a tenth of the time of splitting, and nearly always suffices.
                    count = pixels.count(b" ") + 1
                    if count != _SIDE * _SIDE and (count := len(pixels.split())) != _SIDE * _SIDE:
                        raise EmodetError(
                            f"{self.path}, line {number}: {count} pixels instead of {_SIDE}×{_SIDE}; is it cut off?"
                        )
                    places.append(start)
                    emotion, usage = cells[self._at["emotion"]], cells[self._at["usage"]]
                    found.append(PixelRow(_text(emotion), _text(usage)))
        except OSError as problem:
            raise EmodetError(f"{self.path}: cannot be read ({problem})") from None
        if not found:
            raise EmodetError(f"{self.path}: there are no rows below the header")
        self._places = np.array(places, dtype=np.int64)
        return found

    def png(self, row: int) -> bytes:
        """The picture of a row as PNG, 48×48, grey.

        Raises:
            OSError: The file cannot be read.
            EmodetError: There is no such row, or it does not hold 48×48 numbers from 0 to 255.
        """
        if self._places is None:
            self.faces()
        places = self._places
        if places is None or not 0 <= row < len(places):
            raise EmodetError(f"{self.path}: there is no row {row}")
        with self.path.open("rb") as file:
            file.seek(int(places[row]))
            cells = self._cells(file.readline(_MAX_LINE_BYTES), f"row {row}")
        try:
            pixels = bytes(map(_PIXEL.__getitem__, cells[self._at["pixels"]].split()))
            picture = np.frombuffer(pixels, np.uint8).reshape(_SIDE, _SIDE)
        except (KeyError, ValueError):
            raise EmodetError(f"{self.path}, row {row}: not {_SIDE}×{_SIDE} numbers from 0 to 255") from None
        return bytes(cv2.imencode(".png", picture)[1].tobytes())

    def _cells(self, line: bytes, where: str) -> list[bytes]:
        # No cell holds a comma, so quotes decide nothing; parsing them properly takes several times as long.
        cells = [cell.strip(b' "\r\n') for cell in line.split(b",")]
        if len(cells) != self._width:
            raise EmodetError(
                f"{self.path}, {where}: {len(cells)} columns where the header has {self._width}; is it cut off?"
            )
        return cells


def _text(cell: bytes) -> str:
    return cell.decode("utf-8", errors="replace")


def _has_columns(file: Path) -> bool:
    return set(_COLUMNS) <= set(header_of(file))
