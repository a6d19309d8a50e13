"""Class probabilities by nets that were not trained on the faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.data.pack import Table
from emodet.errors import EmodetError
from emodet.files import atomic_path

__all__ = ["OutOfFoldProbs", "write_probabilities"]


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
        columns[f"p_{name}"] = out_of_fold.probabilities[rows, number].astype(np.float32)
    try:
        with atomic_path(path) as unfinished:
            pq.write_table(pa.table(columns).replace_schema_metadata({"made_by": out_of_fold.made_by}), unfinished)
    except OSError as problem:
        raise EmodetError(f"{path}: cannot be written ({problem})") from problem
