"""Class probabilities by nets that were not trained on the faces, and files of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.csv import ConvertOptions, read_csv

from emodet.data.pack import Table
from emodet.emotions import emotion_name
from emodet.errors import EmodetError
from emodet.files import atomic_path

__all__ = ["OutOfFoldProbs", "read_probabilities", "write_probabilities"]

_PREFIX = "p_"
_SUM_TO_ONE = 0.02  # rounding in files of other programs


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFoldProbs:
    """Out-of-fold probabilities of a pack's faces.

    Attributes:
        probabilities: float64 (N, K), one row per face of the pack, NaN where there are none.
        made_by: Description of their origin.
    """

    probabilities: npt.NDArray[np.float64]
    made_by: str

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which faces have probabilities: bool (N,)."""
        return ~np.isnan(self.probabilities[:, 0])


def write_probabilities(out_of_fold: OutOfFoldProbs, table: Table, class_names: Sequence[str], path: Path) -> None:
    """Write ``key``, ``split`` and a column ``p_CLASS`` for each class as Parquet."""
    rows = np.flatnonzero(out_of_fold.known)
    columns: dict[str, Any] = {"key": table.key[rows].tolist(), "split": table.split[rows].tolist()}
    for number, name in enumerate(class_names):
        columns[f"{_PREFIX}{name}"] = out_of_fold.probabilities[rows, number].astype(np.float32)
    try:
        with atomic_path(path) as unfinished:
            pq.write_table(pa.table(columns).replace_schema_metadata({"made_by": out_of_fold.made_by}), unfinished)
    except OSError as problem:
        raise EmodetError(f"{path}: cannot be written ({problem})") from problem


def read_probabilities(path: Path, table: Table, class_names: Sequence[str]) -> OutOfFoldProbs:
    """Read probabilities from a file of `write_probabilities`, an evaluation (``predictions.csv``) or another program.

    Args:
        path: ``.csv`` or ``.parquet`` with the columns ``key`` and ``p_CLASS`` for each class, and perhaps ``split``.
        table: Of the pack.
        class_names: The classes, in the order of the columns of what is returned.

    Raises:
        EmodetError: The file cannot be read, lacks a column, names a face that is not in the table or one twice, or a
            row is no distribution.
    """
    keys, splits, probabilities = _columns(path, class_names)
    places: dict[tuple[str, str], list[int]] = {}
    for place, (key, split) in enumerate(zip(table.key.tolist(), table.split.tolist(), strict=True)):
        for known_as in (split, ""):
            places.setdefault((key, known_as), []).append(place)
    found = np.full((len(table), len(class_names)), np.nan)
    for row, (key, split, shares) in enumerate(zip(keys, splits, probabilities, strict=True), start=1):
        where, there = f"{path}, row {row}", places.get((key, split))
        if there is None:
            raise EmodetError(f"{where}: the face {key!r} is not in this data set; was the file made for other data?")
        if not np.isnan(found[there[0], 0]):
            raise EmodetError(f"{where}: the face {key!r} occurs twice")
        if not np.isfinite(shares).all() or shares.min() < 0 or abs(shares.sum() - 1) > _SUM_TO_ONE:
            raise EmodetError(f"{where}: {shares.tolist()} are not probabilities that sum to 1")
        found[there] = shares / shares.sum()
    return OutOfFoldProbs(found, f"file {path.name}")


def _columns(path: Path, class_names: Sequence[str]) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """Keys, splits (empty where there are none), and probabilities, float64 (rows, K)."""
    try:
        text = ConvertOptions(column_types={"key": pa.string(), "split": pa.string()})
        table = pq.read_table(path) if path.suffix == ".parquet" else read_csv(path, convert_options=text)
    except (pa.ArrowException, OSError) as problem:
        raise EmodetError(f"{path}: cannot be read ({problem})") from None
    prefixed = (column for column in table.column_names if column.startswith(_PREFIX))
    named = {emotion_name(column.removeprefix(_PREFIX)): column for column in prefixed}
    lacking = [] if "key" in table.column_names else ["key"]
    lacking += [f"{_PREFIX}{name}" for name in class_names if name not in named]
    if lacking:
        raise EmodetError(f"{path}: lacks {', '.join(lacking)}; the columns key and {_PREFIX}CLASS are needed")
    try:
        shares = np.stack([table.column(named[name]).to_numpy().astype(np.float64) for name in class_names], axis=1)
    except (ValueError, TypeError, pa.ArrowException):
        raise EmodetError(f"{path}: the columns {_PREFIX}CLASS must hold numbers") from None
    keys = [str(key) for key in table.column("key").to_pylist()]
    return keys, table.column("split").to_pylist() if "split" in table.column_names else [""] * len(keys), shares
