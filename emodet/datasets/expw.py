"""ExpW: photographs from the web with one or more faces each, boxes and labels in one list."""

import math
from collections import Counter
from pathlib import Path
from typing import ClassVar, NamedTuple

from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import relative_path
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, EachOnce, locate, note_of_missing
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, FER2013_ORDER
from emodet.errors import EmodetError

__all__ = ["ExpW"]

_LISTS = ("label.lst", "label/label.lst", "labels/label.lst")
_COLUMNS = 7
_EMPTY_BOX = "box is empty or outside the picture"
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in enumerate(FER2013_ORDER)}


class ExpW(FolderReader):
    """`label.lst` and ``image/origin/*.jpg``.

    A line is ``name face_id top left right bottom confidence label``: the top comes before the left. The label counts
    in FER2013's order. Pictures are whole photographs, so faces are cut by their box (``data.crop=box``). Faces of one
    photograph share their subject, the photograph, so that no split that is drawn has it on both sides. The confidence
    is the face detector's and is not used. The set has no official split.

    Zhang, Luo, Loy, Tang 2018, From Facial Expression Recognition to Interpersonal Relation Prediction.

    Args:
        root: The unpacked release, or a folder that holds nothing but its folder.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "expw"
    title: ClassVar[str] = "ExpW"
    signs: ClassVar[str] = "label.lst of lines 'name face_id top left right bottom confidence label'"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.list = next(self.base / name for name in _LISTS if (self.base / name).is_file())

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: The list cannot be read, has a line that does not fit or one face with two labels, or fewer
                than 90 % of the pictures are there. The message names the line.
        """
        faces = self._faces()
        paths = [face.path for face in faces]
        located = locate(self.root, self.base, paths, self.list)
        notes = ["There is no official split, so all faces are training faces."]
        if None in located.found:
            notes.append(note_of_missing(located, paths, self.base, self.list))
        folder = located.folder.relative_to(self.base)
        left_out: Counter[str] = Counter()
        records = []
        once = EachOnce()
        for found, face in zip(located.found, faces, strict=True):
            if found is None:
                left_out[NOT_THERE] += 1
                continue
            picture = (folder / found).as_posix()
            if not once.is_new(f"{picture}#{face.number}", EMOTIONS[face.emotion], face.where):
                left_out[TWICE] += 1
            elif face.box[2] <= max(face.box[0], 0) or face.box[3] <= max(face.box[1], 0):
                left_out[_EMPTY_BOX] += 1
            else:
                key = f"{picture}#{face.number}"
                records.append(Sample(key, "train", face.emotion, box=face.box, subject=picture))
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def file_of(self, record: Sample) -> Path:
        """The photograph, which several faces may share."""
        return self.base / record.key.rpartition("#")[0]

    def _faces(self) -> list["_Face"]:
        try:
            with self.list.open(encoding="utf-8-sig") as lines:
                faces = [
                    _face(line, f"{self.list}, line {number}")
                    for number, line in enumerate(lines, start=1)
                    if line.strip()
                ]
        except (OSError, UnicodeDecodeError) as problem:
            raise EmodetError(f"{self.list}: cannot be read ({problem})") from None
        if not faces:
            raise EmodetError(f"{self.list}: the list has no lines")
        return faces

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _LISTS)


class _Face(NamedTuple):
    """A line, understood; the box is (x1, y1, x2, y2)."""

    path: str
    number: str
    box: tuple[float, float, float, float]
    emotion: int
    where: str


def _face(line: str, where: str) -> _Face:
    name, *cells = line.strip().rsplit(maxsplit=_COLUMNS)
    if len(cells) != _COLUMNS:
        raise EmodetError(
            f"{where}: {line.strip()[:80]!r} is not 'name face_id top left right bottom confidence label'; "
            "is the file cut off?"
        )
    number, *numbers, label = cells
    try:
        top, left, right, bottom, _ = (float(cell) for cell in numbers)
    except ValueError:
        raise EmodetError(f"{where}: {' '.join(numbers)[:80]!r} are not five numbers") from None
    if not all(map(math.isfinite, (top, left, right, bottom))):
        raise EmodetError(f"{where}: the box {' '.join(numbers[:4])[:80]} is not finite")
    if label not in _CLASSES:
        raise EmodetError(f"{where}: label {label!r} is not a number from 0 to 6")
    return _Face(relative_path(name, where), number, (left, top, right, bottom), _CLASSES[label], where)
