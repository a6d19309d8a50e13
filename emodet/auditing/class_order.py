"""Whether the classes bear the right names, told by what cannot be renumbered: valence and arousal, and a trained net.

Data sets number the emotions in at least five orders, and one read in another's order trains without an error. The mean
valence and arousal of each class then belong to another class, and a net that knows the faces answers with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER

__all__ = ["REFERENCE", "OrderFinding", "by_answers", "by_valence_arousal", "misread"]

Float64 = npt.NDArray[np.float64]

REFERENCE: Float64 = np.array(
    [
        (-0.063, -0.020),
        (0.664, 0.070),
        (-0.637, -0.257),
        (0.180, 0.689),
        (-0.126, 0.766),
        (-0.694, 0.457),
        (-0.453, 0.567),
        (-0.515, 0.583),
    ]
)
"""Mean valence and arousal of AffectNet's training faces, in the order of `EMOTIONS`."""

_ORDERS = {
    "AffectNet's": EMOTIONS,
    "the alphabetical": ALPHABETICAL_ORDER,
    "FER+'s": FERPLUS_ORDER,
    "FER2013's": FER2013_ORDER,
    "RAF-DB's": RAFDB_ORDER,
}
_LEAST_FACES = 20
# Disgust, anger and contempt lie within 0.3 of each other, and data sets differ by about as much.
_LEAST_GAIN_VA = 0.35
_LEAST_GAIN_ANSWERS = 0.2
_LEAST_AGREEMENT = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class OrderFinding:
    """What one look at the class order says.

    Attributes:
        told_by: Where it comes from, for people.
        wrong: Whether the names are wrong; None where this cannot be told.
        sentence: The finding in words.
        shows: For each class what its faces show where that is another: name to name.
        classes: The classes that were compared.
        figures: float64 (classes, 2) mean valence and arousal, or (classes, K) shares of answers.
    """

    told_by: str
    wrong: bool | None
    sentence: str
    shows: dict[str, str]
    classes: tuple[str, ...]
    figures: Float64


def by_valence_arousal(
    emotion: npt.NDArray[np.int64],
    valence: npt.NDArray[np.floating],
    arousal: npt.NDArray[np.floating],
    told_by: str,
) -> OrderFinding | None:
    """Compare the mean valence and arousal of each class with what AffectNet has for its name.

    Args:
        emotion: int64 (N,), -1 where there is none.
        valence: (N,), NaN where not annotated.
        arousal: Likewise.
        told_by: Where the annotation comes from.

    Returns:
        None where there is no annotation.
    """
    known = (emotion >= 0) & np.isfinite(valence) & np.isfinite(arousal)
    if not known.any():
        return None
    faces = np.bincount(emotion[known], minlength=len(EMOTIONS))
    present = np.flatnonzero(faces >= _LEAST_FACES)
    names = tuple(EMOTIONS[number] for number in present)
    means = np.array([[each[known & (emotion == number)].mean() for each in (valence, arousal)] for number in present])
    if len(present) < 2:
        return OrderFinding(told_by, None, f"Too few faces with {told_by} to tell.", {}, names, means.reshape(-1, 2))
    gains = -((means[:, None, :] - REFERENCE[None, :, :]) ** 2).sum(axis=2)
    shows = _shown(gains, present.tolist(), EMOTIONS, _LEAST_GAIN_VA)
    if not shows:
        sentence = f"{told_by.capitalize()} fit the names of the classes."
    else:
        parts = [
            f"the class called {name} has mean valence {means[names.index(name), 0]:+.2f} and arousal "
            f"{means[names.index(name), 1]:+.2f}, which is {other}'s"
            for name, other in list(shows.items())[:3]
        ]
        sentence = f"Wrong class order: {'; '.join(parts)}. {_explained(shows, names)}"
    return OrderFinding(told_by, bool(shows), sentence, shows, names, means)


