"""Metrics of one split, each with a 95 % interval, and how much accuracy refusing to answer buys.

Every metric here is a function of sums over faces, so a bootstrap resample is one vector of counts times one table of
features: thousands of resamples of thousands of faces take about a second, and count metrics stay exact.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.evaluation.calibration import BINS, ReliabilityBin, bin_of, reliability_bins
from emodet.evaluation.predictions import Predictions
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, agreement_terms, concordance, rmse, sign_agreement

__all__ = [
    "COVERAGES",
    "ClassResult",
    "CoveragePoint",
    "DimensionResult",
    "Estimate",
    "Evaluation",
    "ProbabilityScores",
    "SourceResult",
    "evaluate_predictions",
    "format_table",
]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
"""Shares of the faces that still get an answer, for which accuracy and confidence threshold are reported."""

_Z = 1.959963984540054  # of a normal distribution's central 95 %
_LEAST_PROBABILITY = 1e-12  # a true class at probability 0 would make the mean NLL infinite for all faces
_DRAWS_AT_ONCE = 4_000_000  # numbers held at a time while resampling: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: None where it is not defined (the recall of a class without faces).
        low: Lower end; None where no interval can be said.
        high: Upper end.
        method: ``bootstrap`` (percentiles), ``centred bootstrap``, ``wilson``, or ``none``.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = "none"


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One row of the per-class table.

    Attributes:
        name: The class.
        faces: How many faces are truly of it.
        answered: How many were said to be of it.
        recall: Of its faces, the share that was found; no value without faces.
        precision: Of the answers, the share that was right; None if it was never the answer.
        f1: Harmonic mean of both, 0 if none was found; None without faces.
    """

    name: str
    faces: int
    answered: int
    recall: Estimate
    precision: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class SourceResult:
    """One row of the table of a mix's data sets.

    Attributes:
        name: What the mix calls the data set.
        faces: How many of its faces were evaluated.
        accuracy: On them.
        macro_f1: Mean F1 over the classes that have faces among them.
        balanced_accuracy: Mean recall over the classes that have faces among them.
    """

    name: str
    faces: int
    accuracy: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate


