"""FER2013, 48×48 grey faces as numbers in a CSV file, and FER+, the same faces with the votes of ten people each.

Goodfellow et al. 2013 (arXiv 1307.0414) for the pictures, Barsoum et al. 2016 (arXiv 1608.01041) for the votes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.arrays import Int64
from emodet.datasets.class_labels import ORDERS
from emodet.datasets.csv_rows import CsvRows, damaged_or_has, header_of
from emodet.datasets.folders import folders_in
from emodet.datasets.parquet import ParquetReader, has_schema, is_binary, read_columns
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, FER2013_ORDER, FERPLUS_ORDER
from emodet.errors import EmodetError, os_errors

SPLITS: Mapping[str, str] = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
"""Split by its name in FER2013."""

_PIXEL_COLUMNS = ("emotion", "usage", "pixels")
_SIDE = 48
_PIXEL = {str(value).encode(): value for value in range(256)}
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in ORDERS["fer2013"].items()}
_VOTE_COLUMNS = ("index", "split", "image", *FERPLUS_ORDER, "unknown", "NF")
_VOTES_FILE, _PIXELS_FILE = "fer2013new.csv", "fer2013.csv"
_VOTES = (*EMOTIONS, "unknown", "nf")
_PUBLISHED_TEST = {"test, with a majority": 3153}

Votes = npt.NDArray[np.integer[Any]]


class PixelReader(Reader):
    """Base class of readers of pictures in rows of a CSV file of 300 MB, which is not loaded into memory.

    A sample's key is the number of its row from 0, its `Sample.file` the offset of the row in bytes.
    """

    @cached_property
    def pixels(self) -> Path:
        """The CSV file with the pixels."""
        return self.listed_in

    def pixel_rows(self) -> Iterator[tuple[str, str, int]]:
        """Yield emotion, Usage and offset of every row; an invalid row, such as the last one of a cut-off file, is an
        error.
        """
        rows = CsvRows(self.pixels, _PIXEL_COLUMNS, delimiter=",")
        place = 0
        with os_errors(f"{self.pixels}: cannot be read"), self.pixels.open("rb") as file:
            for rows.line, line in enumerate(file, start=1):
                offset, place = place, place + len(line)
                if rows.line == 1 or not line.strip():
                    continue
                cells = _cells(line)
                if len(cells) != rows.width:
                    raise rows.error(f"{len(cells)} columns where the header has {rows.width}; is it cut off?")
                emotion, usage, pixels = (cells[rows.columns[name]] for name in _PIXEL_COLUMNS)
                # Counting spaces takes a tenth of the time of splitting, and nearly always suffices.
                count = pixels.count(b" ") + 1
                if count != _SIDE * _SIDE and (count := len(pixels.split())) != _SIDE * _SIDE:
                    raise rows.error(f"{count} pixels instead of 48×48; is it cut off?")
                yield emotion.decode(errors="replace"), usage.decode(errors="replace"), offset
        if rows.line < 2:
            raise EmodetError(f"{self.pixels}: there are no rows below the header")

    def file_of(self, _sample: Sample) -> Path:
        return self.pixels

    def encoded(self, sample: Sample) -> bytes:
        """Return the picture as PNG, 48×48, grey."""
        with self.pixels.open("rb") as file:
            file.seek(int(sample.file or 0))
            pixels = max(_cells(file.readline()), key=len)
        try:
            picture = np.frombuffer(bytes(map(_PIXEL.__getitem__, pixels.split())), np.uint8).reshape(_SIDE, _SIDE)
        except (KeyError, ValueError):
            raise EmodetError(f"{self.pixels}, row {int(sample.key)}: not 48×48 numbers from 0 to 255") from None
        return bytes(cv2.imencode(".png", picture)[1].tobytes())


class Fer2013(PixelReader):
    """`fer2013.csv`, or `icml_face_data.csv`, which has spaces before its column names.

    A sample's key is the number of its row from 0, as in FER+. PublicTest is val, PrivateTest is test. The root can be
    the file itself. Copies of FER2013 as class folders are read with `ClassFolders`.
    """

    name = "fer2013"
    title = "FER2013 (CSV)"
    signs = "fer2013.csv or icml_face_data.csv with the columns emotion, pixels, Usage"
    sign_files = ("fer2013.csv", "icml_face_data.csv")
    root_suffix = ".csv"
    expected = {  # noqa: RUF012
        "train": dict(zip(FER2013_ORDER, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)),
        "val": dict(zip(FER2013_ORDER, (467, 56, 496, 895, 653, 415, 607), strict=True)),
        "test": dict(zip(FER2013_ORDER, (491, 55, 528, 879, 594, 416, 626), strict=True)),
    }

    @classmethod
    def fits(cls, file: Path) -> bool:
        named = file.name in cls.sign_files and damaged_or_has(file, _PIXEL_COLUMNS[1:])
        return named or set(_PIXEL_COLUMNS) <= set(header_of(file))

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        for number, (emotion, usage, offset) in enumerate(self.pixel_rows()):
            where = f"{self.pixels}, row {number}"
            if usage not in SPLITS:
                raise EmodetError(f"{where}: Usage={usage!r} is not {', '.join(SPLITS)}")
            if emotion not in _CLASSES:
                raise EmodetError(f"{where}: emotion={emotion!r} is not a number from 0 to 6")
            yield Sample(f"{number:05d}", SPLITS[usage], _CLASSES[emotion], file=str(offset))


def majority(votes: Votes) -> Int64:
    """Return the class of each row under FER+'s "majority" protocol: int64 (N,), 0 to 7, or -1 for none.

    Single votes count as noise and become 0. The class is the first of the ten columns with the most votes, if it has
    more than half of the remaining votes and is one of the eight emotions (Barsoum et al. 2016, section 3). `votes` are
    (N, 10), the eight emotions in the order of `EMOTIONS`, then "unknown" and "no face".
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int64)  # int64, because doubling a small integer type can overflow
    top = kept.argmax(axis=1)
    clear = 2 * kept.max(axis=1) > kept.sum(axis=1)
    return np.where(clear & (top < len(EMOTIONS)), top, -1).astype(np.int64)


