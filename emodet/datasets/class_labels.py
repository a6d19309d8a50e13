"""What the words and numbers mean by which people label classes and name splits in folders and lists."""

from collections.abc import Iterable, Mapping

from emodet.datasets import affectnet
from emodet.emotions import ALPHABETICAL_ORDER, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER, emotion_name
from emodet.errors import EmodetError

__all__ = ["ORDERS", "check_order", "classes_of", "is_class_label", "split_of"]

ORDERS: Mapping[str, Mapping[int, str]] = {
    "affectnet": dict(enumerate(affectnet.CLASS_NAMES)),
    "alphabetical": dict(enumerate(ALPHABETICAL_ORDER)),
    "ferplus": dict(enumerate(FERPLUS_ORDER)),
    "fer2013": dict(enumerate(FER2013_ORDER)),
    "rafdb": dict(enumerate(RAFDB_ORDER, start=1)),
}
"""Class name by number, for each order in use."""

_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "train_set"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "dev"),
    "test": ("test", "testing", "test_set"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}


def split_of(word: str) -> str | None:
    """train, val or test for any usual word for it in any case, else None."""
    return _SPLIT_OF.get(word.strip().lower())


def is_class_label(label: str) -> bool:
    """Whether it could name a class: a known name, or a number from 0 to 10."""
    if _is_number(label):
        return int(label) in ORDERS["affectnet"]
    try:
        emotion_name(label)
    except EmodetError:
        return False
    return True


def check_order(order: str) -> None:
    """Refuse an order that is not known.

    Raises:
        EmodetError: It is neither ``auto`` nor one of `ORDERS`.
    """
    if order not in ("auto", *ORDERS):
        raise EmodetError(f"order={order!r}: there are auto, {', '.join(ORDERS)}")


def classes_of(labels: Iterable[str], order: str, where: str) -> tuple[dict[str, str], str | None]:
    """What each label of a data set means.

    All labels are looked at together, since a number means nothing alone: from 0 they are AffectNet's ids, and 1 to 7
    without 0 are RAF-DB's. Names need no order.

    Args:
        labels: All that the data set uses, in all splits.
        order: ``auto``, or the one of `ORDERS` that its numbers follow.
        where: How an error names the place.

    Returns:
        One of `EMOTIONS` or `NOT_EMOTIONS` for each label, and a sentence for the person who reads the summary, where
        numbers had to be understood.

    Raises:
        EmodetError: A name is not known, names and numbers are mixed, or the numbers fit no order.
    """
    words = sorted(set(labels))
    numbers = {word: int(word) for word in words if _is_number(word)}
    names = [word for word in words if word not in numbers]
    if not numbers:
        if order != "auto" and names:
            raise EmodetError(f"{where}: order={order} is for numbered classes, but these have names ({names[0]}, …)")
        try:
            return {word: emotion_name(word) for word in names}, None
        except EmodetError as problem:
            raise EmodetError(f"{where}: {problem}") from None
    there = sorted(set(numbers.values()))
    listed = ", ".join(map(str, there[:12])) + (", …" if len(there) > 12 else "")
    if names:
        raise EmodetError(f"{where}: classes are numbered ({listed}) and named ({', '.join(names[:3])}) at once")
    used = order if order != "auto" else "affectnet" if there[0] == 0 else "rafdb" if there == [*range(1, 8)] else None
    if used is None or not set(there) <= set(ORDERS[used]):
        which = f"order={used}" if used else "order=auto"
        raise EmodetError(
            f"{where}: classes are numbered {listed}, which does not fit {which}. "
            f"Say what the numbers mean with the reader's option order: {', '.join(ORDERS)}"
        )
    meaning = {word: ORDERS[used][number] for word, number in numbers.items()}
    spelt = ", ".join(f"{number} {ORDERS[used][number]}" for number in there)
    doubt = "" if order != "auto" else " If they mean something else, say so with the reader's option order."
    return meaning, f"Classes are numbered, understood as {used}'s: {spelt}.{doubt}"


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 4
