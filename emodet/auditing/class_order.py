"""Detection of wrong class orders, by comparing labels with valence and arousal and with predictions of trained nets.

Data sets number the emotions in at least five orders, and training on labels in a wrong order raises no error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from emodet.arrays import Float64, Floats, Int64
from emodet.auditing.duplicates import connected
from emodet.auditing.label_noise import OutOfFoldProbs
from emodet.data.datamodule import EmotionDataModule
from emodet.datasets.affectnet import VALENCE_AROUSAL
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER
from emodet.modelfile import ModelFile
from emodet.models.agreement import DIMENSIONS

_ORDERS = {
    "AffectNet's": EMOTIONS,
    "the alphabetical": ALPHABETICAL_ORDER,
    "FER+'s": FERPLUS_ORDER,
    "FER2013's": FER2013_ORDER,
    "RAF-DB's": RAFDB_ORDER,
}
_MIN_FACES = 20
# Disgust, anger and contempt differ by at most 0.3, and means of different data sets differ by about as much.
_MIN_GAIN_VA = 0.35
_MIN_GAIN_PREDICTIONS = 0.2
_MIN_AGREEMENT = 0.4
_PREDICTED_PER_CLASS = 300


@dataclass(frozen=True, slots=True, eq=False)
class OrderFinding:
    """One check of the class order."""

    source: str  # valence and arousal or predictions that the labels were compared with
    classes: tuple[str, ...]  # classes that were compared
    columns: tuple[str, ...]  # valence and arousal, or the K classes
    figures: Float64  # (classes, 2) means of valence and arousal, or (classes, K) shares of predictions
    wrong: bool | None  # None if undecided
    sentence: str
    shows: Mapping[str, str] = field(default_factory=dict)  # by class: another class that its faces show

    @property
    def verdict(self) -> str:
        """``wrong``, ``correct`` or ``undecided``."""
        return {True: "wrong", False: "correct", None: "undecided"}[self.wrong]


def check_class_order(
    data: EmotionDataModule, model: ModelFile | None, out_of_fold: OutOfFoldProbs | None, seed: int
) -> Iterator[OrderFinding]:
    """Check each split of each data set: by valence and arousal, by predictions of `model` for a sample of each class,
    and, except for train, by the predictions `out_of_fold` of nets trained on train.
    """
    table, names = data.pack.table, data.class_names
    source = data.pack.source_of(np.arange(len(table)))
    usable = (table.emotion >= 0) & (table.emotion < len(names))
    for number in range(len(data.sources)):
        for split in ("train", "val", "test"):
            where = f"{split} of {data.source_names[number]}" if data.source_names else split
            rows = np.flatnonzero((table.split == split) & (source == number) & usable)
            label = table.emotion[rows]
            annotation = f"Valence and arousal ({where})"
            if data.pack.class_names == EMOTIONS:
                finding = by_valence_arousal(label, table.valence[rows], table.arousal[rows], annotation)
                yield from () if finding is None else (finding,)
            if model is not None and rows.size:
                mixed = np.random.default_rng([seed, 0xA5C]).permutation(rows)
                of_class = [mixed[table.emotion[mixed] == number] for number in range(len(names))]
                sample = np.sort(np.concatenate([each[:_PREDICTED_PER_CLASS] for each in of_class]))
                crops = np.stack([model.info.preprocessing.crop(crop) for crop in data.pack.images(sample)])
                columns = [model.info.class_names.index(name) for name in names]
                predicted = model.probabilities(crops)[:, columns].argmax(axis=1)
                yield by_predictions(table.emotion[sample], predicted, names, f"Predictions of {model.name} ({where})")
            if out_of_fold is not None and split != "train" and (known := rows[out_of_fold.known[rows]]).size:
                predicted = out_of_fold.probabilities[known].argmax(axis=1)
                yield by_predictions(table.emotion[known], predicted, names, f"Nets trained on train ({where})")


def by_valence_arousal(emotion: Int64, valence: Floats, arousal: Floats, source: str) -> OrderFinding | None:
    """Compare the mean valence and arousal of each class with AffectNet's; returns None without annotations.

    `emotion` is int64 (N,), -1 for none; `valence` and `arousal` are (N,), NaN if not annotated. The sentence begins
    with `source`.
    """
    known = (emotion >= 0) & np.isfinite(valence) & np.isfinite(arousal)
    if not known.any():
        return None
    present = np.flatnonzero(np.bincount(emotion[known], minlength=len(EMOTIONS)) >= _MIN_FACES)
    names = tuple(EMOTIONS[number] for number in present)
    means = np.array([[each[known & (emotion == number)].mean() for each in (valence, arousal)] for number in present])
    finding = partial(OrderFinding, source, names, DIMENSIONS, means.reshape(-1, 2))
    if len(present) < 2:
        return finding(None, f"{source}: too few faces.")
    gains = -((means[:, None, :] - np.array(VALENCE_AROUSAL)[None, :, :]) ** 2).sum(axis=2)
    shows = _moved(gains, present.tolist(), EMOTIONS, _MIN_GAIN_VA)
    mean_of = dict(zip(names, means.tolist(), strict=True))

    def part(name: str, other: str) -> str:
        return f"the mean of {name} ({mean_of[name][0]:+.2f}, {mean_of[name][1]:+.2f}) fits {other}"

    return _found(finding, shows, part, "the means fit the class names.")


def by_predictions(emotion: Int64, predicted: Int64, class_names: Sequence[str], source: str) -> OrderFinding:
    """Compare labels with predictions, both int64 (N,), 0 to K - 1. The sentence begins with `source`.

    If the order is right, the assignment of classes to predictions with the highest agreement (Kuhn 1955) is the
    identity. If the predictions are inaccurate in every order, the check is undecided.
    """
    counts = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (emotion, predicted), 1)
    present = np.flatnonzero(counts.sum(axis=1) >= _MIN_FACES)
    names = tuple(class_names[number] for number in present.tolist())
    shares = counts[present] / counts[present].sum(axis=1, keepdims=True)
    finding = partial(OrderFinding, source, names, tuple(class_names), shares)
    if len(present) < 2:
        return finding(None, f"{source}: too few faces.")
    best = float(shares[linear_sum_assignment(shares, maximize=True)].mean())
    if best < _MIN_AGREEMENT:
        sentence = f"{source}: even in the best order only {100 * best:.0f} % of the labels agree, too few to decide."
        return finding(None, sentence)
    shows = _moved(shares, present.tolist(), class_names, _MIN_GAIN_PREDICTIONS)

    def part(name: str, other: str) -> str:
        share = shares[names.index(name), class_names.index(other)]
        return f"{100 * share:.0f} % of {name} are predicted as {other}"

    weak = [name for place, name in enumerate(names) if shares[place].max() < _MIN_AGREEMENT]
    sentence = f"{100 * best:.0f} % of the labels agree, mean over the classes."
    if weak:
        sentence += f" Undecided for {', '.join(weak)}: too few of them are predicted consistently."
    return _found(finding, shows, part, sentence)


def _found(
    finding: "partial[OrderFinding]", shows: Mapping[str, str], part: Callable[[str, str], str], correct: str
) -> OrderFinding:
    """Build a finding: the sentence `correct`, or the first wrong classes, formatted by `part`, and a likely cause."""
    source, names = finding.args[:2]
    if not shows:
        return finding(False, f"{source}: {correct}")
    cause = "All moved classes: " + ", ".join(f"{name} → {other}" for name, other in shows.items()) + "."
    for ours, theirs in permutations(_ORDERS, 2):
        if _fits(shows, names, ours, theirs):
            either = ", or the other way round" if _fits(shows, names, theirs, ours) else ""
            cause = f"Likely cause: numbers in {ours} order, read in {theirs}{either}."
            break
    moves = "; ".join(part(*move) for move in list(shows.items())[:3])
    return finding(True, f"{source}: {moves}. {cause}", shows)


def _fits(shows: Mapping[str, str], names: Sequence[str], ours: str, theirs: str) -> bool:
    """Return whether numbers in the order `ours`, read in the order `theirs`, cause these wrong classes."""
    meaning = dict(zip(_ORDERS[theirs], _ORDERS[ours], strict=False))
    # A class whose number the other order lacks has no faces.
    expected = {name: meaning[name] for name in names if name in meaning and meaning[name] != name}
    return bool(expected) and expected == shows


def _moved(gains: Float64, places: Sequence[int], class_names: Sequence[str], min_gain: float) -> dict[str, str]:
    """Return the classes that the best assignment moves to another class; each cycle or chain of moves must gain
    `min_gain` on average. `gains` is (compared classes, K), the fit to each of the K; `places` are compared classes.
    """
    _, columns = linear_sum_assignment(gains, maximize=True)
    start = np.array(places)
    gain = gains[range(len(start)), columns] - gains[range(len(start)), start]
    of = connected(np.stack([start, columns]), len(class_names))[start]
    return {
        class_names[place]: class_names[column]
        for place, column, group in zip(places, columns.tolist(), of.tolist(), strict=True)
        if place != column and gain[of == group].mean() >= min_gain
    }
