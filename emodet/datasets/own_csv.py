"""The user's own CSV file, with one row per face."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from emodet.datasets import affectnet
from emodet.datasets.class_labels import class_named, own_classes
from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.folders import few, files_in, relative_path, split_of
from emodet.datasets.listed_pictures import Seen, find_pictures, is_new
from emodet.datasets.samples import Box, Listing, Reader, Sample

_REQUIRED = ("path", "emotion")
_BOX = ("x1", "y1", "x2", "y2")
_POINTS = tuple(f"{p}_{axis}" for p in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for axis in "xy")
_VALUES = ("valence", "arousal")
_OPTIONAL = ("split", "subject", *_BOX, *_VALUES, *_POINTS)
_PATH_NAMES = ("image", "file", "filename", "file_name", "image_path", "filepath", "source")
_ALIASES = {**dict.fromkeys(_PATH_NAMES, "path"), **dict.fromkeys(("label", "class", "expression"), "emotion")}
_MAX_FILES = 100
_MIN_BOX_PIXELS = 2
_NOT_ANNOTATED = -2
_NUMBER = re.compile(r"[-+]?\.?\d[\d.]*")


class OwnCsv(Reader):
    """One ``.csv`` with the columns ``path`` and ``emotion``, and any of ``split, subject, x1, y1, x2, y2, valence,
    arousal``.

    - ``path`` (or image, file, filename, source as in the rows of predict, …): relative to the folder of the CSV or to
      a folder below it; an absolute path must be below that folder.
    - ``emotion`` (or label, class, expression): a class name in any case; ``none``, ``uncertain`` and ``no-face`` are
      counted and left out. Empty if only valence and arousal are known. Numbers are not accepted, because their meaning
      differs between data sets. Other names are the user's own classes; emotions among them need ``data.classes``.
    - ``split``: train, val (valid, validation) or test; without the column all faces are in train.
    - ``subject``: the person; drawn splits do not separate the faces of a subject. Without it, the faces of a picture
      with several boxes form a group.
    - ``x1, y1, x2, y2``: box of the face in pixels of the picture, x2 and y2 exclusive; all four or none, for
      ``data.crop=box``.
    - ``left_eye_x`` … ``right_mouth_y``, as in the rows of predict: the five landmarks; all of a row or none.
    - ``valence``, ``arousal``: -1 to 1; empty or -2 if not annotated.

    Delimiters, encodings: see `CsvRows`. A sample's key is the picture's path below the folder of the CSV, followed by
    the box if a picture has several faces. The root is the file, or a folder that contains exactly one such file.
    """

    name = "own_csv"
    title = "CSV of your own"
    signs = "one .csv with the columns path and emotion"
    root_suffix = ".csv"
    one_file = True

    @classmethod
    def candidates(cls, folder: Path) -> list[Path]:
        return files_in(folder, ".csv", _MAX_FILES)

    @classmethod
    def fits(cls, file: Path) -> bool:
        return set(_REQUIRED) <= {_ALIASES.get(name, name) for name in header_of(file)}

    @classmethod
    def missing(cls, root: Path) -> str:
        files = [root] if root.is_file() else cls.candidates(root)
        for file in files:
            if file.suffix.lower() == ".csv":
                CsvRows(file, _REQUIRED, aliases=_ALIASES)
        return super().missing(root)

    def list_samples(self, listing: Listing) -> list[Sample]:
        rows = CsvRows(self.listed_in, _REQUIRED, _OPTIONAL, aliases=_ALIASES)
        for columns in (_BOX, _VALUES, _POINTS):
            rows.require_together(*columns)
        if rows.others:
            listing.notes.append(f"Columns that are not read: {few(rows.others, 8)}.")
        if "split" not in rows.columns:
            listing.notes.append("There is no column split, so all faces are training faces.")
        folder = rows.path.parent
        absolute = [f"{place.as_posix()}/" for place in (folder.absolute(), folder.resolve())]
        faces = [(row["emotion"], rows.where, _face(row, rows, absolute)) for row in rows]
        own = own_classes({label: where for label, where, _ in reversed(faces) if label}, self.named_classes)
        meaning, listing.class_names = own or ({}, listing.class_names)
        pictures = find_pictures(listing, self.base, [face.key for _, _, face in faces], rows.path)
        boxes: dict[str | None, set[Box | None]] = defaultdict(set)
        for picture, (_, _, face) in zip(pictures, faces, strict=True):
            boxes[picture].add(face.box)
        seen: Seen = {}
        samples: list[Sample] = []
        for picture, (label, where, face) in zip(pictures, faces, strict=True):
            if label not in meaning:
                meaning[label] = label if own or not label else class_named(label, where)
            if picture is None:
                continue
            name, several = meaning[label], len(boxes[picture]) > 1
            suffix = f"#{','.join(f'{value:.12g}' for value in face.box)}" if face.box else ""
            if not is_new(listing, seen, picture + suffix, f"{name or 'without emotion'} in {face.split}", where):
                continue
            if name not in ("", *listing.class_names):
                listing.left_out[name] += 1
            elif not name and face.valence is None:
                listing.left_out["neither emotion nor valence and arousal"] += 1
            else:
                key, subject = (picture + suffix, face.subject or picture) if several else (picture, face.subject)
                emotion = listing.class_names.index(name) if name else None
                known = face.valence, face.arousal, face.box, face.landmarks, subject, picture
                samples.append(Sample(key, face.split, emotion, None, *known))
        if 0 < (without := sum(sample.valence is None for sample in samples)) < len(samples):
            listing.notes.append(f"{without:,} faces have no valence and arousal (-2 or empty).")
        return samples


def _face(row: dict[str, str], rows: CsvRows, absolute: Sequence[str]) -> Sample:
    """A sample without its emotion; its key is the path as written, without the folder's `absolute` paths."""
    path = row["path"].replace("\\", "/")
    for prefix in absolute:
        path = path.removeprefix(prefix)
    path = relative_path(path, rows.where)
    split = split_of(row.get("split", "train"))
    if split is None:
        raise rows.error(f"split={row['split']!r} is not train, val or test")
    label = row["emotion"]
    if _NUMBER.fullmatch(label):
        raise rows.error(f"emotion={label!r} is a number, which means something else in every data set; write names")
    values = [rows.number(row[name] or "nan", name) for name in _VALUES if name in row]
    for name, value in zip(_VALUES, values, strict=False):
        if abs(value) > 1 and value != _NOT_ANNOTATED:
            raise rows.error(
                f"{name}={value:g} is outside -1 to 1 (empty or {_NOT_ANNOTATED}: not annotated); scale it"
            )
    valence, arousal = affectnet.valence_and_arousal(*values) if values else (None, None)
    box, points = _box(row, rows), _numbers(_POINTS, row, rows)
    landmarks = tuple(zip(points[::2], points[1::2], strict=True)) or None
    return Sample(path, split, None, None, valence, arousal, box, landmarks, row.get("subject") or None)


def _box(row: dict[str, str], rows: CsvRows) -> Box | None:
    numbers = _numbers(_BOX, row, rows)
    if not numbers:
        return None
    x1, y1, x2, y2 = numbers
    text = f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g}"
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


def _numbers(columns: Sequence[str], row: dict[str, str], rows: CsvRows) -> list[float]:
    """The numbers in these columns, none where all are empty or not there."""
    if columns[0] not in row or not any(map(row.__getitem__, columns)):
        return []
    values = [rows.number(row[name], name) for name in columns]
    if not all(map(math.isfinite, values)):
        raise rows.error(f"{columns[0]} … {columns[-1]}: {', '.join(f'{value:g}' for value in values)} are not finite")
    return values
