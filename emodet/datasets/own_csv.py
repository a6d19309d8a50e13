"""A CSV file of one's own: a row per face, with what is known about it."""

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emodet.datasets import affectnet
from emodet.datasets.class_labels import class_named, own_classes
from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.folders import few, names_in, relative_path, split_of
from emodet.datasets.listed_pictures import TWICE, Seen, find_pictures, is_new
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.errors import EmodetError

__all__ = ["OwnCsv"]

_REQUIRED = ("path", "emotion")
_BOX = ("x1", "y1", "x2", "y2")
_POINTS = tuple(f"{p}_{axis}" for p in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy")
_OPTIONAL = ("split", "subject", *_BOX, "valence", "arousal", *_POINTS)
_PATH_NAMES = ("image", "file", "filename", "file_name", "image_path", "filepath", "source")
_ALIASES = {**dict.fromkeys(_PATH_NAMES, "path"), **dict.fromkeys(("label", "class", "expression"), "emotion")}
_MAX_FILES = 100
_MIN_BOX_PIXELS = 2
_NOT_ANNOTATED = -2
_NO_EMOTION = "without emotion"

_Box = tuple[float, float, float, float]


class OwnCsv(Reader):
    """One ``.csv`` with the columns ``path`` and ``emotion``, and any of ``split, subject, x1, y1, x2, y2, valence,
    arousal``.

    - ``path`` (or image, file, filename, source as in the rows of predict, …): relative to the folder of the CSV, or to
      some folder below it; an absolute path only where it lies below that folder.
    - ``emotion`` (or label, class, expression): a class name in any case; ``none``, ``uncertain`` and ``no-face`` are
      counted and left out. Empty where only valence and arousal are known. Numbers are refused: they mean something
      else in every data set. Names that are no emotions are classes of one's own; emotions among them only if
      ``data.classes`` names the classes.
    - ``split``: train, val (valid, validation) or test; without the column all faces are training faces.
    - ``subject``: who it is; no split that is drawn separates the faces of a subject. Without it, the faces of a
      picture that is listed with several boxes belong together.
    - ``x1, y1, x2, y2``: the face in pixels of the picture, x2 and y2 exclusive; all four or none. With them
      ``data.crop=box`` cuts faces out.
    - ``left_eye_x`` … ``right_mouth_y``, as in the rows of predict: the five landmarks; all of a row or none.
    - ``valence``, ``arousal``: -1 to 1; empty or -2 where not annotated.

    Delimiters, encodings: see `CsvRows`. A sample's key is the picture's path below the CSV's folder, and its box where
    a picture has several faces. The root is the file, or a folder that holds exactly one such file.
    """

    name = "own_csv"
    title = "CSV of your own"
    signs = "one .csv with the columns path and emotion"

    def __post_init__(self) -> None:
        super().__post_init__()
        files = [self.root] if self.root.is_file() else [file for file in _csv_files(self.base) if _fits(file)]
        if len(files) > 1:
            raise EmodetError(
                f"data.root={self.root}: {few(file.name for file in files)} have the columns path and emotion, and one "
                "file was expected; put them together, with a column split, or point data.root at one of them"
            )
        self.file = files[0]

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any(map(_fits, _csv_files(folder)))

    @classmethod
    def matches_file(cls, file: Path) -> bool:
        return _fits(file)

    @classmethod
    def missing(cls, root: Path) -> str:
        files = [root] if root.is_file() else _csv_files(root)
        for file in files:
            if file.suffix.lower() == ".csv":
                CsvRows(file, _REQUIRED, aliases=_ALIASES)
        return super().missing(root)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        rows = CsvRows(self.file, _REQUIRED, _OPTIONAL, aliases=_ALIASES)
        rows.require_together(*_BOX)
        rows.require_together("valence", "arousal")
        rows.require_together(*_POINTS)
        if rows.others:
            listing.notes.append(f"Columns that are not read: {few(rows.others, 8)}.")
        if "split" not in rows.columns:
            listing.notes.append("There is no column split, so all faces are training faces.")
        faces = [_face(row, rows) for row in rows]
        own = own_classes({face.label: face.where for face in reversed(faces) if face.label}, self.named_classes)
        if own is not None:
            meaning, listing.class_names = own
            faces = [face._replace(label=meaning.get(face.label, face.label)) for face in faces]
        else:
            faces = [face._replace(label=class_named(face.label, face.where) if face.label else "") for face in faces]
        pictures = find_pictures(listing, self.base, [face.path for face in faces], self.file)
        boxes: dict[str | None, set[_Box | None]] = defaultdict(set)
        for picture, face in zip(pictures, faces, strict=True):
            boxes[picture].add(face.box)
        seen: Seen = {}
        without_valence = found = 0
        for picture, face in zip(pictures, faces, strict=True):
            if picture is None:
                continue
            if not is_new(
                seen, picture + _suffix(face.box), f"{face.label or _NO_EMOTION} in {face.split}", face.where
            ):
                listing.left_out[TWICE] += 1
            elif face.label not in ("", *listing.class_names):
                listing.left_out[face.label] += 1
            elif not face.label and face.valence is None:
                listing.left_out["neither emotion nor valence and arousal"] += 1
            else:
                without_valence, found = without_valence + (face.valence is None), found + 1
                several = len(boxes[picture]) > 1
                yield Sample(
                    key=picture + (_suffix(face.box) if several else ""),
                    split=face.split,
                    emotion=listing.class_names.index(face.label) if face.label else None,
                    valence=face.valence,
                    arousal=face.arousal,
                    box=face.box,
                    landmarks=face.landmarks,
                    subject=face.subject or (picture if several else None),
                    file=picture,
                )
        if 0 < without_valence < found:
            listing.notes.append(f"{without_valence:,} faces have no valence and arousal (-2 or empty).")


class _Face(NamedTuple):
    path: str
    split: str
    label: str  # empty where there is none
    subject: str | None
    box: _Box | None
    landmarks: tuple[tuple[float, float], ...] | None
    valence: float | None
    arousal: float | None
    where: str


def _face(row: dict[str, str], rows: CsvRows) -> _Face:
    path = row["path"].replace("\\", "/")
    below = f"{rows.path.parent.absolute().as_posix()}/"
    path = relative_path(path.removeprefix(below), rows.where)
    split = split_of(row["split"]) if "split" in row else "train"
    if split is None:
        raise rows.error(f"split={row['split']!r} is not train, val or test")
    label = row["emotion"]
    if label.replace(".", "").isdigit():
        raise rows.error(f"emotion={label!r} is a number, which means something else in every data set; write names")
    valence, arousal = _valence_and_arousal(row, rows)
    return _Face(
        path,
        split,
        label,
        row.get("subject") or None,
        _box(row, rows),
        _landmarks(row, rows),
        valence,
        arousal,
        rows.where,
    )


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
    text = f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g}"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise rows.error(f"{text} is not finite")
    if x2 <= max(x1, 0) or y2 <= max(y1, 0):
        raise rows.error(
            f"{text} is empty or outside the picture; x1, y1 is the upper left corner, x2, y2 the lower right one, not "
            "width and height"
        )
    if min(x2 - x1, y2 - y1) < _MIN_BOX_PIXELS:
        raise rows.error(
            f"{text} is under {_MIN_BOX_PIXELS} pixels wide or high; boxes are in pixels of the picture, not in "
            "fractions of it"
        )
    return x1, y1, x2, y2


def _landmarks(row: dict[str, str], rows: CsvRows) -> tuple[tuple[float, float], ...] | None:
    if _POINTS[0] not in row or not any(row[name] for name in _POINTS):
        return None
    values = [_number(name, row[name], rows) for name in _POINTS]
    if not all(map(math.isfinite, values)):
        raise rows.error(f"the landmarks {', '.join(f'{value:g}' for value in values)} are not finite")
    return tuple(zip(values[::2], values[1::2], strict=True))


def _number(name: str, text: str, rows: CsvRows) -> float:
    try:
        return float(text)
    except ValueError:
        raise rows.error(f"{name}={text[:40]!r} is not a number") from None


def _suffix(box: _Box | None) -> str:
    return "" if box is None else f"#{','.join(f'{value:.12g}' for value in box)}"


def _csv_files(folder: Path) -> list[Path]:
    names = sorted(name for name in names_in(folder) if name.lower().endswith(".csv") and not name.startswith("."))
    return [folder / name for name in names[:_MAX_FILES] if (folder / name).is_file()]


def _fits(file: Path) -> bool:
    names = {_ALIASES.get(name, name) for name in header_of(file)}
    return file.suffix.lower() == ".csv" and set(_REQUIRED) <= names
