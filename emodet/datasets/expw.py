"""ExpW: photographs from the web with one or more faces each, boxes and labels in one list."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emodet.datasets.class_labels import ORDERS
from emodet.datasets.csv_rows import text_lines
from emodet.datasets.folders import relative_path
from emodet.datasets.listed_pictures import TWICE, Seen, find_pictures, is_new
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["ExpW"]

_LISTS = ("label.lst", "label/label.lst", "labels/label.lst")
_COLUMNS = 7
_CLASSES = {str(number): EMOTIONS.index(name) for number, name in ORDERS["fer2013"].items()}


class ExpW(Reader):
    """`label.lst` and ``image/origin/*.jpg``.

    A line is ``name face_id top left right bottom confidence label``: the top comes before the left. The label counts
    in FER2013's order. Pictures are whole photographs, so faces are cut by their box (``data.crop=box``). Faces of one
    photograph have it as their subject, so that no split that is drawn separates them. The confidence is the face
    detector's and is not used. The set has no official split.

    Zhang, Luo, Loy, Tang 2018, From Facial Expression Recognition to Interpersonal Relation Prediction.
    """

    name = "expw"
    title = "ExpW"
    signs = "label.lst of lines 'name face_id top left right bottom confidence label'"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _LISTS)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        file = next(self.base / name for name in _LISTS if (self.base / name).is_file())
        faces = [_face(line, where) for line, where in text_lines(file)]
        listing.notes.append("There is no official split, so all faces are training faces.")
        seen: Seen = {}
        for picture, face in zip(find_pictures(listing, self.base, [f.path for f in faces], file), faces, strict=True):
            if picture is None:
                continue
            key = f"{picture}#{face.number}"
            if not is_new(seen, key, EMOTIONS[face.emotion], face.where):
                listing.left_out[TWICE] += 1
            elif face.box[2] <= max(face.box[0], 0) or face.box[3] <= max(face.box[1], 0):
                listing.left_out["box is empty or outside the picture"] += 1
            else:
                yield Sample(key, "train", face.emotion, box=face.box, subject=picture, file=picture)


class _Face(NamedTuple):
    path: str
    number: str
    box: tuple[float, float, float, float]  # x1, y1, x2, y2
    emotion: int
    where: str


def _face(line: str, where: str) -> _Face:
    name, *cells = line.rsplit(maxsplit=_COLUMNS)
    if len(cells) != _COLUMNS:
        raise EmodetError(
            f"{where}: {line[:80]!r} is not 'name face_id top left right bottom confidence label'; is the file cut off?"
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