@dataclass(frozen=True, slots=True)
class DimensionResult:
    """How what is said of valence, or of arousal, agrees with what was annotated; see `emodet.models.agreement`.

    Attributes:
        name: ``valence`` or ``arousal``.
        faces: How many of the evaluated faces have it annotated.
        ccc: Lin's concordance correlation coefficient, -1 to 1.
        rmse: Root mean squared error, 0 to 2.
        sagr: The share of the faces on which the sign is right.
    """

    name: str
    faces: int
    ccc: Estimate
    rmse: Estimate
    sagr: Estimate


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Accuracy where only the surest answers are given and the rest is called uncertain.

    Attributes:
        asked: The share of faces that was to be answered.
        coverage: The share that is: faces as sure as the last one are answered too.
        threshold: A face is answered from this confidence on.
        accuracy: On the answered faces.
    """

    asked: float
    coverage: float
    threshold: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class ProbabilityScores:
    """How good the probabilities are, not only the decisions.

    Attributes:
        nll: Mean negative log likelihood in nats; probabilities below 1e-12 count as 1e-12.
        ece: Expected calibration error: 15 equal-width bins of the highest probability, absolute gaps.
        brier: Mean over faces of the squared differences summed over the classes, 0 to 2.
    """

    nll: Estimate
    ece: Estimate
    brier: Estimate


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation:
    """Everything that is said about a net on one split.

    Attributes:
        data: Title of the data set.
        split: Its split.
        class_names: K names.
        faces: How many were evaluated.
        accuracy: The share that is right.
        macro_f1: Mean F1 over the classes that have faces.
        balanced_accuracy: Mean recall over the classes that have faces.
        calibrated: Of the probabilities as given.
        uncalibrated: Of those at temperature 1, if they were given.
        per_class: K rows.
        confusion: int64, (K, K): true class by answer.
        bins: The reliability diagram.
        coverage: For each of `COVERAGES`.
        majority: The most frequent true class and its share: the accuracy of always saying it.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.
        resampled: In words, what was resampled.
        notes: Sentences that belong beside the figures.
        per_source: One row for each data set of a mix; empty where there is one data set.
        per_dimension: Valence and arousal; empty where the net does not say them, or no face has them annotated.
    """

    data: str
    split: str
    class_names: tuple[str, ...]
    faces: int
    accuracy: Estimate
    macro_f1: Estimate
    balanced_accuracy: Estimate
    calibrated: ProbabilityScores
    uncalibrated: ProbabilityScores | None
    per_class: tuple[ClassResult, ...]
    confusion: Int64
    bins: tuple[ReliabilityBin, ...]
    coverage: tuple[CoveragePoint, ...]
    majority: tuple[str, float]
    resamples: int
    seed: int
    resampled: str
    notes: tuple[str, ...]
    per_source: tuple[SourceResult, ...] = ()
    per_dimension: tuple[DimensionResult, ...] = ()

    def with_notes(self, *notes: str) -> "Evaluation":
        """The same, with further notes before its own: how the split was used, say."""
        return replace(self, notes=(*notes, *self.notes))

    def agreements(self) -> dict[str, Estimate]:
        """The figures of valence and arousal by name, ``ccc_valence`` and so on."""
        return {f"{metric}_{row.name}": getattr(row, metric) for metric in AGREEMENTS for row in self.per_dimension}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined is None."""
        return {
            "data": self.data,
            "split": self.split,
            "faces": self.faces,
            "class_names": list(self.class_names),
            "metrics": {
                "accuracy": asdict(self.accuracy),
                "macro_f1": asdict(self.macro_f1),
                "balanced_accuracy": asdict(self.balanced_accuracy),
                **asdict(self.calibrated),
                **{
                    f"{metric}/{row.name}": asdict(getattr(row, metric))
                    for row in self.per_source
                    for metric in ("accuracy", "macro_f1")
                },
                **{name: asdict(estimate) for name, estimate in self.agreements().items()},
            },
            "uncalibrated": None if self.uncalibrated is None else asdict(self.uncalibrated),
            "majority": {"name": self.majority[0], "share": self.majority[1]},
            "per_class": [asdict(row) for row in self.per_class],
            **({"per_source": [asdict(row) for row in self.per_source]} if self.per_source else {}),
            **({"per_dimension": [asdict(row) for row in self.per_dimension]} if self.per_dimension else {}),
            "confusion": {"rows": "true class", "columns": "answer", "counts": self.confusion.tolist()},
            "reliability": [asdict(each) for each in self.bins],
            "coverage": [asdict(each) for each in self.coverage],
            "intervals": {
                "level": 0.95,
                "resampled": self.resampled,
                "resamples": self.resamples,
                "seed": self.seed,
            },
            "notes": list(self.notes),
        }


