"""Exports in YOLO's layout: pictures and label files in folders of their own, class names in `data.yaml`."""

import functools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from emodet.datasets.affectnet import compare_totals
from emodet.datasets.folders import few
from emodet.datasets.listed_pictures import read_annotations, split_parts
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, emotion_name, ids_of
from emodet.errors import EmodetError

_FOLDERS = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
_YAML_NAMES = ("data.yaml", "data.yml")
_PUBLISHED = {"train": 17_101, "val": 5_406, "test": 2_755}


class Yolo(Reader):
    """AffectNet's YOLO export of 96×96 faces: ``{train,valid,test}/{images,labels}`` and ``data.yaml``.

    The number in a label file's first line is an index into the names of ``data.yaml``, which in the published export
    are alphabetical. The pictures are face crops already: boxes and further lines are not used, nor are the paths in
    ``data.yaml``, which are another machine's. Pictures and labels are paired by stem.

    The published export is said to hold 17,101, 5,406 and 2,755 faces; counts per class are not published.
    """

    name = "yolo"
    title = "AffectNet (YOLO export)"
    signs = "data.yaml beside train/ (or valid/, test/) with images/ and labels/"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _YAML_NAMES) and any(
            (folder / name / "images").is_dir() and (folder / name / "labels").is_dir()
            for names in _FOLDERS.values()
            for name in names
        )

    def list_samples(self, listing: Listing) -> list[Sample]:
        classes = _read_names(next(self.base / name for name in _YAML_NAMES if (self.base / name).is_file()))
        listing.notes.append("The boxes of the label files are not used: the pictures are face crops.")
        samples: list[Sample] = []
        for split, folder in split_parts(listing, self.base, _FOLDERS, "labels"):
            samples += self._split(listing, folder, split, classes)
        compare_totals(listing, Counter(sample.split for sample in samples), _PUBLISHED)
        return samples

    def _split(self, listing: Listing, folder: Path, split: str, classes: Mapping[int, str]) -> Iterator[Sample]:
        empty, longer = [], 0
        read = functools.partial(_read_label, classes)
        for picture, (name, lines) in read_annotations(listing, folder / "labels", ".txt", "a label file", read):
            longer += lines > 1
            if not lines:
                empty.append(picture)
            elif name in EMOTIONS:
                yield Sample(f"{folder.name}/{picture}", split, EMOTIONS.index(name))
            else:
                listing.left_out[name] += 1
        note = f"{folder.name}/, label file is empty: {len(empty):,} ({few(empty)})."
        listing.leave_out("label file is empty", empty, note)
        if longer:
            listing.notes.append(
                f"{folder.name}/labels/: of {longer:,} files with several lines only the first is read."
            )


def _read_names(path: Path) -> dict[int, str]:
    """Our class name by the export's class number."""
    import yaml  # comes with the training extra, and only this needs it

    try:
        # The base loader builds text, lists and dicts only: no objects, and a class called no stays a word.
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as problem:
        raise EmodetError(f"{path}: cannot be read as YAML ({' '.join(str(problem).split())})") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise EmodetError(f"{path}: names must list the classes, as a list or by number")
    try:
        ids_of(list(names.values()))  # refuses a class that is there twice
        return {int(number): emotion_name(name) for number, name in names.items()}
    except (ValueError, TypeError):
        raise EmodetError(f"{path}: names has {few(map(repr, names))} where class numbers were expected") from None
    except EmodetError as problem:
        raise EmodetError(f"{path}: {problem}") from None


def _read_label(classes: Mapping[int, str], path: Path) -> tuple[str, int]:
    """Class of the first line (``class cx cy w h``), empty in an empty file, and the number of lines."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as problem:
        raise EmodetError(f"{path}: cannot be read as a label file ({problem})") from None
    if not lines:
        return "", 0
    try:
        number, *place = map(float, lines[0].split())
    except ValueError:
        place = []
    if len(place) < 4 or not all(map(math.isfinite, place)):
        raise EmodetError(f"{path}: {lines[0][:80]!r} is not a label line (class cx cy w h)")
    if number not in classes:
        there = f"{min(classes)} to {max(classes)}"
        raise EmodetError(f"{path}: class {number:g} is not among the numbers in data.yaml ({there})")
    return classes[int(number)], len(lines)
