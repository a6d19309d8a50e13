"""Everything that an audit found, as plain results; the page and the JSON file are two views of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.auditing.class_order import OrderFinding
from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.label_noise import NoiseFindings
from emodet.auditing.quality import Quality
from emodet.data.corrections import Correction
from emodet.data.pack import Table
from emodet.emotions import EMOTIONS

__all__ = ["NOT_TELLING", "Findings", "UndetectedFaces", "kind_of"]

NOT_TELLING = (
    "That is no more than always giving the most frequent label is worth, so their doubts say nothing and none is "
    "proposed: spend more on them (out_of_fold.epochs, out_of_fold.side)"
)


@dataclass(frozen=True, slots=True, eq=False)
class UndetectedFaces:
    """What a face detector said.

    Attributes:
        detector: Which one.
        rows: int64, the faces that were looked at, positions in the table.
        scores: float32 (len(rows),), how sure it was, 0 where it found nothing.
        reliability: What is known about such answers, for people.
    """

    detector: str
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    reliability: str

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Positions in the table of the faces that were not found."""
        return np.asarray(self.rows[self.scores == 0])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Findings:
    """What an audit found.

    Attributes:
        title: Of the data set.
        table: The pack's.
        class_names: The classes that were looked at.
        published: Split to class to faces, as published; empty where nothing is.
        left_out: Faces that the reader left out, by reason.
        unreadable: Pictures that could not be read.
        groups: Photographs that occur more than once.
        quality: A fault for each picture that has one.
        sides: float64 (N,), pixels of the face where it is stored, NaN where not known; None where not looked at.
        crop_side: Pixels of the pack's crops.
        order: What was said about the class order.
        noise: Label noise by split; None where no answers were asked for.
        answered_by: Who answered.
        unfound: What a detector said; None where none was asked.
        corrections: What is proposed.
        skipped: What was not looked at, and how to have it looked at, in sentences.
    """

    title: str
    table: Table
    class_names: tuple[str, ...]
    published: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, int]
    unreadable: int
    groups: tuple[CopyGroup, ...]
    quality: Quality
    sides: npt.NDArray[np.float64] | None
    crop_side: int
    order: tuple[OrderFinding, ...]
    noise: tuple[NoiseFindings, ...] | None
    answered_by: str
    unfound: UndetectedFaces | None
    corrections: tuple[Correction, ...]
    skipped: tuple[str, ...]

    def copies(self) -> dict[str, int]:
        """Photographs that occur more than once and the faces that show them, by kind."""
        counted: Counter[str] = Counter()
        for group in self.groups:
            kinds = ["identical" if group.identical else "near-identical"]
            kinds += ["across splits"] if group.across else []
            kinds += ["identical across splits"] if group.across and group.identical else []
            kinds += ["with contradicting labels"] if group.contradicts else []
            for kind in kinds:
                counted[f"{kind}: photographs"] += 1
                counted[f"{kind}: faces"] += len(group.rows)
        return dict(sorted(counted.items()))

    def proposed(self) -> dict[str, int]:
        """Proposed corrections by action and reason, the particular faces left out."""
        counted: Counter[str] = Counter()
        for each in self.corrections:
            counted[f"{each.action}: {kind_of(each.reason)}"] += 1
        return dict(counted.most_common())

    def small(self) -> int:
        """Faces stored with less than half the crop's pixels to a side."""
        return 0 if self.sides is None else int((self.sides < self.crop_side / 2).sum())

    def as_dict(self) -> dict[str, Any]:
        """Every figure, and the key of every face that one counts; no pictures."""
        key, split = self.table.key, self.table.split
        return {
            "data": self.title,
            "faces": len(self.table),
            "published": {name: dict(counts) for name, counts in self.published.items()},
            "left_out": dict(self.left_out),
            "unreadable": self.unreadable,
            "copies": self.copies(),
            "groups": [
                {
                    "keys": [str(key[row]) for row in group.rows],
                    "splits": [str(split[row]) for row in group.rows],
                    "identical": group.identical,
                    "emotions": [EMOTIONS[number] for number in group.emotions],
                }
                for group in self.groups
            ],
            "class_order": [
                {
                    "told_by": each.told_by,
                    "wrong": each.wrong,
                    "sentence": each.sentence,
                    "shows": each.shows,
                    "classes": list(each.classes),
                    "figures": each.figures.round(4).tolist(),
                }
                for each in self.order
            ],
            "label_noise": None
            if self.noise is None
            else {
                "answered_by": self.answered_by,
                "splits": {
                    each.split: {
                        "judged": each.judged,
                        "agree": each.agree,
                        "telling": each.telling,
                        "candidates": len(each.candidates),
                        "pairs": [[EMOTIONS[a], EMOTIONS[b], count] for (a, b), count in each.pairs],
                    }
                    for each in self.noise
                },
            },
            "pictures": {
                "faults": {
                    name: {"faces": count, "keys": key[self.quality.fault == name].tolist()}
                    for name, count in self.quality.counts().items()
                },
                "stored_sides": None if self.sides is None else _quantiles(self.sides),
                "stored_under_half_the_crop": None if self.sides is None else self.small(),
            },
            "faces_not_found": None
            if self.unfound is None
            else {
                "detector": self.unfound.detector,
                "looked_at": len(self.unfound.rows),
                "not_found": len(self.unfound.missing),
                "keys": key[self.unfound.missing].tolist(),
            },
            "proposed": self.proposed(),
            "skipped": list(self.skipped),
        }


def kind_of(reason: str) -> str:
    """A reason without the particular face or classes that it names."""
    for start, kind in (("same picture as", "same picture as another"), ("copy of", "copy of another")):
        if reason.startswith(start):
            where = " in another split" if reason.endswith((" in val", " in test")) else ""
            return kind + where
    return reason.partition(":")[0]


def _quantiles(sides: npt.NDArray[np.float64]) -> dict[str, float]:
    known = sides[~np.isnan(sides)]
    if not known.size:
        return {}
    return {name: float(np.quantile(known, share)) for name, share in (("1 %", 0.01), ("10 %", 0.1), ("50 %", 0.5))}