def evaluate_predictions(predictions: Predictions, *, resamples: int = 2000, seed: int = 0) -> Evaluation:
    """All metrics of a split, with 95 % intervals that a second run reproduces.

    Faces are drawn as they come, or whole groups where groups are given. Drawing within each true class instead would
    narrow the interval of the accuracy (by a third on FER+), because it takes the mix of classes as fixed; that is
    true of AffectNet's validation set, 500 faces of each, where it makes little difference. A class that a resample
    happens to miss is left out of that resample's means over classes.

    Intervals are percentiles, but for two cases. Resampling adds noise to every bin of the calibration error, which
    only ever raises it: its percentiles are shifted so that the resamples' mean is the measured value, and cut at 0.
    And where all resamples agree (a class with nothing found: 0 of 24), proportions get Wilson's score interval and
    other figures none.

    Args:
        predictions: The answers.
        resamples: How many resamples; 0 leaves the intervals out.
        seed: Of the resampling.

    Raises:
        EmodetError: `resamples` is below 0.
    """
    if resamples < 0:
        raise EmodetError(f"resamples={resamples}: 0 (no intervals) or more are needed; 2000 is usual")
    features = _Features(predictions)
    measured = features.values.sum(axis=0, keepdims=True)
    sums = _resampled_sums(predictions, features.values, resamples, seed)
    group_ids = _group_ids(predictions)

    def estimate(
        metric: Callable[[Float64], Float64], proportion_of: npt.NDArray[np.bool_] | None = None, centred: bool = False
    ) -> Estimate:
        """The figure, and its interval: `proportion_of` marks the faces that a proportion is taken of."""
        value = float(metric(measured)[0])
        if math.isnan(value):
            return Estimate(None)
        spread = metric(sums)
        spread = spread[~np.isnan(spread)]
        if resamples == 0 or spread.size == 0:
            return Estimate(value)
        if float(np.ptp(spread)) <= 1e-12:
            if proportion_of is None or value not in (0.0, 1.0):
                return Estimate(value)
            trials = proportion_of.sum() if group_ids is None else np.unique(group_ids[proportion_of]).size
            low, high = _wilson(value, int(trials))
            return Estimate(value, low, high, "wilson")
        low, high = (float(end) for end in np.percentile(spread, (2.5, 97.5)))
        if centred:
            shift = value - float(spread.mean())
            return Estimate(value, max(0.0, low + shift), high + shift, "centred bootstrap")
        return Estimate(value, low, high, "bootstrap")

    def probability_scores(which: str) -> ProbabilityScores:
        return ProbabilityScores(
            nll=estimate(lambda s: features.mean(s, f"{which}/nll")),
            ece=estimate(lambda s: features.calibration_error(s, which), centred=True),
            brier=estimate(lambda s: features.mean(s, f"{which}/brier")),
        )

    names, emotion, predicted = tuple(predictions.class_names), predictions.emotion, predictions.predicted
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (emotion, predicted), 1)
    support, answered = confusion.sum(axis=1), confusion.sum(axis=0)
    per_class = tuple(
        ClassResult(
            name=name,
            faces=int(support[k]),
            answered=int(answered[k]),
            recall=estimate(lambda s, k=k: features.recalls(s)[:, k], emotion == k),  # type: ignore[misc]
            precision=float(confusion[k, k] / answered[k]) if answered[k] else None,
            f1=float(2 * confusion[k, k] / (support[k] + answered[k])) if support[k] else None,
        )
        for k, name in enumerate(names)
    )
    every = np.ones(len(emotion), dtype=bool)
    coverage = tuple(
        CoveragePoint(
            asked=asked,
            coverage=float(np.mean(predictions.confidence >= threshold)),
            threshold=threshold,
            accuracy=estimate(lambda s, i=i: features.covered(s, i), predictions.confidence >= threshold),  # type: ignore[misc]
        )
        for i, (asked, threshold) in enumerate(zip(COVERAGES, features.thresholds, strict=True))
    )
    per_dimension = tuple(
        DimensionResult(
            name=name,
            faces=int(features.known[:, number].sum()),
            ccc=estimate(lambda s, i=number: concordance(features.agreement(s, i))),  # type: ignore[misc]
            rmse=estimate(lambda s, i=number: rmse(features.agreement(s, i))),  # type: ignore[misc]
            sagr=estimate(lambda s, i=number: sign_agreement(features.agreement(s, i)), features.known[:, number]),  # type: ignore[misc]
        )
        for number, name in enumerate(DIMENSIONS)
        if features.known[:, number].any()
    )
    most = int(support.argmax())
    return Evaluation(
        data=predictions.data,
        split=predictions.split,
        class_names=names,
        faces=len(emotion),
        accuracy=estimate(features.accuracy, every),
        macro_f1=estimate(features.macro_f1),
        balanced_accuracy=estimate(lambda s: np.nanmean(features.recalls(s), axis=1)),
        calibrated=probability_scores("calibrated"),
        uncalibrated=None if predictions.uncalibrated is None else probability_scores("uncalibrated"),
        per_class=per_class,
        confusion=confusion,
        bins=reliability_bins(predictions.probabilities, emotion),
        coverage=coverage,
        majority=(names[most], float(support[most] / support.sum())),
        resamples=resamples,
        seed=seed,
        resampled="faces" if group_ids is None else "whole groups (subjects)",
        notes=(*_notes(per_class), *_notes_on_dimensions(predictions, per_dimension)),
        per_source=_per_source(predictions, resamples, seed),
        per_dimension=per_dimension,
    )


