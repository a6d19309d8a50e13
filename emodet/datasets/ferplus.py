"""FER+: the faces of FER2013 with ten people's votes each, as one Parquet file or as its authors distribute it.

Goodfellow et al. 2013 (arXiv 1307.0414) for the pictures, Barsoum et al. 2016 (arXiv 1608.01041) for the votes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.datasets.csv_rows import CsvRows, damaged_or_has
from emodet.datasets.fer2013 import SPLITS, PixelReader
from emodet.datasets.folders import few, folders_in
from emodet.datasets.parquet_rows import ParquetReader, has_schema, is_binary, parquet_files, read_columns
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, FERPLUS_ORDER
from emodet.errors import EmodetError

_COLUMNS = ("index", "split", "image", *FERPLUS_ORDER, "unknown", "NF")
_VOTES_FILE, _PIXELS_FILE = "fer2013new.csv", "fer2013.csv"
_VOTES = (*EMOTIONS, "unknown", "nf")
_PUBLISHED_TEST = 3153


def majority(votes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """The class of each row under FER+'s "majority" protocol.

    A single vote counts as noise and becomes 0; then the first of the ten columns with the most votes wins if it has
    more than half of what is left and is one of the eight emotions (Barsoum et al. 2016, section 3).

    Args:
        votes: (N, 10), the eight emotions in the order of `EMOTIONS`, then "unknown" and "no face".

    Returns:
        int64 (N,): 0 to 7, or -1 where there is no such majority.
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int64)  # twice a small integer may not fit into its type
    top = kept.argmax(axis=1)
    clear = 2 * kept.max(axis=1) > kept.sum(axis=1)
    return np.where(clear & (top < len(EMOTIONS)), top, -1).astype(np.int64)


@dataclass(kw_only=True, eq=False)
class _Votes(Reader):
    """Both forms: samples from votes. Faces without a majority have a soft label and no emotion; faces on which nobody
    voted for any of the eight are left out.

    Args:
        votes: ``as_given`` takes each vote into the soft label; ``without_single`` drops the votes that stand alone, as
            the majority protocol does.
    """

    choices = {"votes": ("as_given", "without_single")}  # noqa: RUF012
    expected = {  # noqa: RUF012
        "train": dict(zip(EMOTIONS, (8740, 7287, 3014, 3149, 532, 119, 2100, 119), strict=True)),
        "val": dict(zip(EMOTIONS, (1182, 865, 351, 415, 62, 24, 287, 13), strict=True)),
    }

    votes: str = "as_given"

    def samples_of(
        self,
        listing: Listing,
        keys: Sequence[str],
        files: Sequence[str],
        splits: Sequence[str],
        votes: npt.NDArray[np.integer[Any]],
    ) -> list[Sample]:
        """Samples of N keys, `Sample.file`s and splits, and of (N, 10) votes as `majority` takes them."""
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
        listing.notes.append(
            f"{undecided} of {len(samples)} faces have votes but no majority: "
            "their soft labels can train, no metric counts them"
        )
        return samples


class FerPlus(_Votes, ParquetReader):
    """One ``.parquet`` file with the columns index, split, image (encoded), the eight emotions, unknown and NF.

    The root is the file, or a folder that holds exactly one such file. A sample's key is the index.
    """

    name = "ferplus"
    title = "FER+"
    signs = "one .parquet file with the columns index, split, image, the eight emotions, unknown, NF"

    def __post_init__(self) -> None:
        super().__post_init__()
        files = [self.root] if self.root.is_file() else self._files(self.base)
        if len(files) > 1:
            raise EmodetError(
                f"data.root={self.root}: expected one Parquet file with FER+'s columns; found "
                f"{few(file.name for file in files)}. Point data.root at one of them"
            )
        self.file = files[0]

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return bool(cls._files(folder))

    @classmethod
    def matches_file(cls, file: Path) -> bool:
        return has_schema(file, lambda schema: set(_COLUMNS) <= set(schema.names))

    @classmethod
    def _files(cls, folder: Path) -> list[Path]:
        return [folder / path for path in parquet_files(folder) if cls.matches_file(folder / path)]

    def list_samples(self, listing: Listing) -> list[Sample]:
        table = read_columns(self.file, [name for name in _COLUMNS if name != "image"])
        image, index = pq.read_schema(self.file).field("image").type, table.column("index")
        if not is_binary(image):
            raise EmodetError(f"{self.file}: the column image has the type {image}; encoded pictures belong there")
        if not pa.types.is_integer(index.type) or index.null_count:
            raise EmodetError(f"{self.file}: the column index must hold a whole number in every row")
        splits, keys = table.column("split").to_pylist(), [f"{number:05d}" for number in index.to_pylist()]
        strange = sorted({str(split) for split in splits} - {"train", "val", "test"})
        if strange:
            raise EmodetError(f"{self.file}: the column split holds {', '.join(strange)}, not train, val or test only")
        votes = np.stack([table.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
        if votes.dtype.kind not in "iu" or (votes < 0).any():
            raise EmodetError(f"{self.file}: the vote columns must hold whole numbers from 0")
        if len(set(keys)) != len(keys):
            raise EmodetError(f"{self.file}: the column index names a row more than once")
        path = self.file.relative_to(self.base).as_posix()
        return self.samples_of(listing, keys, [f"{path}:{row}" for row in range(len(keys))], splits, votes)


class FerPlusCsv(_Votes, PixelReader):
    """`fer2013new.csv` with ten votes a row, and `fer2013.csv` with the pictures in the same order of rows.

    The two are joined by row and nothing else: image names repeat and are missing in places, and are no row numbers.
    A sample's key is the row from 0, so it is the same face as in `Fer2013` and `FerPlus`. Each file may lie at the top
    or one folder down.
    """

    name = "ferplus_csv"
    title = "FER+ (fer2013new.csv)"
    signs = "fer2013new.csv with the ten vote columns, and fer2013.csv"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        file = _find(folder, _VOTES_FILE)
        return file is not None and damaged_or_has(file, _VOTES)

    def pixel_file(self) -> Path:
        pixels = _find(self.base, _PIXELS_FILE)
        if pixels is None:
            raise EmodetError(
                f"data.root={self.root}: {_VOTES_FILE} has the votes, but {_PIXELS_FILE} with the pictures is not "
                "there; put FER2013's file beside it"
            )
        return pixels

    def list_samples(self, listing: Listing) -> list[Sample]:
        rows = CsvRows(_find(self.base, _VOTES_FILE) or self.base / _VOTES_FILE, ("usage", "image name", *_VOTES))
        usages, votes, unnamed = [], [], 0
        for row in rows:
            cells = [row[name] for name in _VOTES]
            # Ten people voted; three digits are more than enough.
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
        if decided != _PUBLISHED_TEST:
            listing.notes.append(f"Test faces with a majority (published): {decided:,} ({_PUBLISHED_TEST:,}).")
        return samples


def _find(base: Path, name: str) -> Path | None:
    return next((base / folder / name for folder in ("", *folders_in(base)) if (base / folder / name).is_file()), None)
