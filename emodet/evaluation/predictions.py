"""Predictions and true classes of a split: what scores, figures and the report are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.models.agreement import DIMENSIONS

__all__ = ["Predictions"]

Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]

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

    def __post_init__(self) -> None:
        faces, names = len(self.keys), tuple(self.class_names)
        if faces == 0:
            raise EmodetError(f"predictions for {self.data}, split {self.split}: no faces, so nothing to evaluate")
        if len(names) < 2 or len(set(names)) < len(names):
            raise EmodetError(f"class_names={list(names)}: at least two different names are needed")
        if (self.valence_arousal is None) != (self.annotated is None):
            raise EmodetError("valence_arousal and annotated: both are needed, or neither")
        # Tuples and float64, whatever came: everything after this relies on them.
        checked: dict[str, Any] = {"keys": tuple(map(str, self.keys)), "class_names": names}
        checked["emotion"] = _ids(self.emotion, faces, len(names))
        for name, width in (
            *(("probabilities", len(names)), ("uncalibrated", len(names))),
            *(("valence_arousal", len(DIMENSIONS)), ("annotated", len(DIMENSIONS))),
        ):
            checked[name] = _rows(name, getattr(self, name), (faces, width))
        for name in ("groups", "sources"):
            values = getattr(self, name)
            if values is not None and len(values) != faces:
                raise EmodetError(f"{name}: {len(values)} of them for {faces} faces; one for each is needed")
            checked[name] = None if values is None else tuple(values)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def of_source(self, name: str) -> "Predictions":
        """The faces of one data set of a mix, in the same order."""
        rows = [row for row, source in enumerate(self.sources or ()) if source == name]
        changes: dict[str, Any] = {"keys": [self.keys[row] for row in rows], "data": name, "sources": None}
        changes["groups"] = None if self.groups is None else [self.groups[row] for row in rows]
        for field in ("emotion", "probabilities", "uncalibrated", "valence_arousal", "annotated"):
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


def _ids(value: Any, faces: int, classes: int) -> Int64:
    ids = np.asarray(value)
    if ids.shape != (faces,) or not np.issubdtype(ids.dtype, np.integer):
        raise EmodetError(f"emotion: {ids.dtype} of shape {ids.shape}; {faces} whole numbers are needed")
    wrong = np.flatnonzero((ids < 0) | (ids >= classes))
    if wrong.size:
        raise EmodetError(
            f"emotion: {ids[wrong[0]]} at face {wrong[0]} (and {wrong.size - 1} more) is no id of {classes} classes; "
            "leave out faces of other classes before evaluating"
        )
    return ids.astype(np.int64)


def _rows(name: str, value: Any, shape: tuple[int, int]) -> Float64 | None:
    """`value` as float64, checked; None stays None."""
    if value is None:
        return None
    rows = np.asarray(value, dtype=np.float64)
    if rows.shape != shape:
        raise EmodetError(f"{name}: shape {rows.shape}; {shape} is needed for {shape[0]} faces")
    if name in ("probabilities", "uncalibrated"):
        bad = (rows < 0).any(axis=1) | ~(abs(rows.sum(axis=1) - 1) <= _TOLERANCE)
        expected = "probabilities that sum to 1 are needed; logits need a softmax first"
    else:
        bad = (np.abs(rows) > 1 + _TOLERANCE).any(axis=1)
        bad |= (name == "valence_arousal") & ~np.isfinite(rows).all(axis=1)
        expected = "-1 to 1 is needed, NaN for unknown values in annotated alone"
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise EmodetError(
            f"{name}: {np.array2string(rows[first], precision=3)} at face {first} (and {int(bad.sum()) - 1} more): "
            f"{expected}"
        )
    return rows
