"""One table of scores for a split, each with a 95 % interval.

Every metric is a function of sums over faces, so a bootstrap resample is one vector of counts times one table of terms:
thousands of resamples of thousands of faces take about a second, and count metrics stay exact.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from emodet.arrays import Bools, Float64, Int64
from emodet.errors import require
from emodet.evaluation import calibration
from emodet.evaluation.bootstrap import group_ids, interval, resampled_sums
from emodet.evaluation.predictions import Predictions
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, TERMS, agreement_names, agreement_terms, ratio

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
"""Shares of the faces that still get an answer, for which accuracy and confidence threshold are reported."""

MAIN_SCORES = ("accuracy", "macro_f1", "balanced_accuracy", "nll", "ece", "brier")
"""Scores of the whole split, in the order of every table."""

_MIN_PROBABILITY = 1e-12  # a true class at probability 0 would make the mean NLL infinite for all faces
_DETAILS = ("recall", "precision", "f1", "uncalibrated")


@dataclass(frozen=True, slots=True)
class Score:
    """One row of the table.

    Attributes:
        name: The metric, and after a slash what it is of: ``accuracy``, ``recall/fear``, ``accuracy/rafdb``,
            ``uncalibrated/nll``; after an ``@`` the coverage that it belongs to: ``accuracy@0.9``.
        value: None where it is not defined (the recall of a class without faces).
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end.
        n: Number of faces that it is measured on: of the class, for a recall; predicted as the class, for a precision.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation:
    """Results on one split. ``evaluation["recall/fear"]`` is a row of `scores`.

    Attributes:
        data: Title of the data set.
        scores: By name, in the order of the tables. Whole split: `MAIN_SCORES`, and where valence and arousal are
            predicted and annotated ``ccc_valence`` and so on (see `emodet.models.agreement`). Per data set of a mix:
            ``accuracy/NAME``, ``macro_f1/NAME``, ``balanced_accuracy/NAME``. Before temperature scaling:
            ``uncalibrated/nll``, ``…/ece``, ``…/brier``. Per class: ``recall/NAME``, ``precision/NAME``, ``f1/NAME``.
            Per share in `COVERAGES`: ``coverage@SHARE``, ``threshold@SHARE``, ``accuracy@SHARE``.
        confusion: int64 (K, K), true class by predicted class.
        bins: The reliability diagram.
        unit: What is resampled, in words.
        notes: Sentences that belong beside the figures.
    """

    data: str
    split: str
    class_names: tuple[str, ...]
    faces: int
    scores: Mapping[str, Score]
    confusion: Int64
    bins: tuple[calibration.ReliabilityBin, ...]
    resamples: int
    seed: int
    unit: str
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    @property
    def title(self) -> str:
        """Data set, split and number of faces."""
        return f"{self.data}, {self.split} ({self.faces:,} faces)"

    @property
    def sources(self) -> list[str]:
        """Names of the data sets of a mix; empty where there is one data set."""
        return [name.partition("/")[2] for name in self.scores if name.startswith("accuracy/")]

    @property
    def dimensions(self) -> list[str]:
        """``valence``, ``arousal``: those that are predicted and annotated."""
        return [name for name in DIMENSIONS if f"ccc_{name}" in self.scores]

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent true class and its share: the accuracy of always predicting it."""
        support = self.confusion.sum(axis=1)
        return self.class_names[int(support.argmax())], float(support.max() / support.sum())

    def with_notes(self, *notes: str) -> "Evaluation":
        """A copy with further notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Name to ``{"value", "low", "high"}``, but for those per class, per coverage and uncalibrated."""
        return {
            name: {"value": score.value, "low": score.low, "high": score.high}
            for name, score in self.scores.items()
            if "@" not in name and name.partition("/")[0] not in _DETAILS
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined is None."""
        name, share = self.majority
        rows = [asdict(score) for score in self.scores.values()]
        return {
            "data": self.data,
            "split": self.split,
            "faces": self.faces,
            "class_names": list(self.class_names),
            "metrics": {row.pop("name"): row for row in rows},
            "majority": {"name": name, "share": share},
            "confusion": {"rows": "true class", "columns": "prediction", "counts": self.confusion.tolist()},
            "reliability": [each._asdict() for each in self.bins],
            "intervals": {"level": 0.95, "resampled": self.unit, "resamples": self.resamples, "seed": self.seed},
            "notes": list(self.notes),
        }