def _per_source(predictions: Predictions, resamples: int, seed: int) -> tuple[SourceResult, ...]:
    rows = []
    for name in dict.fromkeys(predictions.sources or ()):
        own = evaluate_predictions(predictions.of_source(name), resamples=resamples, seed=seed)
        rows.append(SourceResult(name, own.faces, own.accuracy, own.macro_f1, own.balanced_accuracy))
    return tuple(rows)


def _notes(per_class: tuple[ClassResult, ...]) -> tuple[str, ...]:
    notes = []
    missing = [row.name for row in per_class if row.faces == 0]
    if missing:
        notes.append(
            f"No faces of {', '.join(missing)} in this split: no recall there, and the means over classes leave "
            f"{'it' if len(missing) == 1 else 'them'} out."
        )
    never = [row.name for row in per_class if row.faces and not row.answered]
    if never:
        notes.append(f"Never the answer: {', '.join(never)}. The F1 counts as 0 there.")
    few = [f"{row.name} ({row.faces})" for row in per_class if 0 < row.faces < 30]
    if few:
        notes.append(f"Under 30 faces, so the interval is wide and rough: {', '.join(few)}.")
    return tuple(notes)


def _notes_on_dimensions(predictions: Predictions, per_dimension: tuple[DimensionResult, ...]) -> tuple[str, ...]:
    if predictions.valence_arousal is None:
        return ()
    if not per_dimension:
        return ("The net says valence and arousal too; no face of this split has them annotated.",)
    few = [f"{row.name} ({row.faces:,})" for row in per_dimension if row.faces < len(predictions.keys)]
    return (f"Measured on the faces that have it annotated: {', '.join(few)}.",) if few else ()


