"""FER+ as its authors distribute it: votes in `fer2013new.csv`, pictures in FER2013's own file.

Barsoum et al. 2016 (arXiv 1608.01041).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.fer2013 import SPLITS, PixelTable
from emodet.datasets.ferplus import FerPlus, check_counting, listing_of_votes
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import folders_in
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["FerPlusCsv"]

_VOTES, _PICTURES = "fer2013new.csv", "fer2013.csv"
_VOTE_COLUMNS = (*EMOTIONS, "unknown", "nf")
_COLUMNS = ("usage", "image name", *_VOTE_COLUMNS)
_PUBLISHED_TEST = 3153


class FerPlusCsv(FolderReader):
    """`fer2013new.csv` with ten votes a row, and `fer2013.csv` with the pictures in the same order of rows.

    The two are joined by row and nothing else: image names repeat and are missing in places, and are no row numbers.
    A record's key is the row from 0, so it names the same face as in `Fer2013` and `FerPlus`. Faces without a majority
    keep their votes as a soft label and have no emotion; faces on which nobody voted for any of the eight are left out.

    Args:
        root: The folder that holds both files, at the top or one folder down, or a folder that holds only that folder.
        votes: ``as_given`` takes each vote into the soft label; ``without_single`` drops the votes that stand alone,
            as the majority protocol does.

    Raises:
        EmodetError: The root bears none of the signs, or lacks the pictures.
    """

    name: ClassVar[str] = "ferplus_csv"
    title: ClassVar[str] = "FER+ (fer2013new.csv)"
    signs: ClassVar[str] = "fer2013new.csv with the ten vote columns, and fer2013.csv"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = FerPlus.expected

    def __init__(self, root: Path, votes: str = "as_given") -> None:
        check_counting(votes)
        super().__init__(root)
        self.votes = votes
        pictures = _find(self.base, _PICTURES)
        if pictures is None:
            raise EmodetError(
                f"data.root={root}: {_VOTES} has the votes, but {_PICTURES} with the pictures is not there; "
                "put FER2013's file beside it"
            )
        self.file = _find(self.base, _VOTES) or self.base / _VOTES
        self.table = PixelTable(pictures)

    def options(self) -> dict[str, Any]:
        return {"votes": self.votes}

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A file cannot be read or has a row that does not fit, or the two files do not have the same
                rows. The message names the file and line.
        """
        usages, votes, unnamed = [], [], 0
        rows = CsvRows(self.file, _COLUMNS)
        for row in rows:
            usages.append(row["usage"])
            unnamed += not row["image name"]
            # Ten people voted; three digits are more than enough.
            if not all(row[name].isascii() and row[name].isdigit() and len(row[name]) < 4 for name in _VOTE_COLUMNS):
                raise rows.error("the vote columns must hold whole numbers from 0")
            votes.append([int(row[name]) for name in _VOTE_COLUMNS])
        faces = self.table.faces()
        if len(faces) != len(votes):
            raise EmodetError(
                f"{self.file} has {len(votes):,} rows and {self.table.path} {len(faces):,}; they are joined by row, so "
                "both must be whole and unsorted"
            )
        for number, (usage, face) in enumerate(zip(usages, faces, strict=True)):
            if usage != face.usage or usage not in SPLITS:
                raise EmodetError(
                    f"row {number} is {usage!r} in {self.file.name} and {face.usage!r} in {self.table.path.name}; they "
                    f"are joined by row, so both must be unsorted, with {', '.join(SPLITS)} as Usage"
                )
        keys = [f"{number:05d}" for number in range(len(faces))]
        listing = listing_of_votes(keys, [SPLITS[usage] for usage in usages], np.array(votes), self.votes)
        notes = list(listing.notes)
        if unnamed:
            notes.append(f"{unnamed:,} rows have no image name; their votes count like any others.")
        decided = sum(record.split == "test" and record.emotion is not None for record in listing.samples)
        if decided != _PUBLISHED_TEST:
            notes.append(f"Test faces with a majority (published): {decided:,} ({_PUBLISHED_TEST:,}).")
        return Listing(listing.samples, listing.left_out, tuple(notes))

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
        file = _find(folder, _VOTES)
        return file is not None and set(_COLUMNS) <= set(header_of(file))


def _find(base: Path, name: str) -> Path | None:
    return next((base / folder / name for folder in ("", *folders_in(base)) if (base / folder / name).is_file()), None)
