"""FER+: the faces of FER2013 with ten people's votes each, as one Parquet file.

Goodfellow et al. 2013 (arXiv 1307.0414) for the pictures, Barsoum et al. 2016 (arXiv 1608.01041) for the votes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import few, names_in
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, FERPLUS_ORDER
from emodet.errors import EmodetError

__all__ = ["FerPlus", "check_counting", "listing_of_votes", "majority"]

_MOST_FILES = 1000
_COLUMNS = ("index", "split", "image", *FERPLUS_ORDER, "unknown", "NF")


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


def check_counting(votes: str) -> None:
    """Refuse a way of counting votes that is not known.

    Raises:
        EmodetError: It is neither ``as_given`` nor ``without_single``.
    """
    if votes not in ("as_given", "without_single"):
        raise EmodetError(f"votes={votes!r}: there are as_given and without_single")


def listing_of_votes(
    keys: Sequence[str], splits: Sequence[str], votes: npt.NDArray[np.integer[Any]], counting: str
) -> Listing:
    """The faces that votes describe: soft labels, and an emotion where there is a majority.

    Args:
        keys: N names.
        splits: N times train, val or test.
        votes: (N, 10), as `majority` takes them.
        counting: ``as_given`` takes each vote into the soft label; ``without_single`` drops the votes that stand alone.
    """
    emotions = majority(votes)
    counted = np.where(votes > 1, votes, 0) if counting == "without_single" else votes
    shares = counted[:, : len(EMOTIONS)].astype(np.float64)
    totals = shares.sum(axis=1)
    records: list[Sample] = []
    left_out: Counter[str] = Counter()
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        if not totals[row]:
            left_out["no vote for any of the eight"] += 1
            continue
        records.append(
            Sample(
                key=keys[row],
                split=splits[row],
                emotion=int(emotions[row]) if emotions[row] >= 0 else None,
                soft_label=tuple((shares[row] / totals[row]).tolist()),
            )
        )
    undecided = sum(record.emotion is None for record in records)
    note = (
        f"{undecided} of {len(records)} faces have votes but no majority: "
        "their soft labels can train, no metric counts them"
    )
    return Listing(tuple(records), dict(left_out), (note,))


class FerPlus(FolderReader):
    """One ``.parquet`` file with the columns index, split, image, the eight emotions, unknown and NF.

    The image column holds encoded 48×48 pictures. Faces without a majority keep their votes as a soft label and have
    no emotion. Faces on which nobody voted for any of the eight are left out.

    Args:
        root: The file, a folder that holds exactly one such file, or a folder that holds nothing but its folder.
        votes: ``as_given`` takes each vote into the soft label; ``without_single`` drops the votes that stand alone,
            as the majority protocol does.

    Raises:
        EmodetError: The root bears none of the signs, or there are several such files.
    """

    name: ClassVar[str] = "ferplus"
    title: ClassVar[str] = "FER+"
    signs: ClassVar[str] = "one .parquet file with the columns index, split, image, the eight emotions, unknown, NF"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": dict(zip(EMOTIONS, (8740, 7287, 3014, 3149, 532, 119, 2100, 119), strict=True)),
        "val": dict(zip(EMOTIONS, (1182, 865, 351, 415, 62, 24, 287, 13), strict=True)),
    }

    def __init__(self, root: Path, votes: str = "as_given") -> None:
        check_counting(votes)
        super().__init__(root)
        self.votes = votes
        files = [root] if root.is_file() else self._fitting(self.base)
        if len(files) > 1:
            raise EmodetError(
                f"data.root={root}: expected one Parquet file with FER+'s columns; found "
                f"{few(file.name for file in files)}. Point data.root at one of them"
            )
        self.file = files[0]
        self._images: pa.ChunkedArray | None = None
        self._rows: dict[str, int] = {}

    def options(self) -> dict[str, Any]:
        return {"votes": self.votes}

    def read(self) -> Listing:
        try:
            table = pq.read_table(self.file, columns=[name for name in _COLUMNS if name != "image"])
        except (pa.ArrowException, OSError) as problem:
            raise EmodetError(f"{self.file}: cannot be read as Parquet ({problem})") from None
        self._check_types(table)
        splits = table.column("split").to_pylist()
        index = table.column("index").to_numpy()
        strange = sorted({str(split) for split in splits} - {"train", "val", "test"})
        if strange:
            raise EmodetError(f"{self.file}: the column split holds {', '.join(strange)}, not train, val or test only")
        votes = np.stack([table.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
        if votes.dtype.kind not in "iu" or (votes < 0).any():
            raise EmodetError(f"{self.file}: the vote columns must hold whole numbers from 0")
        if len(set(index.tolist())) != len(index):
            raise EmodetError(f"{self.file}: the column index names a row more than once")
        return listing_of_votes([f"{number:05d}" for number in index.tolist()], splits, votes, self.votes)

    def file_of(self, _record: Sample) -> Path:
        """The one file that holds all pictures."""
        return self.file

    def encoded(self, record: Sample) -> bytes:
        if self._images is None:
            try:
                table = pq.read_table(self.file, columns=["index", "image"])
            except pa.ArrowException as problem:
                raise EmodetError(f"{self.file}: cannot be read as Parquet ({problem})") from None
            self._images = table.column("image")
            self._rows = {f"{number:05d}": row for row, number in enumerate(table.column("index").to_pylist())}
        data: bytes = self._images[self._rows[record.key]].as_py()
        return data

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process opens the file for itself instead of being sent its pictures.
        return {**self.__dict__, "_images": None, "_rows": {}}

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return bool(cls._fitting(folder))

    @classmethod
    def _fitting(cls, folder: Path) -> list[Path]:
        names = sorted(name for name in names_in(folder) if name.endswith(".parquet"))
        return [folder / name for name in names[:_MOST_FILES] if cls._fits(folder / name)]

    def _check_types(self, table: pa.Table) -> None:
        image = pq.read_schema(self.file).field("image").type
        if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
            raise EmodetError(f"{self.file}: the column image has the type {image}; encoded pictures belong there")
        index = table.column("index")
        if not pa.types.is_integer(index.type) or index.null_count:
            raise EmodetError(f"{self.file}: the column index must hold a whole number in every row")

    @classmethod
    def _fits(cls, file: Path) -> bool:
        try:
            return file.suffix == ".parquet" and set(_COLUMNS) <= set(pq.read_schema(file).names)
        except (pa.ArrowException, OSError):
            return False
