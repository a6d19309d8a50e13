"""Label issues by confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.data.pack import Table
from emodet.errors import EmodetError
from emodet.files import atomic_path


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


class Candidate(NamedTuple):
    """A face whose label may be wrong.

    `row` is its position in the pack's table, `given` the number of its label, `suggested` that of the most probable
    class, another one; their probabilities are 0 to 1. The lower that of the label, the more likely it is wrong.
    """

    row: int
    given: int
    suggested: int
    p_given: float
    p_suggested: float


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """Label issues of one split.

    Attributes:
        judged: Faces with a label and probabilities.
        agree: Share of them whose most probable class is their label.
        majority: Share of them that has the most frequent label.
        candidates: By rising probability of the label.
    """

    split: str
    judged: int
    agree: float
    majority: float
    candidates: tuple[Candidate, ...]

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
        candidates = [
            Candidate(
                row=int(rows[place]),
                given=int(given[place]),
                suggested=int(predicted[place]),
                p_given=float(shares[place, given[place]]),
                p_suggested=float(shares[place].max()),
            )
            for place in ranked
            if predicted[place] != given[place]  # predicted as labelled is no issue, however unsure the prediction
        ]
        agree, majority = float((predicted == given).mean()), float(np.bincount(given).max() / len(given))
        found.append(LabelNoise(split, len(rows), agree, majority, tuple(candidates)))
    return tuple(found)
