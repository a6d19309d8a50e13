"""Corrections of a release: excluded faces and changed labels, in a CSV file that people can edit.

The release and its pack do not change: corrections are applied to the pack's table when the data module opens it, and
are part of the data's fingerprint. `python -m emodet.audit` writes a file of proposals.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emodet.data.pack import Table
from emodet.datasets.csv_rows import CsvRows
from emodet.emotions import EMOTIONS, NOT_EMOTIONS, emotion_name, place_of
from emodet.errors import EmodetError, errors_of
from emodet.files import csv_text, sha256_of, write_atomically

_COLUMNS = ("key", "split", "action", "emotion", "was", "reason", "score")
_SPLITS = ("train", "val", "test")
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction of one face.

    Attributes:
        key: Key of the face in the pack's table.
        action: ``exclude`` removes the face from train, val and test; ``relabel`` changes its emotion, which also
            replaces its soft label.
        emotion: The new emotion, an index of the class names; None for ``exclude``.
        split: train, val or test, to correct only the face of that split; empty for any split.
        was: Expected current emotion, -1 for none; None skips this check.
        reason: Free text.
        score: Score of the audit; `reason` explains it.
        line: Line number in the file, from 1.
    """

    key: str
    action: str
    emotion: int | None = None
    split: str = ""
    was: int | None = None
    reason: str = ""
    score: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Corrections:
    """A file of corrections; emotions in its rows are indices of `class_names`."""

    file: Path
    sha256: str
    rows: tuple[Correction, ...]
    class_names: Sequence[str] = EMOTIONS

    def apply(self, table: Table) -> tuple[Table, dict[str, dict[str, int]]]:
        """Apply the corrections; returns the new table, and the number of excluded and relabelled faces by split.

        Excluded faces keep their row but lose emotion and soft label, so that they are not used. Raises `EmodetError`
        for a row that does not match the table or contradicts another row.
        """
        emotion, soft_label = table.emotion.copy(), table.soft_label.copy()
        counted: dict[str, Counter[str]] = {split: Counter() for split in _SPLITS}
        for row, places in self._places(table):
            emotion[places] = -1 if row.emotion is None else row.emotion
            soft_label[places] = np.nan
            for split in table.split[places].tolist():
                counted[split]["excluded" if row.action == "exclude" else "relabelled"] += 1
        counts = {split: dict(found) for split, found in counted.items() if found}
        return replace(table, emotion=emotion, soft_label=soft_label), counts

    def _places(self, table: Table) -> Iterator[tuple[Correction, list[int]]]:
        """Return the row indices of the faces of each correction."""
        wanted = {row.key for row in self.rows}
        of: dict[str, list[int]] = defaultdict(list)
        for place, key in enumerate(table.key.tolist()):
            if key in wanted:
                of[key].append(place)
        if unknown := [row for row in self.rows if row.key not in of]:
            shown = "; ".join(f"line {row.line}: {row.key}" for row in unknown[:_LISTED])
            raise EmodetError(
                f"{self.file}: {len(unknown)} of {len(self.rows)} rows have a key that is not in this data set "
                f"({shown}); check that the file belongs to this data, or remove rows of unreadable faces"
            )
        by_place: dict[int, Correction] = {}
        for row in self.rows:
            places = [place for place in of[row.key] if row.split in ("", table.split[place])]
            if not places:
                there = ", ".join(sorted({str(table.split[place]) for place in of[row.key]}))
                raise self._error(row, f"{row.key} is in {there}, not in {row.split}")
            for place in places:
                label = int(table.emotion[place])
                if row.was not in (None, label):
                    found, expected = self._name(label), self._name(row.was)
                    problem = f"{row.key} has the label {found}, not {expected} as in the column was"
                    raise self._error(row, f"{problem}; remove this column to apply the correction anyway")
                other = by_place.setdefault(place, row)
                if other is not row:
                    raise self._error(row, f"{row.key} is corrected by line {other.line} already; keep one")
            yield row, places

    def _name(self, emotion: int | None) -> str:
        return "none" if emotion is None or emotion < 0 else self.class_names[emotion]

    def _error(self, row: Correction, what: str) -> EmodetError:
        return EmodetError(f"{self.file}, line {row.line}: {what}")


def in_words(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Format the counts of `Corrections.apply`: ``train 12 excluded, 3 relabelled; val 1 excluded``."""
    parts = [f"{split} " + ", ".join(f"{n} {what}" for what, n in each.items()) for split, each in counts.items()]
    return "; ".join(parts) or "no face"


def read_corrections(path: Path, class_names: Sequence[str] = EMOTIONS) -> Corrections:
    """Read a file of corrections for data with these classes; errors contain the line number.

    The columns ``key`` and ``action`` are required, ``emotion`` for ``relabel``. ``split`` and ``was`` are optional
    checks; ``reason`` and ``score`` are not used.
    """
    with errors_of(f"data.corrections={path}", "cannot be read", OSError):
        digest = sha256_of(path)
    rows = CsvRows(path, ("key", "action"), _COLUMNS)
    found = tuple(_correction(cells, rows, class_names) for cells in rows)
    return Corrections(path, digest, found, tuple(class_names))


def write_corrections(corrections: Iterable[Correction], path: Path, class_names: Sequence[str] = EMOTIONS) -> None:
    """Write a file for `read_corrections`, atomically."""
    names: dict[int | None, str] = {None: "", -1: "none"}
    names.update(enumerate(class_names))
    rows: list[tuple[str | None, ...]] = [_COLUMNS]
    for each in corrections:
        score = "" if each.score is None else f"{each.score:.4g}"
        rows.append((each.key, each.split, each.action, names[each.emotion], names[each.was], each.reason, score))
    with errors_of(path, "cannot be written", OSError):
        write_atomically(path, csv_text(rows))


def _correction(cells: Mapping[str, str], rows: CsvRows, class_names: Sequence[str]) -> Correction:
    key, split, action, emotion, was, reason, score = (cells.get(name, "") for name in _COLUMNS)
    if not key:
        raise rows.error("the column key is empty")
    if action not in ("exclude", "relabel"):
        raise rows.error(f"action {action!r} is not known; there are exclude, relabel")
    if split and split not in _SPLITS:
        raise rows.error(f"split {split!r} is not train, val or test")
    if action == "exclude" and emotion:
        raise rows.error(f"exclude takes no emotion, but the column contains {emotion!r}; use relabel or empty it")
    new = _emotion(emotion, rows, class_names) if action == "relabel" else None
    if new == -1:
        raise rows.error(
            f"relabel needs one of the classes in the column emotion, not {emotion!r}; or exclude the face"
        )
    number = rows.number(score, "score") if score else None
    old = _emotion(was, rows, class_names) if was else None
    return Correction(key, action, new, split, old, reason, number, rows.line)


def _emotion(text: str, rows: CsvRows, class_names: Sequence[str]) -> int:
    """Return the index of a class name; -1 for empty text or a word that means none."""
    place = place_of(text, class_names)
    if place is not None:
        return place
    with suppress(EmodetError):
        if not text or emotion_name(text) in NOT_EMOTIONS:
            return -1
    raise rows.error(f"class name {text!r} is unknown; there are {', '.join(class_names)}")
