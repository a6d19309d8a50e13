"""Meaning of names and numbers of classes in folders and lists."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from emodet import emotions
from emodet.datasets import affectnet
from emodet.datasets.folders import few
from emodet.emotions import UNCERTAIN, checked_class_names, emotion_name
from emodet.errors import EmodetError, errors_of

ORDERS: Mapping[str, Mapping[int, str]] = {
    "affectnet": dict(enumerate(affectnet.CLASS_NAMES)),
    "alphabetical": dict(enumerate(emotions.ALPHABETICAL_ORDER)),
    "ferplus": dict(enumerate(emotions.FERPLUS_ORDER)),
    "fer2013": dict(enumerate(emotions.FER2013_ORDER)),
    "rafdb": dict(enumerate(emotions.RAFDB_ORDER, start=1)),
}
"""Class name by number, for each order in use."""


def class_named(text: str, where: str) -> str:
    """Map a class name to one of `EMOTIONS` or `NOT_EMOTIONS`; `where` is its place, for errors."""
    with errors_of(where):
        return emotion_name(text)


def is_class_label(label: str) -> bool:
    """Return whether a text can denote a class: a known name, or a number from 0 to 10."""
    if _is_number(label):
        return int(label) in ORDERS["affectnet"]
    with suppress(EmodetError):
        return bool(emotion_name(label))
    return False


def classes_of(labels: Iterable[str], order: str, where: str) -> tuple[dict[str, str], list[str]]:
    """Map each label of a data set to one of `EMOTIONS` or `NOT_EMOTIONS`; add a note about the meaning of numbers.

    The labels are interpreted together, because a single number is ambiguous: with ``order="auto"``, numbers from 0 are
    AffectNet's ids, and 1 to 7 without 0 are RAF-DB's. Names need no order.
    """
    words = sorted(set(labels))
    numbers = {word: int(word) for word in words if _is_number(word)}
    names = [word for word in words if word not in numbers]
    if not numbers:
        if order != "auto" and names:
            raise EmodetError(f"{where}: order={order} is for numbered classes, but these have names ({names[0]}, …)")
        return {word: class_named(word, where) for word in names}, []
    there = sorted(set(numbers.values()))
    listed = ", ".join(map(str, there[:12])) + (", …" if len(there) > 12 else "")
    if names:
        raise EmodetError(f"{where}: classes are numbered ({listed}) and named ({', '.join(names[:3])}) at once")
    used = order if order != "auto" else "affectnet" if there[0] == 0 else "rafdb" if there == [*range(1, 8)] else None
    if used is None or not set(there) <= set(ORDERS[used]):
        raise EmodetError(
            f"{where}: classes are numbered {listed}, which does not fit order={used or 'auto'}. "
            f"Set the reader's option order to what the numbers mean: {', '.join(ORDERS)}"
        )
    spelt = ", ".join(f"{number} {ORDERS[used][number]}" for number in there)
    doubt = "" if order != "auto" else " If they mean something else, set the reader's option order."
    note = f"Classes are numbered, understood as {used}'s: {spelt}.{doubt}"
    return {word: ORDERS[used][number] for word, number in numbers.items()}, [note]


def own_classes(labels: Mapping[str, str], named: bool) -> tuple[dict[str, str], tuple[str, ...]] | None:
    """Classes of one's own: class name by label, and the names in alphabetical order; None where every label is known,
    a name of an emotion or a number. ``uncertain`` never is a class.

    `labels` have their place, for an error. Only if the user names the classes may some be emotions and some not.
    """
    words = sorted((label for label in labels if label.casefold() != UNCERTAIN), key=str.casefold)
    unknown = [word for word in words if not is_class_label(word) and not _is_number(word)]
    if not unknown:
        return None
    if len(unknown) < len(words) and not named:
        known = [word for word in words if word not in unknown]
        raise EmodetError(
            f"{labels[unknown[0]]}: class name {few(map(repr, unknown))} is unknown, while {few(known)} is an emotion. "
            f"Put it right, or name your own classes: data.classes=[{','.join(words)}]"
        )
    names: dict[str, str] = {}
    meaning = {word: names.setdefault(_without_number(word).casefold(), _without_number(word)) for word in words}
    return meaning, checked_class_names(tuple(names.values()), f"{labels[words[0]]}: classes")


def _without_number(label: str) -> str:
    """``bored`` of ``0_bored``."""
    number, _, name = label.partition("_")
    return name if number.isdigit() and name else label


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 4