def evaluate_predictions(predictions: Predictions, *, resamples: int = 2000, seed: int = 0) -> Evaluation:
    """All scores of a split, with 95 % intervals that a second run reproduces.

    Faces are resampled, or whole groups where groups are given. Resampling within each true class instead would narrow
    the interval of the accuracy (by a third on FER+), because it takes the mix of classes as fixed. A class that a
    resample misses is left out of that resample's means over classes.

    Intervals are bootstrap percentiles, but for two cases. Resampling adds noise to every bin of the calibration error,
    which only raises it: its percentiles are shifted so that the resamples' mean is the measured value, and cut at 0.
    Where all resamples agree (0 of 24 found), proportions get Wilson's score interval and other scores none. Precision
    and F1 of single classes have none.

    Args:
        predictions: Probabilities and true classes.
        resamples: Number of resamples; 0 leaves the intervals out.
        seed: Of the resampling.

    Raises:
        EmodetError: `resamples` is below 0.
    """
    require(resamples >= 0, "resamples", resamples, "0 (no intervals) or more; 2000 is usual")
    terms, proportions, thresholds = _terms(predictions)
    groups = group_ids(predictions.groups)
    measured = _metrics({name: column.sum(axis=0, keepdims=True) for name, column in terms.items()}, predictions)
    resampled = _metrics(resampled_sums(terms, groups, resamples, seed), predictions)
    scores = {}
    for name, (values, counts) in measured.items():
        value = float(values[0])
        ends: tuple[float | None, float | None] = (None, None)
        if not (math.isnan(value) or name.startswith(("precision/", "f1/"))):
            proportion, centred = proportions.get(name), name.endswith("ece")
            ends = interval(value, resampled[name][0], proportion, groups, centred=centred)
        scores[name] = Score(name, None if math.isnan(value) else value, *ends, n=int(counts[0]))
    faces = len(predictions.emotion)
    for share, threshold in zip(COVERAGES, thresholds, strict=True):
        coverage = scores[f"accuracy@{share:g}"].n / faces
        scores[f"coverage@{share:g}"] = Score(f"coverage@{share:g}", coverage, n=faces)
        scores[f"threshold@{share:g}"] = Score(f"threshold@{share:g}", threshold, n=faces)
    for source in dict.fromkeys(predictions.sources or ()):
        alone = evaluate_predictions(predictions.of_source(source), resamples=resamples, seed=seed)
        for metric in ("accuracy", "macro_f1", "balanced_accuracy"):
            scores[f"{metric}/{source}"] = replace(alone[metric], name=f"{metric}/{source}")
    classes = len(predictions.class_names)
    pairs = predictions.emotion * classes + predictions.predicted
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return Evaluation(
        data=predictions.data,
        split=predictions.split,
        class_names=tuple(predictions.class_names),
        faces=faces,
        scores=scores,
        confusion=confusion,
        bins=calibration.reliability_bins(predictions.probabilities, predictions.emotion),
        resamples=resamples,
        seed=seed,
        unit="faces" if groups is None else "whole groups (subjects)",
        notes=_notes(predictions, confusion, scores),
    )


def _terms(predictions: Predictions) -> tuple[dict[str, Float64], dict[str, Bools], list[float]]:
    """What each face adds to the sums, (N, ?) by name; which faces each proportion is of; coverage thresholds."""
    emotion, predicted, confidence = predictions.emotion, predictions.predicted, predictions.confidence
    faces, classes = predictions.probabilities.shape
    eye, right = np.eye(classes), predicted == emotion
    order = np.sort(confidence)[::-1]
    thresholds = [float(order[max(1, math.ceil(share * faces - 1e-9)) - 1]) for share in COVERAGES]
    covered = np.stack([confidence >= threshold for threshold in thresholds], axis=1)
    terms: dict[str, Any] = {
        "faces": np.ones((faces, 1)),
        "true": eye[emotion],
        "predicted": eye[predicted],
        "found": eye[emotion] * right[:, None],
        "covered": covered,
        "covered/right": covered & right[:, None],
    }
    proportions: dict[str, Bools] = {
        "accuracy": np.ones(faces, dtype=np.bool_),
        **{f"recall/{name}": emotion == number for number, name in enumerate(predictions.class_names)},
        **{f"accuracy@{share:g}": covered[:, number] for number, share in enumerate(COVERAGES)},
    }
    for prefix, rows in (("", predictions.probabilities), ("uncalibrated/", predictions.uncalibrated)):
        if rows is None:
            continue
        true = np.maximum(rows[np.arange(faces), emotion], _MIN_PROBABILITY)
        terms[f"{prefix}nll"] = -np.log(true)[:, None]
        terms[f"{prefix}gap"] = calibration.calibration_gaps(rows, emotion)
        terms[f"{prefix}brier"] = np.square(rows - eye[emotion]).sum(axis=1, keepdims=True)
    if predictions.valence_arousal is not None and predictions.annotated is not None:
        agreement = agreement_terms(predictions.valence_arousal, predictions.annotated)
        for number, name in enumerate(DIMENSIONS):
            known = np.isfinite(predictions.annotated[:, number])
            if known.any():
                terms[name], proportions[f"sagr_{name}"] = agreement[:, number], known
    return {name: np.asarray(column, dtype=np.float64) for name, column in terms.items()}, proportions, thresholds


