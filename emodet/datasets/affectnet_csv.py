"""AffectNet's release of 2017: pictures in numbered folders, faces listed in CSV files."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from emodet.datasets import affectnet
from emodet.datasets.csv_rows import CsvRows, damaged_or_has, first_line
from emodet.datasets.folders import few, relative_path
from emodet.datasets.listed_pictures import TWICE, find_pictures
from emodet.datasets.samples import Box, Listing, Points, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

_BOX = ("face_x", "face_y", "face_width", "face_height")
_COLUMNS = ("subdirectory_filepath", *_BOX, "facial_landmarks", "expression", "valence", "arousal")

# Places of the lists in common copies, the original one first.
_MANUAL = (
    *("Manually_Annotated_file_lists", "Manually_Annotated/Manually_Annotated_file_lists", "Manually_Annotated"),
    *("", "label", "labels"),
)
_AUTOMATIC = tuple(name.replace("Manually", "Automatically") for name in _MANUAL)
_LISTS = {
    "training": ((*_MANUAL, "train", "training"), ("training.csv", "Manually_training.csv")),
    "validation": ((*_MANUAL, "val", "valid", "validation"), ("validation.csv", "Manually_validation.csv")),
    "automatic": (_AUTOMATIC, ("automatically_annotated.csv",)),
}

_MIN_BOX_PIXELS = 10
_MAX_PIXELS = 1e6
_EMPTY_CELLS = frozenset({"", "null", "none", "na", "n/a"})
_ROW = re.compile(
    r"""(\d+[,;\t|])?["']?[^,;\t|"]+\.(jpe?g|png|bmp|tiff?)["']?[,;\t|]\s*["']?(-?\d|null)""", re.IGNORECASE
)
_TWO_LABELS = "listed with two labels"

# Pictures of the two parts are in separate folders; a key must not exist in both.
_AUTOMATIC_PREFIX = "automatic/"

# Attributes of a `Sample` after key and split.
_Face = tuple[int | None, None, float | None, float | None, Box | None, Points | None]


