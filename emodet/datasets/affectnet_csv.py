"""AffectNet's release of 2017: pictures in numbered folders, faces listed in CSV files."""

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from emodet.datasets import affectnet
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import first_line, relative_path, spellings
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, locate, note_of_missing
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["AffectNetCsv"]

_COLUMNS = (
    "subdirectory_filepath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_BOX_COLUMNS = _COLUMNS[1:5]

# Where people's copies have the lists, the original place first.
_MANUAL_FOLDERS = (
    "Manually_Annotated_file_lists",
    "Manually_Annotated/Manually_Annotated_file_lists",
    "Manually_Annotated",
    "",
    "label",
    "labels",
)
_LISTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "training": ((*_MANUAL_FOLDERS, "train", "training"), ("training.csv", "Manually_training.csv")),
    "validation": ((*_MANUAL_FOLDERS, "val", "valid", "validation"), ("validation.csv", "Manually_validation.csv")),
    "automatic": (
        (
            "Automatically_Annotated_file_lists",
            "Automatically_Annotated/Automatically_Annotated_file_lists",
            "Automatically_Annotated",
            "",
            "label",
            "labels",
        ),
        ("automatically_annotated.csv",),
    ),
}

_LEAST_BOX_PIXELS = 10
_MAX_PIXELS = 1e6
_EMPTY_CELLS = frozenset({"", "null", "none", "na", "n/a"})
_PICTURE = re.compile(r"\.(jpe?g|png|bmp|tiff?)$", re.IGNORECASE)

_HEADER_SIGN = "subdirectory"

_NULL_BOX = "box is NULL or negative"
_SMALL_BOX = f"box under {_LEAST_BOX_PIXELS} pixels"

# Pictures of the two parts lie in folders of their own; a key must not mean one in each.
_AUTOMATIC_PREFIX = "automatic/"