def _metrics(sums: Mapping[str, Float64], predictions: Predictions) -> dict[str, tuple[Float64, Float64]]:
    """Every metric of R sums of `_terms`, and the number of faces behind it: both (R,) by name."""
    faces, true, found, answered = (sums[name] for name in ("faces", "true", "found", "predicted"))
    count = faces[:, 0]
    recall, precision = ratio(found, true), ratio(found, answered)
    f1 = ratio(2 * found, np.where(true > 0, true + answered, 0))
    table = {
        "accuracy": (found.sum(axis=1) / count, count),
        "macro_f1": (np.nanmean(f1, axis=1), count),
        "balanced_accuracy": (np.nanmean(recall, axis=1), count),
    }
    scales = [prefix for prefix in ("", "uncalibrated/") if f"{prefix}nll" in sums]
    for prefix in scales:
        table[f"{prefix}nll"] = sums[f"{prefix}nll"][:, 0] / count, count
        table[f"{prefix}ece"] = calibration.expected_calibration_error(sums[f"{prefix}gap"], count), count
        table[f"{prefix}brier"] = sums[f"{prefix}brier"][:, 0] / count, count
    for name in agreement_names():
        metric, _, dimension = name.partition("_")
        if dimension in sums:
            known = sums[dimension][:, TERMS.index("faces")]
            table[name] = AGREEMENTS[metric](sums[dimension]), known
    for number, name in enumerate(predictions.class_names):
        table[f"recall/{name}"] = recall[:, number], true[:, number]
        table[f"precision/{name}"] = precision[:, number], answered[:, number]
        table[f"f1/{name}"] = f1[:, number], true[:, number]
    accuracy = ratio(sums["covered/right"], sums["covered"])
    for number, share in enumerate(COVERAGES):
        table[f"accuracy@{share:g}"] = accuracy[:, number], sums["covered"][:, number]
    return table


def _notes(predictions: Predictions, confusion: Int64, scores: Mapping[str, Score]) -> tuple[str, ...]:
    """What a reader must know to read the scores: classes without faces or predictions, and few faces."""
    faces, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    rows = list(zip(predictions.class_names, faces.tolist(), answered.tolist(), strict=True))
    notes = []
    missing = [name for name, count, _ in rows if not count]
    if missing:
        notes.append(f"This split has no faces of {', '.join(missing)}: no recall, and left out of means over classes.")
    never = [name for name, count, predicted in rows if count and not predicted]
    if never:
        notes.append(f"The model never predicted {', '.join(never)}. The F1 counts as 0 there.")
    few = [f"{name} ({count})" for name, count, _ in rows if 0 < count < 30]
    if few:
        notes.append(f"Fewer than 30 faces, so the interval is rough: {', '.join(few)}.")
    if predictions.valence_arousal is not None:
        known = {name: scores[f"ccc_{name}"].n for name in DIMENSIONS if f"ccc_{name}" in scores}
        partly = [f"{name} ({count:,})" for name, count in known.items() if count < len(predictions.keys)]
        if not known:
            notes.append("The model predicts valence and arousal, but no face of this split has them annotated.")
        elif partly:
            notes.append(f"Measured on the annotated faces: {', '.join(partly)}.")
    return tuple(notes)
