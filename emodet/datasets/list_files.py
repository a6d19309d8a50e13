"""Text files with one ``path label`` per line, beside a folder of pictures, and the list formats of RAF-DB and ExpW."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from emodet.datasets.class_labels import ORDERS, classes_of, is_class_label
from emodet.datasets.csv_rows import first_line, text_lines
from emodet.datasets.folders import files_in, folders_in, is_picture, relative_path, split_of
from emodet.datasets.listed_pictures import Seen, find_pictures, is_new
from emodet.datasets.samples import Box, Listing, Reader, Sample
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError

_MAX_FOLDERS = 20
_MAX_FILES = 50
_SOME = 1000  # number of names to check in a folder, which can contain a million pictures
# RAF-DB's release misspells "partition"; some copies correct it.
_RAFDB_NAMES = ("list_patition_label.txt", "list_partition_label.txt")
_EXPW_LINE = "name face_id top left right bottom confidence label"


class _Face(NamedTuple):
    """A line of a list."""

    path: str
    name: str
    split: str
    where: str
    number: str = ""  # number of the face in its picture
    box: Box | None = None


@dataclass(kw_only=True, eq=False)
class ListFiles(Reader):
    """``*.txt`` lists of ``path label`` lines, in the root or one folder below, and a folder of pictures.

    A line is split at its last white space, so paths can contain spaces. Lines that are blank or start with ``#`` are
    skipped. The split is the word train, val, valid, validation or test in the list's name; a single list without it is
    train. Labels are names, or numbers as in `ClassFolders`. A picture in two lists belongs to the evaluation split.
    The root can be a single list. A sample's key is the picture's path below the root.

    Args:
        order: Meaning of numbers: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``, ``rafdb``
            (from 1).
    """

    name = "list_files"
    title = "List files"
    signs = "a .txt of lines 'path label' (picture.jpg 3, picture.jpg happy) beside a folder of pictures"
    root_suffix = ".txt"
    choices = {"order": ("auto", *ORDERS)}  # noqa: RUF012

    order: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        files = self.files()
        self.lists: dict[str, list[Path]] = {"test": [], "val": [], "train": []}
        for file in files if self.root.is_file() else self.candidates(self.base):
            splits = {split for word in re.split(r"[^a-z]+", file.stem.lower()) if (split := split_of(word))}
            if file not in files and splits:
                raise EmodetError(
                    f"{file}: its name is that of a list, but it begins {first_line(file)[:60]!r}, which is not "
                    "'path label'. Repair it, or rename it to go without"
                )
            if file not in files:
                continue
            if not splits and len(files) == 1:
                splits = {"train"}
            if len(splits) != 1:
                raise EmodetError(
                    f"data.root={self.root}: the name of the list {file.name} has no split, or several. Call each list "
                    "after one of train, val and test, or point data.root at a single list"
                )
            self.lists[splits.pop()].append(file)

    @classmethod
    def candidates(cls, folder: Path) -> list[Path]:
        folders = {folder: None, **{folder / name: _SOME for name in folders_in(folder)[:_MAX_FOLDERS]}}
        return [file for place, among in folders.items() for file in files_in(place, ".txt", _MAX_FILES, among)]

    @classmethod
    def matches(cls, folder: Path) -> bool:
        lists = [file for file in cls.candidates(folder) if cls.fits(file)]
        # A single folder with the lists is the base, so that keys do not depend on the unpacking.
        return any(file.parent == folder for file in lists) or (bool(lists) and len(folders_in(folder)) > 1)

    @classmethod
    def fits(cls, file: Path) -> bool:
        """Return whether the first line is a picture's path and a class."""
        words = first_line(file).rsplit(maxsplit=1)
        return len(words) == 2 and is_picture(re.split(r"[/\\]", words[0])[-1]) and is_class_label(words[1])

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        lines = {file: list(_labelled_lines(file)) for files in self.lists.values() for file in files}
        labels = [label for of_file in lines.values() for _, label, _ in of_file]
        meaning, notes = classes_of(labels, self.order, ", ".join(map(str, lines)))
        listing.notes += notes
        listing.notes += [f"There is no list of {split} faces." for split in ("train", "val") if not self.lists[split]]
        seen: Seen = {}
        for split, file in ((split, file) for split, files in self.lists.items() for file in files):
            of_file = lines[file]
            faces = [_Face(relative_path(path, where), meaning[label], split, where) for path, label, where in of_file]
            yield from _samples(listing, self.base, faces, file, seen, split)