class AffectNetCsv(FolderReader):
    """AffectNet 2017: `training.csv`, `validation.csv`, `automatically_annotated.csv` and the folders of pictures.

    Sources for the layout: the columns that the release documents, and the copies that public loaders and notebooks
    were written for. The lists and the folder of pictures are searched for, since unpacking decides the nesting.

    A record's key is its ``subDirectory_filePath`` with forward slashes, wherever the folder of pictures lies. The
    stored pictures are already cut out around a face with about 15 % to spare; the record's box is the face inside.
    Its corners never lie above or left of the picture; the far side is not checked, as no picture is opened here.

    Args:
        root: The unpacked release, or a folder that holds nothing but its folder.
        automatic: Train on the automatically annotated part instead of the manually annotated one; its labels were
            made by a net. The validation faces stay the manual ones.
        keep_none: Keep faces that show none of the eight emotions, with ``emotion=None``: they carry valence and
            arousal. Undecided faces and pictures without a face are left out either way.
        landmarks: Read the 68 landmarks and keep five points; takes several times as long.

    Raises:
        EmodetError: The root bears none of the signs, or lacks the list asked for.
    """

    name: ClassVar[str] = "affectnet_csv"
    title: ClassVar[str] = "AffectNet (2017, CSV lists)"
    signs: ClassVar[str] = (
        "training.csv, validation.csv or automatically_annotated.csv with the column subDirectory_filePath, "
        "at the top or in Manually_Annotated_file_lists/"
    )
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": affectnet.TRAIN_COUNTS,
        "val": affectnet.VALIDATION_COUNTS,
    }

    def __init__(
        self,
        root: Path,
        *,
        automatic: bool = False,
        keep_none: bool = False,
        landmarks: bool = False,
    ) -> None:
        super().__init__(root)
        self.automatic, self.keep_none, self.landmarks = automatic, keep_none, landmarks
        if automatic:
            # The published counts of this part differ; the class's own are those of the usual one.
            self.expected = {  # type: ignore[misc]
                "train": affectnet.AUTOMATIC_COUNTS,
                "val": affectnet.VALIDATION_COUNTS,
            }
        self._folders: dict[str, Path] = {}

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A list cannot be read or has a row that does not fit, or fewer than 90 % of the pictures
                are there. The message names the file and line.
        """
        findings = _Findings()
        lists = self._lists(findings)
        records: list[Sample] = []
        seen: set[str] = set()
        # Validation first: a picture in both lists stays a validation face.
        for split, path in sorted(lists.items(), reverse=True):
            listed = []
            for record in self._rows(path, split, findings):
                if record.key in seen:
                    findings.left_out[TWICE] += 1
                    continue
                seen.add(record.key)
                listed.append(record)
            if listed:
                records += self._there(listed, path, split, findings)
        if not records:
            kept = "the eight emotions" + (" or none of them" if self.keep_none else "")
            raise EmodetError(f"{', '.join(map(str, lists.values()))}: no face with one of {kept} is listed")
        if findings.unannotated:
            findings.notes.append(
                f"{findings.unannotated:,} faces have no valence and arousal (-2, empty or outside -1 to 1)."
            )
        if findings.without_landmarks:
            findings.notes.append(f"{findings.without_landmarks:,} faces have no landmarks.")
        doubt = affectnet.doubt_about_order(records)
        if doubt:
            findings.notes.append(doubt)
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(findings.left_out), tuple(findings.notes))

    def file_of(self, record: Sample) -> Path:
        """The picture's file as it is spelt on disk; as the list spells it where it is not there.

        Raises:
            EmodetError: The release cannot be read (only where `read` was not called before).
        """
        if record.split not in self._folders:
            self.read()
        folder, path = self._folders.get(record.split, self.base), _key_to_path(record.key)
        return next((folder / other for other in spellings(path) if (folder / other).exists()), folder / path)

    def options(self) -> dict[str, Any]:
        return {"automatic": self.automatic, "keep_none": self.keep_none, "landmarks": self.landmarks}

    def _lists(self, findings: "_Findings") -> dict[str, Path]:
        """The CSV file of each split."""
        try:
            found = {kind: list(_list_files(self.base, kind)) for kind in _LISTS}
        except OSError as problem:
            raise EmodetError(f"{problem.filename}: cannot be read ({problem.strerror})") from None
        wanted = {"train": "automatic" if self.automatic else "training", "val": "validation"}
        lists = {}
        for split, kind in wanted.items():
            file_name = _LISTS[kind][1][0]
            if found[kind]:
                lists[split] = found[kind][0]
                if len(found[kind]) > 1:
                    others = ", ".join(str(path.relative_to(self.base)) for path in found[kind][1:])
                    findings.notes.append(f"Read {lists[split].relative_to(self.base)}; passed over {others}.")
            else:
                findings.notes.append(f"There is no {file_name}, so no {split} faces.")
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

    def _rows(self, path: Path, split: str, findings: "_Findings") -> Iterator[Sample]:
        """The faces of one list that are wanted and usable, in file order."""
        prefix = _AUTOMATIC_PREFIX if self.automatic and split == "train" else ""
        emotions: dict[str, int] = {}
        lines = _Lines(path)
        at = lines.columns
        if "face_x" not in at:
            findings.notes.append(f"{path.name} has no box columns.")
        if "valence" not in at:
            findings.notes.append(f"{path.name} has no valence and arousal columns.")
        if self.landmarks and "facial_landmarks" not in at:
            raise EmodetError(f"{path}: landmarks=True, but there is no column facial_landmarks. Leave the option out")
        box_columns = [at[column] for column in _BOX_COLUMNS] if "face_x" in at else []
        for row in lines:
            text = row[at["expression"]]
            if text not in emotions:
                emotions[text] = lines.expression(text)
            emotion: int | None = emotions[text]
            if emotion is not None and emotion >= len(EMOTIONS):
                name = affectnet.CLASS_NAMES[emotion]
                if name != "none" or not self.keep_none:
                    findings.left_out[name] += 1
                    continue
                emotion = None
            box = None
            if box_columns:
                x, y, width, height = [lines.number(row[column]) for column in box_columns]
                if math.isnan(x + y + width + height) or width <= 0 or height <= 0:
                    findings.left_out[_NULL_BOX] += 1
                    continue
                box = (max(x, 0.0), max(y, 0.0), x + width, y + height)
                if box[2] - box[0] < _LEAST_BOX_PIXELS or box[3] - box[1] < _LEAST_BOX_PIXELS:
                    findings.left_out[_SMALL_BOX] += 1
                    continue
            valence: float | None = None
            arousal: float | None = None
            if "valence" in at:
                valence, arousal = affectnet.valence_and_arousal(
                    lines.number(row[at["valence"]]), lines.number(row[at["arousal"]])
                )
                findings.unannotated += valence is None
            points = None
            if self.landmarks:
                points = lines.five_points(row[at["facial_landmarks"]])
                findings.without_landmarks += points is None
            key = prefix + relative_path(row[at["subdirectory_filepath"]], f"{path}, line {lines.number_of_line}")
            yield Sample(key, split, emotion, None, valence, arousal, box, points)

    def _there(self, listed: list[Sample], path: Path, split: str, findings: "_Findings") -> list[Sample]:
        """Those whose picture is there; finds the folder of pictures first."""
        keys = [_key_to_path(record.key) for record in listed]
        located = locate(self.root, self.base, keys, path)
        missing = located.found.count(None)
        if missing:
            findings.left_out[NOT_THERE] += missing
            findings.notes.append(note_of_missing(located, keys, self.base, path))
        self._folders[split] = located.folder
        return [record for record, found in zip(listed, located.found, strict=True) if found is not None]

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any(True for kind in _LISTS for _ in _list_files(folder, kind))


def _key_to_path(key: str) -> str:
    return key.removeprefix(_AUTOMATIC_PREFIX)


@dataclass(slots=True)
class _Findings:
    """What is met on the way, for the listing."""

    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    unannotated: int = 0
    without_landmarks: int = 0


def _cells(line: str, following: Iterator[str]) -> list[str]:
    """One row. Splitting takes a third of the csv module's time on lines this long: that one gets quoted ones only.

    Raises:
        csv.Error: Quotation marks do not pair up. Without that, a stray one would swallow the rest unnoticed.
    """
    if '"' in line:
        return next(csv.reader(itertools.chain((line,), following), strict=True), [])
    bare = line.rstrip("\r\n")
    return bare.split(",") if bare else []


class _Lines:
    """The rows of one list after its header, if it has one; errors name file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number_of_line = 0
        try:
            first = next(csv.reader([first_line(path)]), [])
        except (OSError, csv.Error) as problem:
            raise EmodetError(f"{path}: cannot be read ({problem})") from None
        names = [cell.strip().lstrip("#").strip().lower() for cell in first]
        self.has_header = _HEADER_SIGN in ",".join(names)
        if self.has_header:
            # By name: an index column and others called "Unnamed: 0" come with files that were saved again.
            self.columns = {name: index for index, name in enumerate(names) if name in _COLUMNS}
        elif len(first) in (len(_COLUMNS), len(_COLUMNS) + 1):
            self.columns = {name: index + len(first) - len(_COLUMNS) for index, name in enumerate(_COLUMNS)}
        else:
            raise EmodetError(
                f"{path}: the first line has {len(first)} columns and no header; "
                f"expected the {len(_COLUMNS)} columns {', '.join(_COLUMNS)}"
            )
        self.width = len(first)
        lacking = [name for name in ("subdirectory_filepath", "expression") if name not in self.columns]
        for together in (_BOX_COLUMNS, ("valence", "arousal")):
            if any(name in self.columns for name in together):
                lacking += [name for name in together if name not in self.columns]
        if lacking:
            raise EmodetError(f"{path}: the header lacks {', '.join(lacking)}; it has {', '.join(filter(None, names))}")

    def __iter__(self) -> Iterator[list[str]]:
        found = False
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                lines = enumerate(file, start=1)
                if self.has_header:
                    next(lines, None)
                for self.number_of_line, line in lines:
                    row = _cells(line, (following for _, following in lines))
                    if not row:
                        continue
                    if len(row) != self.width:
                        raise self._error(f"{len(row)} columns where the first line has {self.width}")
                    found = True
                    yield row
        except csv.Error as problem:
            raise self._error(f"not CSV ({problem})") from None
        except UnicodeDecodeError as problem:
            raise EmodetError(
                f"{self.path}, after line {self.number_of_line}: not UTF-8 ({problem.reason}); save it as UTF-8"
            ) from None
        except OSError as problem:
            raise EmodetError(f"{self.path}: cannot be read ({problem})") from None
        if not found:
            raise EmodetError(f"{self.path}: the list has no rows")

    def expression(self, text: str) -> int:
        """AffectNet's id 0 to 10, also where a file saved again has it as ``3.0``."""
        value = self.number(text)
        if value not in range(len(affectnet.CLASS_NAMES)):
            raise self._error(f"expression={text!r} is not an id from 0 to {len(affectnet.CLASS_NAMES) - 1}")
        return int(value)

    def number(self, text: str) -> float:
        """A number, NaN where the cell is empty or NULL."""
        try:
            value = float(text)
        except ValueError:
            if text.strip().lower() in _EMPTY_CELLS:
                return math.nan
            raise self._error(f"{text[:40]!r} is not a number") from None
        if abs(value) > _MAX_PIXELS:
            raise self._error(f"{text[:40]!r} is out of any range")
        return value

    def five_points(self, text: str) -> tuple[tuple[float, float], ...] | None:
        """The five points of 68; None where the cell is empty or NULL."""
        if text.strip().lower() in _EMPTY_CELLS:
            return None
        try:
            numbers = [float(cell) for cell in text.split(";")]
        except ValueError:
            raise self._error("facial_landmarks holds something else than numbers joined by ;") from None
        if len(numbers) != 136:
            raise self._error(f"facial_landmarks holds {len(numbers)} numbers instead of 136")
        return affectnet.five_points(numbers)

    def _error(self, what: str) -> EmodetError:
        return EmodetError(f"{self.path}, line {self.number_of_line}: {what}")


def _list_files(base: Path, kind: str) -> Iterator[Path]:
    folders, names = _LISTS[kind]
    for folder in folders:
        for name in names:
            path = base / folder / name
            if path.is_file() and _is_list(path):
                yield path


def _is_list(path: Path) -> bool:
    """Whether the first line is this release's header, or a row of it: a path, then numbers."""
    line = first_line(path)
    if _HEADER_SIGN in line.lower():
        return True
    cells = line.split(",")
    return len(cells) in (len(_COLUMNS), len(_COLUMNS) + 1) and bool(_PICTURE.search(cells[-len(_COLUMNS)].strip('" ')))