class _Features:
    """One row per face, and the metrics as functions of sums over rows.

    `values` is float64, (N, F). Each metric takes float64, (R, F): R sums over (resampled) faces, and returns (R,).
    """

    def __init__(self, predictions: Predictions) -> None:
        emotion, confidence = predictions.emotion, predictions.confidence
        faces, classes = predictions.probabilities.shape
        right = predictions.predicted == emotion
        eye = np.eye(classes)
        order = np.sort(confidence)[::-1]
        self.thresholds = [float(order[max(1, math.ceil(share * faces - 1e-9)) - 1]) for share in COVERAGES]
        columns: dict[str, Float64] = {
            "faces": np.ones((faces, 1)),
            "true": eye[emotion],
            "answer": eye[predictions.predicted],
            "found": eye[emotion] * right[:, None],
            "covered": np.stack([confidence >= threshold for threshold in self.thresholds], axis=1),
            "covered/right": np.stack([(confidence >= threshold) & right for threshold in self.thresholds], axis=1),
        }
        for which, rows in (("calibrated", predictions.probabilities), ("uncalibrated", predictions.uncalibrated)):
            if rows is not None:
                columns.update(_probability_columns(which, np.asarray(rows, dtype=np.float64), emotion))
        self.known = np.zeros((faces, len(DIMENSIONS)), dtype=np.bool_)
        if predictions.valence_arousal is not None and predictions.annotated is not None:
            self.known = np.isfinite(predictions.annotated)
            terms = agreement_terms(predictions.valence_arousal, predictions.annotated)
            columns.update({name: terms[:, number] for number, name in enumerate(DIMENSIONS)})
        ends = np.cumsum([column.shape[1] for column in columns.values()])
        self._place: Mapping[str, slice] = {
            name: slice(int(end) - column.shape[1], int(end))
            for (name, column), end in zip(columns.items(), ends, strict=True)
        }
        self.values: Float64 = np.concatenate([column.astype(np.float64) for column in columns.values()], axis=1)

    def _of(self, sums: Float64, name: str) -> Float64:
        return sums[:, self._place[name]]

    def mean(self, sums: Float64, name: str) -> Float64:
        return self._of(sums, name)[:, 0] / self._of(sums, "faces")[:, 0]

    def accuracy(self, sums: Float64) -> Float64:
        return np.asarray(self._of(sums, "found").sum(axis=1) / self._of(sums, "faces")[:, 0])

    def recalls(self, sums: Float64) -> Float64:
        """(R, K), NaN where a class has no faces."""
        return _ratio(self._of(sums, "found"), self._of(sums, "true"))

    def macro_f1(self, sums: Float64) -> Float64:
        true = self._of(sums, "true")
        each = _ratio(2 * self._of(sums, "found"), np.where(true > 0, true + self._of(sums, "answer"), 0))
        return np.asarray(np.nanmean(each, axis=1))

    def covered(self, sums: Float64, index: int) -> Float64:
        """Accuracy above the threshold with that index; NaN where no face of a resample is above it."""
        return _ratio(self._of(sums, "covered/right")[:, index], self._of(sums, "covered")[:, index])

    def agreement(self, sums: Float64, dimension: int) -> Float64:
        """(R, 8): what `emodet.models.agreement` measures valence (0) or arousal (1) by."""
        return self._of(sums, DIMENSIONS[dimension])

    def calibration_error(self, sums: Float64, which: str) -> Float64:
        gaps = np.abs(self._of(sums, f"{which}/gap")).sum(axis=1)
        return np.asarray(gaps / self._of(sums, "faces")[:, 0])


def _probability_columns(which: str, rows: Float64, emotion: Int64) -> dict[str, Float64]:
    faces, classes = rows.shape
    confidence = rows.max(axis=1)
    # A bin's share of the calibration error is |sum of (right - confidence)| over its faces, so the bin needs one sum.
    gap = np.zeros((faces, BINS))
    gap[np.arange(faces), bin_of(confidence)] = (rows.argmax(axis=1) == emotion) - confidence
    return {
        f"{which}/nll": -np.log(np.maximum(rows[np.arange(faces), emotion], _LEAST_PROBABILITY))[:, None],
        f"{which}/brier": np.square(rows - np.eye(classes)[emotion]).sum(axis=1, keepdims=True),
        f"{which}/gap": gap,
    }


def _ratio(above: Float64, below: Float64) -> Float64:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0))