class RafDb(Reader):
    """RAF-DB basic: ``EmoLabel/list_patition_label.txt`` (sic) and ``Image/aligned/train_00001_aligned.jpg``.

    A line is ``train_00001.jpg 5``: the number is from 1 in RAF-DB's order, and the name contains the split. The
    aligned pictures are face crops, so there is no box. The original pictures are not read.

    Li, Deng, Du 2017, Reliable Crowdsourcing and Deep Locality-Preserving Learning: 12,271 and 3,068 faces.
    """

    name = "rafdb"
    title = "RAF-DB (basic)"
    signs = "EmoLabel/list_patition_label.txt beside Image/aligned/"
    expected = {  # noqa: RUF012
        "train": dict(zip(RAFDB_ORDER, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
        "test": dict(zip(RAFDB_ORDER, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
    }

    sign_files = tuple(folder + name for folder in ("EmoLabel/", "") for name in _RAFDB_NAMES)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        faces = []
        for path, label, where in _labelled_lines(self.listed_in):
            split = path.partition("_")[0]
            if split not in ("train", "test"):
                raise EmodetError(f"{where}: {path!r} begins with neither train_ nor test_")
            stem, _, suffix = relative_path(path, where).rpartition(".")
            aligned = f"{stem.removesuffix('_aligned')}_aligned.{suffix}"
            faces.append(_Face(aligned, _class_of(label, "rafdb", where), split, where))
        return _samples(listing, self.base, faces, self.listed_in, {})


class ExpW(Reader):
    """`label.lst` and ``image/origin/*.jpg``.

    A line is ``name face_id top left right bottom confidence label``, with top before left. The label is a number in
    FER2013's order. Pictures are whole photographs, so faces are cropped by their box (``data.crop=box``). The subject
    of a face is its photograph, so that drawn splits do not separate faces of a photograph. The confidence of the face
    detector is not used. The data set has no official split.

    Zhang, Luo, Loy, Tang 2018, From Facial Expression Recognition to Interpersonal Relation Prediction.
    """

    name = "expw"
    title = "ExpW"
    signs = "label.lst of lines 'name face_id top left right bottom confidence label'"

    sign_files = ("label.lst", "label/label.lst", "labels/label.lst")

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        listing.notes.append("There is no official split, so all faces are training faces.")
        faces = []
        for line, where in text_lines(self.listed_in):
            name, *cells = line.rsplit(maxsplit=len(_EXPW_LINE.split()) - 1)
            try:
                number, *numbers, label = cells
                top, left, right, bottom, _ = map(float, numbers)
            except ValueError:
                raise EmodetError(f"{where}: {line[:80]!r} is not '{_EXPW_LINE}'; is the file cut off?") from None
            if not all(map(math.isfinite, (top, left, right, bottom))):
                raise EmodetError(f"{where}: the box {' '.join(numbers[:4])[:80]} is not finite")
            path, box = relative_path(name, where), (left, top, right, bottom)
            faces.append(_Face(path, _class_of(label, "fer2013", where), "train", where, number, box))
        return _samples(listing, self.base, faces, self.listed_in, {})


def _samples(
    listing: Listing, base: Path, faces: Sequence[_Face], listed_in: Path, seen: Seen, split: str | None = None
) -> Iterator[Sample]:
    """Yield the samples of a list; count faces that are missing, repeated or without an emotion."""
    pictures = find_pictures(listing, base, [face.path for face in faces], listed_in, split)
    for picture, face in zip(pictures, faces, strict=True):
        key, box = f"{picture}#{face.number}" if face.number else str(picture), face.box
        if picture is None or not is_new(listing, seen, key, face.name, face.where):
            continue
        if face.name in EMOTIONS and box and (box[2] <= max(box[0], 0) or box[3] <= max(box[1], 0)):
            listing.left_out["box is empty or outside the picture"] += 1
        else:
            subject = picture if face.number else None
            yield from listing.labelled(face.name, key, face.split, box=box, subject=subject, file=picture)


def _class_of(label: str, order: str, where: str) -> str:
    names = {str(number): name for number, name in ORDERS[order].items()}
    if label not in names:
        raise EmodetError(f"{where}: {label!r} is not a class from {min(names)} to {max(names)}")
    return names[label]


def _labelled_lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield path, label and place of each line, split at the last white space; lines with ``#`` are skipped."""
    for line, where in text_lines(file):
        if line.startswith("#"):
            continue
        path, *label = line.rsplit(maxsplit=1)
        if not label:
            raise EmodetError(f"{where}: {path[:80]!r} is not 'path label'; is the file cut off?")
        yield path, label[0], where
