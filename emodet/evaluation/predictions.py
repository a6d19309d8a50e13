"""What a net answered on one split: the one thing that metrics, pictures and the report are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.models.agreement import DIMENSIONS

__all__ = ["Predictions"]

Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]

_SUM_TOLERANCE = 1e-3  # a float16 or quantised softmax is that far off at most


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """Answers and true classes of N faces over K classes.

    Attributes:
        keys: N names of faces, as the pack has them.
        emotion: int64, (N,): the true class, 0 to K - 1.
        probabilities: Float, (N, K), rows sum to 1: the calibrated answer.
        class_names: K names; the position is the id.
        split: ``val``, ``test``, …: what the figures are labelled with.
        data: What people call the data set.
        groups: N names of whoever is on the picture, None where unknown. Where given, the intervals resample whole
            groups, because faces of one person are not independent.
        uncalibrated: Float, (N, K), rows sum to 1: the answer at temperature 1, to show what calibration changed.
        sources: N names of the data sets that a mix has the faces from; None where there is one data set.
        valence_arousal: Float, (N, 2), -1 to 1: what the net says of both; None where it does not.
        annotated: Float, (N, 2), -1 to 1: what they truly are, NaN where that is not known; given together with
            `valence_arousal`.
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
        # Tuples and wide floats, whatever came: everything after this relies on them.
        object.__setattr__(self, "keys", tuple(str(key) for key in self.keys))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        faces, classes = len(self.keys), len(self.class_names)
        if faces == 0:
            raise EmodetError(f"predictions for {self.data}, split {self.split}: no faces, so nothing to evaluate")
        if classes < 2 or len(set(self.class_names)) < classes:
            raise EmodetError(f"class_names={list(self.class_names)}: at least two different names are needed")
        object.__setattr__(self, "emotion", _ids(self.emotion, faces, classes))
        object.__setattr__(self, "probabilities", _rows("probabilities", self.probabilities, faces, classes))
        if self.uncalibrated is not None:
            object.__setattr__(self, "uncalibrated", _rows("uncalibrated", self.uncalibrated, faces, classes))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(self.groups))
            if len(self.groups) != faces:
                raise EmodetError(f"groups: {len(self.groups)} of them for {faces} faces; one for each is needed")
        if self.sources is not None:
            object.__setattr__(self, "sources", tuple(self.sources))
            if len(self.sources) != faces:
                raise EmodetError(f"sources: {len(self.sources)} of them for {faces} faces; one for each is needed")
        if (self.valence_arousal is None) != (self.annotated is None):
            raise EmodetError("valence_arousal and annotated: both are needed, or neither")
        if self.valence_arousal is not None:
            said = _dimensions("valence_arousal", self.valence_arousal, faces)
            if not np.isfinite(said).all():
                raise EmodetError("valence_arousal: not finite; NaN stands for missing in annotated alone")
            object.__setattr__(self, "valence_arousal", said)
            object.__setattr__(self, "annotated", _dimensions("annotated", self.annotated, faces))

    def of_source(self, name: str) -> "Predictions":
        """Those on the faces of one data set of a mix, in the same order."""
        here = np.array([source == name for source in self.sources or ()], dtype=np.bool_)

        def chosen(values: Sequence[Any]) -> list[Any]:
            return [value for value, wanted in zip(values, here, strict=True) if wanted]

        return replace(
            self,
            keys=chosen(self.keys),
            emotion=self.emotion[here],
            probabilities=self.probabilities[here],
            uncalibrated=None if self.uncalibrated is None else self.uncalibrated[here],
            groups=None if self.groups is None else chosen(self.groups),
            data=name,
            sources=None,
            valence_arousal=None if self.valence_arousal is None else self.valence_arousal[here],
            annotated=None if self.annotated is None else self.annotated[here],
        )

    @property
    def predicted(self) -> Int64:
        """int64, (N,): the class with the highest probability, the lower id where two are equal."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """float64, (N,), 0 to 1: the highest probability."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)


def _ids(value: Any, faces: int, classes: int) -> Int64:
    ids = np.asarray(value)
    if ids.shape != (faces,) or not np.issubdtype(ids.dtype, np.integer):
        raise EmodetError(
            f"emotion: {ids.dtype} of shape {ids.shape} for {faces} faces; one whole number each is needed"
        )
    wrong = np.flatnonzero((ids < 0) | (ids >= classes))
    if wrong.size:
        raise EmodetError(
            f"emotion: {ids[wrong[0]]} at face {wrong[0]} (and {wrong.size - 1} more) is no id of {classes} classes; "
            "leave out faces of other classes before evaluating"
        )
    return ids.astype(np.int64)


def _dimensions(name: str, value: Any, faces: int) -> npt.NDArray[np.float64]:
    rows = np.asarray(value, dtype=np.float64)
    if rows.shape != (faces, len(DIMENSIONS)):
        raise EmodetError(f"{name}: shape {rows.shape}, but {faces} faces need {faces, len(DIMENSIONS)}")
    outside = np.abs(rows) > 1 + _SUM_TOLERANCE
    if outside.any():
        first = int(np.flatnonzero(outside.any(axis=1))[0])
        raise EmodetError(f"{name}: {rows[first].tolist()} at face {first}; -1 to 1 was expected")
    return rows


def _rows(name: str, value: Any, faces: int, classes: int) -> npt.NDArray[np.float64]:
    rows = np.asarray(value, dtype=np.float64)
    if rows.shape != (faces, classes):
        raise EmodetError(f"{name}: shape {rows.shape}, but {faces} faces and {classes} classes need {faces, classes}")
    bad = ~np.isfinite(rows).all(axis=1)
    bad |= (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1) > _SUM_TOLERANCE)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise EmodetError(
            f"{name}: {int(bad.sum())} of {faces} rows are no probabilities, the first at face {first}: "
            f"{np.array2string(rows[first], precision=3)}. Logits need a softmax first"
        )
    return rows