def _group_ids(predictions: Predictions) -> Int64 | None:
    """int64, (N,): a number per group; a face whose group is not known is a group of its own."""
    if predictions.groups is None or all(group is None for group in predictions.groups):
        return None
    number: dict[tuple[bool, str | int], int] = {}
    keys = ((group is None, place if group is None else group) for place, group in enumerate(predictions.groups))
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def _resampled_sums(predictions: Predictions, values: Float64, resamples: int, seed: int) -> Float64:
    """float64, (R, F): for each resample, the sum of `values` over the faces drawn."""
    sums = np.zeros((resamples, values.shape[1]))
    generator = np.random.default_rng(seed)
    groups = _group_ids(predictions)
    if groups is None:
        rows = values
    else:
        rows = np.zeros((int(groups.max()) + 1, values.shape[1]))
        np.add.at(rows, groups, values)
    size = len(rows)
    chunk = max(1, _DRAWS_AT_ONCE // size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums[start : start + count] = times.astype(np.float64) @ rows
    return sums


def _wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927): right also where all or nothing was found."""
    centre = share + _Z**2 / (2 * trials)
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    scale = 1 + _Z**2 / trials
    # At its own ends the formula is 0 and 1, but for rounding.
    return (centre - half) / scale if share > 0 else 0.0, (centre + half) / scale if share < 1 else 1.0


def format_table(evaluation: Evaluation) -> str:
    """The figures as plain text for a terminal, no wider than 80 characters with ordinary names."""
    rows = evaluation.per_class
    names = [*(row.name for row in rows), *(row.name for row in evaluation.per_source)]
    first = max(len("balanced accuracy"), *map(len, names))
    lines = [f"{evaluation.data}, split {evaluation.split}: {evaluation.faces:,} faces", ""]
    share, scores = ("accuracy", "macro F1", "balanced accuracy"), evaluation.calibrated
    for name, each in zip(share, (evaluation.accuracy, evaluation.macro_f1, evaluation.balanced_accuracy), strict=True):
        lines.append(f"{name:<{first}}  {_percent(each.value):>7}  {_percents(each)}")
    for name, each in (("NLL", scores.nll), ("calibration error", scores.ece), ("Brier score", scores.brier)):
        lines.append(f"{name:<{first}}  {_number(each.value):>7}  {_numbers(each)}")
    before = evaluation.uncalibrated
    if before is not None:
        figures = f"NLL {_number(before.nll.value)}, calibration error {_number(before.ece.value)}"
        lines.append(f"{'at temperature 1':<{first}}  {figures}")
    lines += [
        f"{'always ' + evaluation.majority[0]:<{first}}  {_percent(evaluation.majority[1]):>7}",
        "",
        f"{'class':<{first}}  {'faces':>7}  {'recall':>7}  {'95 % interval':<16}  {'precision':>9}  {'F1':>7}",
    ]
    lines += [
        f"{row.name:<{first}}  {row.faces:>7,}  {_percent(row.recall.value):>7}  {_percents(row.recall):<16}  "
        f"{_percent(row.precision):>9}  {_percent(row.f1):>7}"
        for row in rows
    ]
    if evaluation.per_source:
        lines += ["", f"{'data set':<{first}}  {'faces':>7}  {'right':>7}  {'95 % interval':<16}  {'macro F1':>9}"]
        lines += [
            f"{row.name:<{first}}  {row.faces:>7,}  {_percent(row.accuracy.value):>7}  "
            f"{_percents(row.accuracy):<16}  {_percent(row.macro_f1.value):>9}"
            for row in evaluation.per_source
        ]
    if evaluation.per_dimension:
        lines += ["", f"{'':<{first}}  {'faces':>7}  {'CCC':>7}  {'95 % interval':<16}  {'RMSE':>6}  {'same sign':>9}"]
        lines += [
            f"{row.name:<{first}}  {row.faces:>7,}  {_number(row.ccc.value):>7}  {_numbers(row.ccc):<16}  "
            f"{_number(row.rmse.value):>6}  {_percent(row.sagr.value):>9}"
            for row in evaluation.per_dimension
        ]
    lines += ["", f"{'answered':<{first}}  {'above':>7}  {'right':>7}  95 % interval"]
    lines += [
        f"{_percent(point.coverage):<{first}}  {_number(point.threshold):>7}  {_percent(point.accuracy.value):>7}  "
        f"{_percents(point.accuracy)}"
        for point in evaluation.coverage
    ]
    intervals = (
        f"95 % bootstrap intervals: {evaluation.resamples:,} resamples of {evaluation.resampled}, "
        f"seed {evaluation.seed}."
        if evaluation.resamples
        else "No intervals were asked for."
    )
    return "\n".join([*lines, "", *evaluation.notes, intervals])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _percents(each: Estimate) -> str:
    return "" if each.low is None or each.high is None else f"[{100 * each.low:.1f}, {100 * each.high:.1f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _numbers(each: Estimate) -> str:
    return "" if each.low is None or each.high is None else f"[{each.low:.3f}, {each.high:.3f}]"
