"""Labels that nets which never saw the face disagree with: confident learning (Northcutt, Jiang and Chuang 2021).

A class's threshold is the mean probability that its own faces get; a face whose probability for another class passes
that class's threshold counts as one of it. What follows are candidates: a short-trained net is wrong too, and more
often on rare classes.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emodet.auditing.probabilities import Held
from emodet.data.pack import Table
from emodet.errors import EmodetError

__all__ = ["Candidate", "NoiseFindings", "find_label_noise"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A face whose label may be wrong.

    Attributes:
        row: Position in the pack's table.
        given: Its label, 0 to 7.
        suggested: What the nets say, another of the classes.
        sure: The probability of `suggested`, 0 to 1.
        quality: The probability of `given`, 0 to 1: the lower, the likelier it is wrong.
    """

    row: int
    given: int
    suggested: int
    sure: float
    quality: float


@dataclass(frozen=True, slots=True)
class NoiseFindings:
    """What confident learning says of one split.

    Attributes:
        split: train, val or test.
        judged: Faces that have a label and an answer.
        agree: Share of them whose most probable class is their label.
        majority: Share of them that has the most frequent label.
        candidates: The worst first.
        pairs: (given, suggested) to candidates, the most frequent first.
    """

    split: str
    judged: int
    agree: float
    majority: float
    candidates: tuple[Candidate, ...]
    pairs: tuple[tuple[tuple[int, int], int], ...]

    @property
    def telling(self) -> bool:
        """Whether the nets know enough to doubt a label: more than to name the most frequent one."""
        return self.agree > self.majority


def find_label_noise(table: Table, held: Held) -> tuple[NoiseFindings, ...]:
    """Look for wrong labels, split by split.

    Args:
        table: The pack's table.
        held: Answers of nets that were not trained on the faces.

    Raises:
        EmodetError: The package cleanlab is not installed.
    """
    classes = held.probabilities.shape[1]
    found = []
    for split in ("train", "val", "test"):
        labelled = (table.emotion >= 0) & (table.emotion < classes)
        rows = np.flatnonzero((table.split == split) & labelled & held.known)
        if rows.size:
            found.append(_judged(split, rows, table.emotion[rows], held.probabilities[rows]))
    return tuple(found)


def _judged(
    split: str, rows: npt.NDArray[np.int64], given: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]
) -> NoiseFindings:
    suspicious = _suspicious(given, shares)
    answered = shares.argmax(axis=1)
    agree = float((answered == given).mean())
    # A face that the nets answer as it is labelled is no candidate, however unsure they are.
    places = np.flatnonzero(suspicious & (answered != given))
    places = places[np.argsort(shares[places, given[places]], kind="stable")]
    candidates = tuple(
        Candidate(
            row=int(rows[place]),
            given=int(given[place]),
            suggested=int(answered[place]),
            sure=float(shares[place].max()),
            quality=float(shares[place, given[place]]),
        )
        for place in places
    )
    pairs = Counter((each.given, each.suggested) for each in candidates)
    majority = float(np.bincount(given).max() / len(given))
    return NoiseFindings(split, len(rows), agree, majority, candidates, tuple(pairs.most_common()))


def _suspicious(given: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    try:
        from cleanlab.filter import find_label_issues
    except ModuleNotFoundError:
        raise EmodetError("label noise needs cleanlab: pip install 'emodet[audit]'") from None
    # Cleanlab counts classes from 0 without holes: those that are absent in this split are left out of both.
    present = np.unique(given)
    if len(present) < 2:
        return np.zeros(len(given), dtype=np.bool_)
    narrowed = shares[:, present]
    total = narrowed.sum(axis=1, keepdims=True)
    narrowed = np.divide(narrowed, total, out=np.full_like(narrowed, 1 / len(present)), where=total > 0)
    issues = find_label_issues(
        np.searchsorted(present, given), narrowed, filter_by="confident_learning", n_jobs=1, verbose=False
    )
    return np.asarray(issues, dtype=np.bool_)
