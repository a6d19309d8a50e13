"""A CSV file of one's own: a row per face, with what is known about it."""

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import ClassVar, NamedTuple

from emodet.datasets import affectnet
from emodet.datasets.class_labels import split_of
from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import few, names_in, relative_path
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, EachOnce, locate, note_of_missing
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, NOT_EMOTIONS, emotion_name
from emodet.errors import EmodetError

__all__ = ["OwnCsv"]

_REQUIRED = ("path", "emotion")
_BOX = ("x1", "y1", "x2", "y2")
_OPTIONAL = ("split", "subject", *_BOX, "valence", "arousal")
_MOST_FILES = 100
_LEAST_BOX_PIXELS = 2
_NOT_ANNOTATED = -2
_NO_EMOTION = "without emotion"
_NOTHING_KNOWN = "neither emotion nor valence and arousal"

_Box = tuple[float, float, float, float]


class OwnCsv(FolderReader):
    """One ``.csv`` with the columns ``path`` and ``emotion``, and any of ``split, subject, x1, y1, x2, y2, valence,
    arousal``.

    - ``path``: relative to the folder of the CSV, or to some folder below it.
    - ``emotion``: a class name in any case; ``none``, ``uncertain`` and ``no-face`` are counted and left out. Empty
      where only valence and arousal are known. Numbers are refused: they mean something else in every data set.
    - ``split``: train, val (valid, validation) or test; without the column all faces are training faces.
    - ``subject``: who it is; no split that is drawn tears a subject apart. Without it, the faces of a picture that is
      listed with several boxes belong together.
    - ``x1, y1, x2, y2``: the face in pixels of the picture, x2 and y2 exclusive; all four or none. With them
      ``data.crop=box`` cuts faces out.
    - ``valence``, ``arousal``: -1 to 1; empty or -2 where not annotated.

    A record's key is the picture's path below the CSV's folder, and its box where a picture has several faces.

    Args:
        root: The file, the folder that holds it and no second one like it, or a folder that holds only that folder.

    Raises:
        EmodetError: The root bears none of the signs, or there are several such files.
    """

    name: ClassVar[str] = "own_csv"
    title: ClassVar[str] = "CSV of your own"
    signs: ClassVar[str] = "one .csv with the columns path and emotion"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        files = [root] if root.is_file() else self._fitting(self.base)
        if len(files) > 1:
            raise EmodetError(
                f"data.root={root}: {few(file.name for file in files)} have the columns path and emotion, and one file "
                "was expected; put them together, with a column split, or point data.root at one of them"
            )
        self.file = files[0]

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: The file cannot be read, has a row that does not fit or one face with two labels, or fewer than
                90 % of the pictures are there. The message names the line.
        """
        left_out: Counter[str] = Counter()
        faces, notes = self._faces()
        paths = [face.path for face in faces]
        located = locate(self.root, self.base, paths, self.file)
        if None in located.found:
            notes.append(note_of_missing(located, paths, self.base, self.file))
        folder = located.folder.relative_to(self.base)
        boxes: dict[str | None, set[_Box | None]] = defaultdict(set)
        for found, face in zip(located.found, faces, strict=True):
            boxes[found].add(face.box)
        once = EachOnce()
        records = []
        for found, face in zip(located.found, faces, strict=True):
            if found is None:
                left_out[NOT_THERE] += 1
                continue
            picture = (folder / found).as_posix()
            if not once.is_new(picture + _suffix(face.box), f"{face.says} in {face.split}", face.where):
                left_out[TWICE] += 1
                continue
            if face.says in NOT_EMOTIONS or (face.says == _NO_EMOTION and face.valence is None):
                left_out[face.says if face.says in NOT_EMOTIONS else _NOTHING_KNOWN] += 1
                continue
            several = len(boxes[found]) > 1
            records.append(
                Sample(
                    key=picture + (_suffix(face.box) if several else ""),
                    split=face.split,
                    emotion=EMOTIONS.index(face.says) if face.says in EMOTIONS else None,
                    valence=face.valence,
                    arousal=face.arousal,
                    box=face.box,
                    subject=face.subject or (picture if several else None),
                )
            )
        if not records:
            raise EmodetError(f"{self.file}: no face with an emotion, or with valence and arousal, is listed")
        if any(record.valence is not None for record in records):
            unannotated = sum(record.valence is None for record in records)
            notes += [f"{unannotated:,} faces have no valence and arousal (-2 or empty)."] if unannotated else []
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def file_of(self, record: Sample) -> Path:
        """The picture, which several faces may share."""
        return self.base / record.key.removesuffix(_suffix(record.box))

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return bool(cls._fitting(folder))

    @classmethod
    def _fits(cls, file: Path) -> bool:
        return file.suffix.lower() == ".csv" and set(_REQUIRED) <= set(header_of(file))

    @classmethod
    def _fitting(cls, folder: Path) -> list[Path]:
        names = sorted(name for name in names_in(folder) if name.lower().endswith(".csv"))
        return [folder / name for name in names[:_MOST_FILES] if cls._fits(folder / name)]

    def _faces(self) -> tuple[list["_Face"], list[str]]:
        """The rows, understood, and notes about the columns."""
        rows = CsvRows(self.file, _REQUIRED, _OPTIONAL)
        for together in (_BOX, ("valence", "arousal")):
            lacking = [name for name in together if name not in rows.names]
            if lacking and len(lacking) < len(together):
                raise EmodetError(
                    f"{self.file}: {', '.join(together)} belong together; {', '.join(lacking)} is missing"
                )
        notes = []
        if rows.others:
            notes.append(f"Columns that are not read: {few(rows.others, 8)}.")
        if "split" not in rows.names:
            notes.append("There is no column split, so all faces are training faces.")
        return [_face(row, rows) for row in rows], notes


class _Face(NamedTuple):
    """A row, understood; `says` is a class name or that there is none."""

    path: str
    split: str
    says: str
    subject: str | None
    box: _Box | None
    valence: float | None
    arousal: float | None
    where: str


def _face(row: dict[str, str], rows: CsvRows) -> _Face:
    path = relative_path(row["path"], rows.where)
    split = split_of(row["split"]) if "split" in row else "train"
    if split is None:
        raise rows.error(f"split={row['split']!r} is not train, val or test")
    says = row["emotion"]
    if says.replace(".", "").isdigit():
        raise rows.error(f"emotion={says!r} is a number, which means something else in every data set; write names")
    try:
        says = emotion_name(says) if says else _NO_EMOTION
    except EmodetError as problem:
        raise rows.error(str(problem)) from None
    valence, arousal = _valence_and_arousal(row, rows)
    return _Face(path, split, says, row.get("subject") or None, _box(row, rows), valence, arousal, rows.where)


def _valence_and_arousal(row: dict[str, str], rows: CsvRows) -> tuple[float, float] | tuple[None, None]:
    if "valence" not in row:
        return None, None
    values = [_number(name, row[name] or "nan", rows) for name in ("valence", "arousal")]
    for name, value in zip(("valence", "arousal"), values, strict=True):
        if abs(value) > 1 and value != _NOT_ANNOTATED:
            raise rows.error(
                f"{name}={value:g} is outside -1 to 1 (empty or {_NOT_ANNOTATED}: not annotated); scale it"
            )
    return affectnet.valence_and_arousal(values[0], values[1])


def _box(row: dict[str, str], rows: CsvRows) -> _Box | None:
    if "x1" not in row or not any(row[name] for name in _BOX):
        return None
    x1, y1, x2, y2 = (_number(name, row[name], rows) for name in _BOX)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise rows.error(f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is not finite")
    if x2 <= max(x1, 0) or y2 <= max(y1, 0):
        raise rows.error(
            f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is empty or outside the picture; x1, y1 is the upper left corner, "
            "x2, y2 the lower right one, not width and height"
        )
    if min(x2 - x1, y2 - y1) < _LEAST_BOX_PIXELS:
        raise rows.error(
            f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is under {_LEAST_BOX_PIXELS} pixels wide or high; boxes are in "
            "pixels of the picture, not in fractions of it"
        )
    return x1, y1, x2, y2


def _number(name: str, text: str, rows: CsvRows) -> float:
    try:
        return float(text)
    except ValueError:
        raise rows.error(f"{name}={text[:40]!r} is not a number") from None


def _suffix(box: _Box | None) -> str:
    return "" if box is None else f"#{','.join(f'{value:.12g}' for value in box)}"
