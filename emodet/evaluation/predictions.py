"""Predictions and true classes of a split: what scores, figures and the report are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emodet.arrays import Float64, Floats, Int64
from emodet.errors import EmodetError

_TOLERANCE = 1e-3  # of a float16 or quantised softmax


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """N faces over K classes.

    Attributes:
        keys: N names of faces, as in the pack.
        emotion: int64, (N,): the true class, 0 to K - 1.
        probabilities: Float, (N, K), rows sum to 1: calibrated.
        class_names: K names; the position is the id.
        split: ``val``, ``test``, …
        data: Title of the data set.
        groups: N names of subjects, None where unknown. Where given, intervals resample whole groups, because faces of
            one person are not independent.
        uncalibrated: Float, (N, K), rows sum to 1: at temperature 1.
        sources: N names of the data sets of a mix; None where there is one data set.
        valence_arousal: Float, (N, 2), -1 to 1: predicted; None without a valence/arousal head.
        annotated: Float, (N, 2), -1 to 1: true values, NaN where unknown; given together with `valence_arousal`.
        index: int64, (N,), positions in the pack's table.
    """

    keys: Sequence[str]
    emotion: Int64
    probabilities: Floats
    class_names: Sequence[str]
    split: str
    data: str
    groups: Sequence[str | None] | None = None
    uncalibrated: Floats | None = None
    sources: Sequence[str] | None = None
    valence_arousal: Floats | None = None
    annotated: Floats | None = None
    index: Int64 | None = None

    def __post_init__(self) -> None:
        if len(self.keys) == 0:
            raise EmodetError(f"predictions for {self.data}, split {self.split}: no faces, so nothing to evaluate")
        for name in ("probabilities", "uncalibrated", "valence_arousal", "annotated"):
            if (rows := getattr(self, name)) is not None:
                object.__setattr__(self, name, np.asarray(rows, dtype=np.float64))
        for name in ("probabilities", "uncalibrated"):
            rows = getattr(self, name)
            if rows is not None and not (rows.min() >= 0 and (abs(rows.sum(axis=1) - 1) <= _TOLERANCE).all()):
                raise EmodetError(f"{name}: rows that sum to 1 are needed; logits need a softmax first")

    def of_source(self, name: str) -> "Predictions":
        """The faces of one data set of a mix, in the same order."""
        rows = [row for row, source in enumerate(self.sources or ()) if source == name]
        changes: dict[str, Any] = {"keys": [self.keys[row] for row in rows], "data": name, "sources": None}
        changes["groups"] = None if self.groups is None else [self.groups[row] for row in rows]
        for field in ("emotion", "probabilities", "uncalibrated", "valence_arousal", "annotated", "index"):
            values = getattr(self, field)
            changes[field] = None if values is None else values[rows]
        return replace(self, **changes)

    @property
    def predicted(self) -> Int64:
        """int64, (N,): the class with the highest probability, the lower id where two are equal."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def confidence(self) -> Float64:
        """float64, (N,), 0 to 1: the highest probability."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @property
    def logits(self) -> Float64:
        """float64, (N, K): logarithms of the uncalibrated probabilities, else of the calibrated ones."""
        rows = np.asarray(self.probabilities if self.uncalibrated is None else self.uncalibrated)
        return np.asarray(np.log(np.maximum(rows, np.finfo(np.float64).tiny)))
