"""Exports in YOLO's layout: pictures and label files in folders of their own, class names in `data.yaml`."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from emodet.datasets.affectnet import doubt_about_totals
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import LEAST_RESOLVED, few, names_in, pictures_by_stem
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import emotion_name, ids_of
from emodet.errors import EmodetError

__all__ = ["Yolo"]

_FOLDERS: Mapping[str, tuple[str, ...]] = {"train": ("train",), "val": ("valid", "val"), "test": ("test",)}
_YAML_NAMES = ("data.yaml", "data.yml")
_MAX_YAML_BYTES = 1 << 20
_PUBLISHED = {"train": 17_101, "val": 5_406, "test": 2_755}

_NO_LABEL = "picture without a label file"
_EMPTY_LABEL = "label file is empty"
_NO_PICTURE = "label file without a picture"


class Yolo(FolderReader):
    """AffectNet's YOLO export of 96×96 faces: ``{train,valid,test}/{images,labels}`` and ``data.yaml``.

    The number in a label's first line is an index into the names of ``data.yaml``, which in the published export are
    alphabetical. The pictures are face crops already: the box of the label line is not used, and further lines are not
    read. The paths in ``data.yaml`` are another machine's and are not used either.

    The published export is said to hold 17,101, 5,406 and 2,755 faces; counts per class are not published.

    Args:
        root: The unpacked export, or a folder that holds nothing but its folder.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "yolo"
    title: ClassVar[str] = "AffectNet (YOLO export)"
    signs: ClassVar[str] = "data.yaml beside train/ (or valid/, test/) with images/ and labels/"

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: ``data.yaml`` or a label file is not what it should be, or fewer than 90 % of the labelled
                pictures are there. The message names the file.
        """
        emotions = self._emotions()
        left_out: Counter[str] = Counter()
        notes = ["The boxes of the label files are not used: the pictures are face crops."]
        records: list[Sample] = []
        for split, names in _FOLDERS.items():
            folders = [self.base / name for name in names if (self.base / name / "labels").is_dir()]
            if not folders:
                notes.append(f"There is no {names[0]}/, so no {split} faces.")
                continue
            if len(folders) > 1:
                notes.append(f"Read {folders[0].name}/; passed over {folders[1].name}/.")
            records += self._split(folders[0], split, emotions, left_out, notes)
        if not records:
            raise EmodetError(f"{self.base}: no face with one of the eight emotions is labelled")
        found = Counter(record.split for record in records)
        notes += doubt_about_totals(found, _PUBLISHED)
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def _split(
        self,
        folder: Path,
        split: str,
        emotions: Mapping[int, tuple[str, int | None]],
        left_out: Counter[str],
        notes: list[str],
    ) -> list[Sample]:
        # By name: the two folders need not be listed in the same order.
        pictures, passed_over = pictures_by_stem(folder / "images")
        labels = {name.removesuffix(".txt") for name in names_in(folder / "labels") if name.endswith(".txt")}
        labels -= {"classes"} - set(pictures)  # labelling tools leave a classes.txt there
        missing = sorted(labels - set(pictures))
        if len(missing) > (1 - LEAST_RESOLVED) * len(labels):
            raise EmodetError(
                f"{folder}: {len(missing):,} of {len(labels):,} label files have no picture in images/ "
                f"({few(missing)}). Unpack the whole archive"
            )
        unlabelled = [name for stem, name in pictures.items() if stem not in labels]
        records, empty, longer = [], [], 0
        for stem in sorted(labels & set(pictures)):
            path = folder / "labels" / f"{stem}.txt"
            lines = _label_lines(path)
            if not lines:
                empty.append(path.name)
                continue
            longer += len(lines) > 1
            name, emotion = emotions[_class_of(lines[0], path, emotions)]
            if emotion is None:
                left_out[name] += 1
                continue
            records.append(Sample(f"{folder.name}/images/{pictures[stem]}", split, emotion))
        for reason, names in ((_EMPTY_LABEL, empty), (_NO_LABEL, unlabelled), (_NO_PICTURE, missing)):
            if names:
                left_out[reason] += len(names)
                notes.append(f"{folder.name}/, {reason}: {len(names):,} ({few(names)}).")
        if passed_over:
            notes.append(f"{folder.name}/images/: pictures named like another passed over: {few(passed_over)}.")
        if longer:
            notes.append(f"{folder.name}/labels/: {longer:,} files have more than one line; the first one counts.")
        return records

    def _emotions(self) -> dict[int, tuple[str, int | None]]:
        """Our class name, and our id if it is one of the eight, by the export's class number."""
        import yaml  # type: ignore[import-untyped] # comes with the training extra, and only this needs it

        path = next(self.base / name for name in _YAML_NAMES if (self.base / name).is_file())
        try:
            if path.stat().st_size > _MAX_YAML_BYTES:
                raise EmodetError(f"{path}: over {_MAX_YAML_BYTES:,} bytes are no list of class names")
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
            numbers = [int(number) for number in names]
            ids = ids_of(list(names.values()))
        except (ValueError, TypeError):
            raise EmodetError(f"{path}: names has {few(map(repr, names))} where class numbers were expected") from None
        except EmodetError as problem:
            raise EmodetError(f"{path}: {problem}") from None
        return {
            number: (emotion_name(name), emotion)
            for number, name, emotion in zip(numbers, names.values(), ids, strict=True)
        }

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _YAML_NAMES) and any(
            (folder / name / "images").is_dir() and (folder / name / "labels").is_dir()
            for names in _FOLDERS.values()
            for name in names
        )


def _label_lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as problem:
        raise EmodetError(f"{path}: cannot be read as a label file ({problem})") from None


def _class_of(line: str, path: Path, known: Mapping[int, object]) -> int:
    """The class number of ``class cx cy w h``."""
    cells = line.split()
    try:
        number, *place = (float(cell) for cell in cells)
    except ValueError:
        place = []
    if len(place) < 4 or not all(map(math.isfinite, place)):
        raise EmodetError(f"{path}: {line[:80]!r} is not a label line (class cx cy w h)")
    if number not in known:
        raise EmodetError(
            f"{path}: class {cells[0]} is not among the numbers in data.yaml ({min(known)} to {max(known)})"
        )
    return int(number)