@dataclass(kw_only=True, eq=False)
class AffectNetCsv(Reader):
    """AffectNet 2017: `training.csv`, `validation.csv`, `automatically_annotated.csv` and the folders of pictures.

    A list has the columns ``subDirectory_filePath``, ``face_x``, ``face_y``, ``face_width``, ``face_height``,
    ``facial_landmarks`` (136 numbers joined by ``;``), ``expression`` (0 to 10), ``valence`` and ``arousal`` (-2: not
    annotated), in any order, or in this order without a header. Lists and pictures are searched, because their nesting
    depends on the unpacking. A sample's key is its ``subDirectory_filePath`` with forward slashes.

    The stored pictures are crops with a margin of about 15 % around the face; the box is the face. It never begins
    above or left of the picture; its right and lower sides are not checked. A picture in both lists is a validation
    face; a picture with two labels in a list is left out.

    Args:
        automatic: Whether to train on the automatically annotated part, with labels of a net, instead of the manually
            annotated one. The validation faces are manually annotated in both cases.
        keep_none: Whether to keep faces with none of the eight emotions, as ``emotion=None``, for valence and arousal.
        landmarks: Whether to read the 68 landmarks and keep five points; takes several times as long.
    """

    name = "affectnet_csv"
    title = "AffectNet (2017, CSV lists)"
    signs = (
        "training.csv, validation.csv or automatically_annotated.csv with the column subDirectory_filePath, "
        "at the top or in Manually_Annotated_file_lists/"
    )
    expected: ClassVar = {"train": affectnet.TRAIN_COUNTS, "val": affectnet.VALIDATION_COUNTS}

    automatic: bool = False
    keep_none: bool = False
    landmarks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.automatic:
            self.expected = {**self.expected, "train": affectnet.AUTOMATIC_COUNTS}  # type: ignore[misc]

    @classmethod
    def candidates(cls, folder: Path) -> Iterator[Path]:
        return (path for kind in _LISTS for path in _paths(folder, kind))

    @classmethod
    def fits(cls, file: Path) -> bool:
        """Return whether a file has this release's header, possibly damaged, or begins with a path and numbers."""
        line = first_line(file)
        return "subdirectory" in line.lower() or _ROW.match(line) is not None or damaged_or_has(file, _COLUMNS)

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        labels: dict[str, int] = {}
        contradicted: set[str] = set()
        seen: set[str] = set()
        for split, path in self._lists(listing).items():
            faces: dict[str, _Face] = {}
            for key, label, face in self._faces(listing, path, split):
                if labels.setdefault(key, label) != label:
                    contradicted.add(key)
                if isinstance(face, str):
                    listing.left_out[face] += 1
                elif key in contradicted or key in seen:
                    listing.left_out[_TWO_LABELS if key in contradicted else TWICE] += 1
                else:
                    seen.add(key)
                    faces[key] = face
            listing.left_out[_TWO_LABELS] += sum(faces.pop(key, None) is not None for key in contradicted)
            paths = [key.removeprefix(_AUTOMATIC_PREFIX) for key in faces]
            found = zip(faces.items(), find_pictures(listing, self.base, paths, path), strict=True)
            samples += [Sample(key, split, *face, file=file) for (key, face), file in found if file is not None]
        if contradicted:
            note = f"Listed with two labels: {len(contradicted):,} pictures ({few(sorted(contradicted))})."
            listing.notes.append(note)
        affectnet.check(listing, samples, self.landmarks)
        return samples

    def _lists(self, listing: Listing) -> dict[str, Path]:
        """Return the CSV file of each split, validation first."""
        lists = {}
        for split, kind in {"val": "validation", "train": "automatic" if self.automatic else "training"}.items():
            there = list(_paths(self.base, kind))
            # Files in another format are read too, so that an error names them.
            fitting = [path.relative_to(self.base) for path in there if self.fits(path)] or there[:1]
            if not fitting:
                listing.notes.append(f"There is no {_LISTS[kind][1][0]}, so no {split} faces.")
                continue
            lists[split] = self.base / fitting[0]
            if len(fitting) > 1:
                listing.notes.append(f"Read {fitting[0]}; {few(map(str, fitting[1:]))} is not read.")
        if self.automatic and "train" not in lists:
            raise EmodetError(
                f"data.root={self.root}: automatic=True asks for automatically_annotated.csv, which is not there. "
                "Unpack that part of the release, or leave the option out"
            )
        if not lists:
            raise EmodetError(
                f"data.root={self.root}: only automatically_annotated.csv is there; automatic=True reads it, "
                "or unpack the manually annotated part (training.csv, validation.csv)"
            )
        return lists

    def _faces(self, listing: Listing, path: Path, split: str) -> Iterator[tuple[str, int, _Face | str]]:
        """Yield key and label of each row, and its face or the reason why it is left out."""
        read = [name for name in _COLUMNS if self.landmarks or name != "facial_landmarks"]
        rows = CsvRows(path, (_COLUMNS[0], "expression"), read, positional=_COLUMNS, delimiter=",")
        has_box, has_valence = rows.require_together(*_BOX), rows.require_together("valence", "arousal")
        if not has_box:
            listing.notes.append(f"{path.name} has no box columns.")
        if self.landmarks and "facial_landmarks" not in rows.columns:
            raise EmodetError(f"{path}: landmarks=True, but there is no column facial_landmarks. Leave the option out")
        prefix = _AUTOMATIC_PREFIX if self.automatic and split == "train" else ""
        for row in rows:
            key = prefix + relative_path(row[_COLUMNS[0]], rows.where)
            label = _label(row["expression"], rows)
            if label >= len(EMOTIONS) + self.keep_none:
                yield key, label, affectnet.CLASS_NAMES[label]
                continue
            box = None
            if has_box:
                x, y, width, height = [_number(row[column], rows) for column in _BOX]
                box = (max(x, 0.0), max(y, 0.0), x + width, y + height)
                unusable = math.isnan(x + y + width + height) or width <= 0 or height <= 0
                if unusable or box[2] - box[0] < _MIN_BOX_PIXELS or box[3] - box[1] < _MIN_BOX_PIXELS:
                    small = f"box under {_MIN_BOX_PIXELS} pixels"
                    yield key, label, "box is NULL or negative" if unusable else small
                    continue
            values = [_number(row[name], rows) if has_valence else math.nan for name in ("valence", "arousal")]
            valence, arousal = affectnet.valence_and_arousal(*values)
            points = _five_points(row["facial_landmarks"], rows) if self.landmarks else None
            emotion = label if label < len(EMOTIONS) else None
            yield key, label, (emotion, None, valence, arousal, box, points)


def _label(text: str, rows: CsvRows) -> int:
    """Parse AffectNet's id 0 to 10; files that were saved again can contain ``3.0``."""
    value = _number(text, rows)
    if value not in range(len(affectnet.CLASS_NAMES)):
        raise rows.error(f"expression={text!r} is not an id from 0 to {len(affectnet.CLASS_NAMES) - 1}")
    return int(value)


def _number(text: str, rows: CsvRows) -> float:
    """Parse a number; NaN for an empty cell or NULL."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan if text.lower() in _EMPTY_CELLS else rows.number(text)
    if abs(value) > _MAX_PIXELS:
        raise rows.error(f"{text[:40]!r} is out of any range")
    return value


def _five_points(text: str, rows: CsvRows) -> Points | None:
    if text.lower() in _EMPTY_CELLS:
        return None
    numbers = [rows.number(cell) for cell in text.split(";")]
    if len(numbers) != 136:
        raise rows.error(f"facial_landmarks holds {len(numbers)} numbers instead of 136, joined by ;")
    return affectnet.five_points(numbers)


def _paths(base: Path, kind: str) -> Iterator[Path]:
    """The files that are called like a list, where lists may lie."""
    folders, names = _LISTS[kind]
    return (path for folder in folders for name in names if (path := base / folder / name).is_file())