@dataclass(kw_only=True, eq=False)
class _Votes(Reader):
    """Samples from votes, for both formats of FER+. Faces without a majority have a soft label and no emotion.

    Args:
        votes: ``as_given`` uses all votes for the soft label; ``without_single`` drops single votes, as in the majority
            protocol.
    """

    choices = {"votes": ("as_given", "without_single")}  # noqa: RUF012
    expected = {  # noqa: RUF012
        "train": dict(zip(EMOTIONS, (8740, 7287, 3014, 3149, 532, 119, 2100, 119), strict=True)),
        "val": dict(zip(EMOTIONS, (1182, 865, 351, 415, 62, 24, 287, 13), strict=True)),
    }

    votes: str = "as_given"

    def samples_of(
        self, listing: Listing, keys: Sequence[str], files: Sequence[str], splits: Sequence[str], votes: Votes
    ) -> list[Sample]:
        """Create samples from N keys, `Sample.file`s and splits, and (N, 10) votes in the order of `majority`."""
        emotions = majority(votes).tolist()
        counted = np.where(votes > 1, votes, 0) if self.votes == "without_single" else votes
        shares = counted[:, : len(EMOTIONS)].astype(np.float64)
        totals = shares.sum(axis=1, keepdims=True)
        labels = (shares / np.maximum(totals, 1)).tolist()
        samples = [
            Sample(key, split, None if emotion < 0 else emotion, tuple(label), file=file)
            for key, file, split, emotion, label in zip(keys, files, splits, emotions, labels, strict=True)
            if any(label)
        ]
        listing.left_out["no vote for any of the eight"] += len(keys) - len(samples)
        undecided = sum(sample.emotion is None for sample in samples)
        note = f"{undecided} of {len(samples)} faces have votes but no majority: "
        listing.notes.append(f"{note}their soft labels can train, no metric counts them")
        return samples


