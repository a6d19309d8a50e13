"""Label issues by confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.arrays import Bools, Float64
from emodet.data.pack import Table
from emodet.errors import os_errors
from emodet.files import atomic_path


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFoldProbs:
    """Out-of-fold probabilities of a pack's faces."""

    probabilities: Float64  # (N, K), one row per face of the pack, NaN where there are none
    made_by: str  # for people

    @property
    def known(self) -> Bools:
        """Which faces have probabilities: bool (N,)."""
        return ~np.isnan(self.probabilities[:, 0])


def write_probabilities(out_of_fold: OutOfFoldProbs, table: Table, class_names: Sequence[str], path: Path) -> None:
    """Write ``key``, ``split`` and a column ``p_CLASS`` for each class as Parquet."""
    rows = np.flatnonzero(out_of_fold.known)
    columns: dict[str, Any] = {"key": table.key[rows].tolist(), "split": table.split[rows].tolist()}
    for number, name in enumerate(class_names):
        columns[f"p_{name}"] = out_of_fold.probabilities[rows, number].astype(np.float32)
    with os_errors(f"{path}: cannot be written"), atomic_path(path) as unfinished:
        pq.write_table(pa.table(columns).replace_schema_metadata({"made_by": out_of_fold.made_by}), unfinished)


class Candidate(NamedTuple):
    """A face whose label may be wrong."""

    row: int  # in the pack's table
    given: int  # number of its label
    suggested: int  # number of the most probable class, another one
    p_given: float  # 0 to 1; the lower, the more likely the label is wrong
    p_suggested: float


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """Label issues of one split."""

    split: str
    judged: int  # faces with a label and probabilities
    agree: float  # share of them whose most probable class is their label
    majority: float  # share of them that has the most frequent label
    candidates: tuple[Candidate, ...]  # by rising probability of the label

    @property
    def informative(self) -> bool:
        """Whether the predictions are better than always the most frequent label."""
        return self.agree > self.majority

    @property
    def pairs(self) -> list[tuple[tuple[int, int], int]]:
        """(given, suggested) and number of candidates, the most frequent first."""
        return Counter((each.given, each.suggested) for each in self.candidates).most_common()


def find_label_noise(table: Table, out_of_fold: OutOfFoldProbs) -> tuple[LabelNoise, ...]:
    """Look for label issues in each split that has labels and probabilities."""
    from cleanlab.filter import find_label_issues

    labelled = (table.emotion >= 0) & (table.emotion < out_of_fold.probabilities.shape[1]) & out_of_fold.known
    found = []
    for split in ("train", "val", "test"):
        rows = np.flatnonzero((table.split == split) & labelled)
        if not rows.size:
            continue
        given, shares = table.emotion[rows], out_of_fold.probabilities[rows]
        ranked = find_label_issues(
            given, shares, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
        )
        predicted = shares.argmax(axis=1)
        # Predicted as labelled is no issue, however unsure the prediction.
        ranked = ranked[predicted[ranked] != given[ranked]]
        columns = (rows[ranked], given[ranked], predicted[ranked], shares[ranked, given[ranked]], shares[ranked].max(1))
        candidates = [Candidate(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        agree, majority = float((predicted == given).mean()), float(np.bincount(given).max() / len(given))
        found.append(LabelNoise(split, len(rows), agree, majority, tuple(candidates)))
    return tuple(found)