def by_answers(
    emotion: npt.NDArray[np.int64], answer: npt.NDArray[np.int64], class_names: Sequence[str], told_by: str
) -> OrderFinding:
    """Compare labels with the answers of a net: classes in a wrong order lie beside the confusion matrix's diagonal.

    The one-to-one assignment of classes to answers with the highest agreement (Kuhn 1955) is the identity where the
    order is right. A net that knows the faces badly says nothing.

    Args:
        emotion: int64 (N,), labels, 0 to K - 1.
        answer: int64 (N,), the net's, 0 to K - 1.
        class_names: K names.
        told_by: Whose answers these are.

    """
    count = len(class_names)
    counts = np.zeros((count, count), dtype=np.int64)
    np.add.at(counts, (emotion, answer), 1)
    present = np.flatnonzero(counts.sum(axis=1) >= _LEAST_FACES)
    names = tuple(class_names[number] for number in present.tolist())
    shares = counts[present] / counts[present].sum(axis=1, keepdims=True)
    if len(present) < 2:
        return OrderFinding(told_by, None, f"Too few faces answered by {told_by} to tell.", {}, names, shares)
    best = float(shares[linear_sum_assignment(shares, maximize=True)].mean())
    if best < _LEAST_AGREEMENT:
        sentence = (
            f"Not told: {told_by} agrees with the labels on {100 * best:.0f} % of a class at best, whatever the order; "
            "it does not know faces like these well enough."
        )
        return OrderFinding(told_by, None, sentence, {}, names, shares)
    shows = _shown(shares, present.tolist(), class_names, _LEAST_GAIN_ANSWERS)
    if shows:
        parts = [
            f"faces labelled {name} are answered as {other} "
            f"({100 * shares[names.index(name), class_names.index(other)]:.0f} %)"
            for name, other in list(shows.items())[:3]
        ]
        sentence = f"Wrong class order, says {told_by}: {'; '.join(parts)}. {_explained(shows, names)}"
    else:
        weak = [name for place, name in enumerate(names) if shares[place].max() < _LEAST_AGREEMENT]
        sentence = f"The order fits the answers of {told_by} ({100 * best:.0f} % agreement, mean over the classes)."
        if weak:
            sentence += f" Of {', '.join(weak)}, which it rarely knows, it cannot tell."
    return OrderFinding(told_by, bool(shows), sentence, shows, names, shares)


def misread(shows: dict[str, str], names: Sequence[str]) -> tuple[str, str] | None:
    """The two orders whose confusion explains it: (in which the numbers are, in which they were read).

    Args:
        shows: For each class what its faces show where that is another.
        names: The classes that could be compared.
    """
    return next((pair for pair in permutations(_ORDERS, 2) if _fits(shows, names, *pair)), None)


def _explained(shows: dict[str, str], names: Sequence[str]) -> str:
    orders = misread(shows, names)
    if orders is None:
        return "In all: " + ", ".join(f"{name} → {other}" for name, other in shows.items()) + "."
    ours, theirs = orders
    either = ", or the other way round" if _fits(shows, names, theirs, ours) else ""
    return f"That is what numbers in {ours} order give when they are read in {theirs}{either}."


def _fits(shows: dict[str, str], names: Sequence[str], ours: str, theirs: str) -> bool:
    """Whether numbers in the order `ours`, read in the order `theirs`, make the classes show what they show."""
    meaning = dict(zip(_ORDERS[theirs], _ORDERS[ours], strict=False))
    # A class whose place the other order does not have can show nothing.
    expected = {name: meaning[name] for name in names if name in meaning and meaning[name] != name}
    return bool(expected) and expected == shows


def _shown(gains: Float64, places: Sequence[int], class_names: Sequence[str], least: float) -> dict[str, str]:
    """What the best assignment moves, class to class.

    Args:
        gains: (classes compared, K), how well each fits each of the K.
        places: Of the compared classes among the K.
        class_names: K names.
        least: What a ring or chain of moves must win for each of its classes.
    """
    rows, columns = linear_sum_assignment(gains, maximize=True)
    to = {places[row]: int(column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)}
    won = {start: gains[row, to[start]] - gains[row, start] for row, start in enumerate(places)}
    entered = set(to.values())
    shows: dict[int, int] = {}
    left = set(to)
    # Chains from the classes that nobody shows; what remains then are rings.
    for start in [*(place for place in to if place not in entered), *to]:
        moved: list[int] = []
        place = start
        while place in left:
            left.remove(place)
            moved.append(place)
            place = to[place]
        if moved and any(to[each] != each for each in moved) and np.mean([won[each] for each in moved]) >= least:
            shows |= {each: to[each] for each in moved if to[each] != each}
    return {class_names[place]: class_names[shows[place]] for place in sorted(shows)}
