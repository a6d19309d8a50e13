"""Label issues by confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities."""

from collections import Counter
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

__all__ = ["Candidate", "LabelNoise", "OutOfFoldProbs", "find_label_noise", "write_probabilities"]

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A face whose label may be wrong.

    Attributes:
        row: Position in the pack's table.
        given: Its label, 0 to 7.
        suggested: The most probable class, another one.
        p_given: Probability of `given`, 0 to 1; the lower, the more likely the label is wrong.
        p_suggested: Probability of `suggested`, 0 to 1.
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
        pairs: (given, suggested) and number of candidates, the most frequent first.
    """

    split: str
    judged: int
    agree: float
    majority: float
    candidates: tuple[Candidate, ...]
    pairs: tuple[tuple[tuple[int, int], int], ...]

    @property
    def informative(self) -> bool:
        """Whether the predictions are better than always the most frequent label."""
        return self.agree > self.majority


def find_label_noise(table: Table, out_of_fold: OutOfFoldProbs) -> tuple[LabelNoise, ...]:
    """Look for label issues in each split that has labels and probabilities."""
    probabilities = out_of_fold.probabilities
    labelled = (table.emotion >= 0) & (table.emotion < probabilities.shape[1])
    found = []
    for split in ("train", "val", "test"):
        rows = np.flatnonzero((table.split == split) & labelled & out_of_fold.known)
        if rows.size:
            found.append(_issues_of_split(split, rows, table.emotion[rows], probabilities[rows]))
    return tuple(found)


def _issues_of_split(split: str, rows: Int64, given: Int64, probabilities: Float64) -> LabelNoise:
    predicted = probabilities.argmax(axis=1)
    # A face that is predicted as labelled is no candidate, however unsure the prediction.
    places = np.flatnonzero(_confident_learning(given, probabilities) & (predicted != given))
    places = places[np.argsort(probabilities[places, given[places]], kind="stable")]
    candidates = tuple(
        Candidate(
            row=int(rows[place]),
            given=int(given[place]),
            suggested=int(predicted[place]),
            p_given=float(probabilities[place, given[place]]),
            p_suggested=float(probabilities[place].max()),
        )
        for place in places
    )
    return LabelNoise(
        split=split,
        judged=len(rows),
        agree=float((predicted == given).mean()),
        majority=float(np.bincount(given).max() / len(given)),
        candidates=candidates,
        pairs=tuple(Counter((each.given, each.suggested) for each in candidates).most_common()),
    )


def _confident_learning(given: Int64, probabilities: Float64) -> npt.NDArray[np.bool_]:
    from cleanlab.filter import find_label_issues

    issues = find_label_issues(given, probabilities, filter_by="confident_learning", n_jobs=1, verbose=False)
    return np.asarray(issues, dtype=np.bool_)
