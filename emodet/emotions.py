"""The eight emotions: ids, aliases, and class orders of other data sets. Checks of user-defined class names.

Data sets number their classes in at least five ways, so class numbers are never copied: a reader maps a number to a
name with the order of its data set (`FER2013_ORDER`, …), and the name to an id of `EMOTIONS`.
"""

from collections.abc import Sequence

from emodet.errors import EmodetError, require

EMOTIONS: tuple[str, ...] = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""The eight classes; the position is the id. These are AffectNet's ids 0 to 7 (Mollahosseini et al. 2017, table 3)."""

NOT_EMOTIONS: tuple[str, ...] = ("none", "uncertain", "no-face")
"""AffectNet's ids 8, 9 and 10: none of the eight emotions, uncertain annotation, no face. These are never classes."""

UNCERTAIN = "uncertain"
"""`Face.emotion` if no class reaches the recognizer's `min_confidence`. Reserved: no class can have this name."""

ALPHABETICAL_ORDER: tuple[str, ...] = tuple(sorted(EMOTIONS))
"""Class folders and YOLO exports: anger, contempt, disgust, fear, happiness, neutral, sadness, surprise."""

FERPLUS_ORDER: tuple[str, ...] = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""Vote columns of FER+ (Barsoum et al. 2016)."""

FER2013_ORDER: tuple[str, ...] = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""`fer2013.csv`, and ExpW's `label.lst` (Goodfellow et al. 2013; Zhang et al. 2018)."""

RAFDB_ORDER: tuple[str, ...] = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's `list_patition_label.txt`, whose numbers start at 1 (Li et al. 2017)."""

_ALIASES: dict[str, tuple[str, ...]] = {
    "neutral": ("ne",),
    "happiness": ("happy", "ha", "joy"),
    "sadness": ("sad", "sa"),
    "surprise": ("surprised", "suprise", "su"),
    "fear": ("fearful", "fe", "afraid"),
    "disgust": ("disgusted", "di"),
    "anger": ("angry", "an"),
    "contempt": ("contemptuous",),
    "none": (),
    "uncertain": (),
    "no-face": ("no_face", "noface", "non-face", "non_face", "nonface", "nf"),
}
_BY_ALIAS: dict[str, str] = {alias: name for name, others in _ALIASES.items() for alias in (name, *others)}

_SEPARATORS = frozenset(",;:/\\\"'<>=[]{}")


def emotion_name(text: str) -> str:
    """Map a data set's class name, in any case, also as in ``0_neutral``, to one of `EMOTIONS` or `NOT_EMOTIONS`.

    Raises:
        EmodetError: The name is unknown; the message lists the known ones.
    """
    word = text.strip().lower()
    head, _, tail = word.partition("_")
    if head.isdigit() and tail:
        word = tail
    if (name := _BY_ALIAS.get(word.replace(" ", "-"))) is None:
        known = "; ".join(", ".join((name, *others)) for name, others in _ALIASES.items())
        raise EmodetError(f"class name {text!r} is unknown. Known names, in any case: {known}")
    return name


def emotion_id(text: str) -> int | None:
    """Return the id 0 to 7 of a class name, or None for one of `NOT_EMOTIONS`; raise `EmodetError` if it is unknown."""
    name = emotion_name(text)
    return EMOTIONS.index(name) if name in EMOTIONS else None


def ids_of(order: Sequence[str]) -> tuple[int | None, ...]:
    """Return the ids of class names (any alias), in their order; None for classes that are not one of the eight.

    Raises:
        EmodetError: A name is unknown, or two names mean the same class.
    """
    names = [emotion_name(text) for text in order]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EmodetError(f"class names {list(order)} name {', '.join(twice)} more than once")
    return tuple(EMOTIONS.index(name) if name in EMOTIONS else None for name in names)


def chosen_classes(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Return the class names for ``data.classes``: 8 (the emotions), 7 (without contempt), or a list of names."""
    if isinstance(classes, int):
        fits = classes in (7, 8) and not isinstance(classes, bool)
        require(fits, "data.classes", classes, "7 (without contempt), 8, or names such as [bored,engaged]")
        return EMOTIONS[:classes]
    return checked_class_names(classes, "data.classes")


def checked_class_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Check class names and return them as a tuple. Messages of errors begin with `where`.

    Class names become keys of metrics and columns of tables: two or more, unique in any case, of at most 60 printable
    characters, without comma, slash, colon, quotes or brackets. ``uncertain`` is reserved.
    """
    checked = tuple(names)
    shown = f"{where}=[{', '.join(repr(str(name))[1:-1] for name in checked)}]"
    for name in checked:
        if not isinstance(name, str) or name != name.strip() or not 0 < len(name) <= 60 or not name.isprintable():
            raise EmodetError(f"{shown}: {name!r} is no class name; use 1 to 60 printable characters")
        if set(name) & _SEPARATORS or name.lower() == UNCERTAIN:
            raise EmodetError(f"{shown}: {name!r} cannot be a class name (reserved word or separator); rename it")
    if len({name.casefold() for name in checked}) != len(checked) or len(checked) < 2:
        raise EmodetError(f"{shown}: expected two or more classes, each once")
    return checked


def place_of(name: str, names: Sequence[str]) -> int | None:
    """Return the index of a class in `names`, by its name in any case or by an alias of the emotion; None if absent."""
    folded = [each.casefold() for each in names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    emotion = _BY_ALIAS.get(name.casefold())
    return next((i for i, each in enumerate(folded) if emotion in EMOTIONS and _BY_ALIAS.get(each) == emotion), None)