class FerPlus(_Votes, ParquetReader):
    """One ``.parquet`` file with the columns index, split, image (encoded), the eight emotions, unknown and NF.

    The root is the file, or a folder that holds exactly one such file. A sample's key is the index.
    """

    name = "ferplus"
    title = "FER+"
    signs = "one .parquet file with the columns index, split, image, the eight emotions, unknown, NF"
    one_file = True

    @classmethod
    def fits(cls, file: Path) -> bool:
        return has_schema(file, lambda schema: set(_VOTE_COLUMNS) <= set(schema.names))

    def list_samples(self, listing: Listing) -> list[Sample]:
        file = self.listed_in
        table = read_columns(file, [name for name in _VOTE_COLUMNS if name != "image"])
        image, index = pq.read_schema(file).field("image").type, table.column("index")
        if not is_binary(image):
            raise EmodetError(f"{file}: the column image has the type {image}; encoded pictures belong there")
        if not pa.types.is_integer(index.type) or index.null_count or len(index.unique()) < len(index):
            raise EmodetError(f"{file}: the column index must contain a different whole number in each row")
        splits, keys = table.column("split").to_pylist(), [f"{number:05d}" for number in index.to_pylist()]
        strange = sorted({str(split) for split in splits} - {"train", "val", "test"})
        if strange:
            raise EmodetError(f"{file}: the column split holds {', '.join(strange)}, not train, val or test only")
        votes = np.stack([table.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
        if votes.dtype.kind not in "iu" or (votes < 0).any():
            raise EmodetError(f"{file}: the vote columns must hold whole numbers from 0")
        path = file.relative_to(self.base).as_posix()
        return self.samples_of(listing, keys, [f"{path}:{row}" for row in range(len(keys))], splits, votes)


class FerPlusCsv(_Votes, PixelReader):
    """`fer2013new.csv` with ten votes a row, and `fer2013.csv` with the pictures in the same order of rows.

    The files are joined by row only, because image names are repeated or missing and are not row numbers. A sample's
    key is the row from 0, which is the same face as in `Fer2013` and `FerPlus`. Each file is in the root or one folder
    below.
    """

    name = "ferplus_csv"
    title = "FER+ (fer2013new.csv)"
    signs = "fer2013new.csv with the ten vote columns, and fer2013.csv"
    sign_files = (_VOTES_FILE,)

    @classmethod
    def candidates(cls, folder: Path) -> list[Path]:
        return _named(folder, _VOTES_FILE)

    @classmethod
    def fits(cls, file: Path) -> bool:
        return damaged_or_has(file, _VOTES)

    @cached_property
    def pixels(self) -> Path:
        pixels = _named(self.base, _PIXELS_FILE)
        if not pixels:
            raise EmodetError(
                f"data.root={self.root}: {_VOTES_FILE} has the votes, but {_PIXELS_FILE} with the pictures is not "
                "there; put FER2013's file beside it"
            )
        return pixels[0]

    def list_samples(self, listing: Listing) -> list[Sample]:
        rows = CsvRows(self.listed_in, ("usage", "image name", *_VOTES))
        usages, votes, unnamed = [], [], 0
        for row in rows:
            cells = [row[name] for name in _VOTES]
            # Ten people voted, so three digits are sufficient.
            if not all(cell.isascii() and cell.isdigit() and len(cell) < 4 for cell in cells):
                raise rows.error("the vote columns must hold whole numbers from 0")
            usages.append(row["usage"])
            unnamed += not row["image name"]
            votes.append([int(cell) for cell in cells])
        pixels = list(self.pixel_rows())
        joined = f"They are joined by row, so both must be whole and unsorted, with {', '.join(SPLITS)} as Usage"
        if len(pixels) != len(votes):
            raise EmodetError(f"{rows.path} has {len(votes):,} rows, {self.pixels} {len(pixels):,}. {joined}")
        for number, (usage, (_, other, _)) in enumerate(zip(usages, pixels, strict=True)):
            if usage != other or usage not in SPLITS:
                there = f"{usage!r} in {rows.path} and {other!r} in {self.pixels}"
                raise EmodetError(f"row {number} is {there}. {joined}")
        keys, files = [f"{number:05d}" for number in range(len(pixels))], [str(offset) for _, _, offset in pixels]
        samples = self.samples_of(listing, keys, files, [SPLITS[usage] for usage in usages], np.array(votes))
        if unnamed:
            listing.notes.append(f"{unnamed:,} rows have no image name; their votes count like any others.")
        decided = sum(sample.split == "test" and sample.emotion is not None for sample in samples)
        listing.compare(_PUBLISHED_TEST, {"test, with a majority": decided})
        return samples


def _named(base: Path, name: str) -> list[Path]:
    """Return the files of this name in the root and one folder below."""
    return [base / folder / name for folder in ("", *folders_in(base)) if (base / folder / name).is_file()]


def _cells(line: bytes) -> list[bytes]:
    # Cells contain no commas, so quotes are not needed; parsing them takes several times as long.
    return [cell.strip(b' "\r\n') for cell in line.split(b",")]
