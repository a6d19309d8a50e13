"""AffectNet as 96×96 pictures: class folders with a `labels.csv` of different labels, and a YOLO export."""

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emodet.datasets.class_labels import class_named
from emodet.datasets.csv_rows import CsvRows, damaged_or_has
from emodet.datasets.folders import few, folders_in, is_picture, names_in, relative_path, split_folders, split_of
from emodet.datasets.listed_pictures import NOT_THERE, Seen, is_new, read_annotations, require_most, split_parts
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import emotion_name, ids_of
from emodet.errors import EmodetError, errors_of

_LABELS_CSV = "labels.csv"
_COLUMNS = ("pth", "label")
_PUBLISHED = {"all": 29_042}
_PUBLISHED_YOLO = {"train": 17_101, "val": 5_406, "test": 2_755}


@dataclass(kw_only=True, eq=False)
class LabelsCsv(Reader):
    """`labels.csv` with the columns ``pth`` (``anger/image0000006.jpg``) and ``label``, and class folders of pictures.

    The folder is AffectNet's class; the label in the csv was made by a net. A note states how often they agree. The
    column ``relFCs`` is a share of the pixels' variance and not a confidence: it is not read. The same base name occurs
    in several folders, so a picture's key is its whole path, including the split if there are ``Train/`` and ``Test/``.
    The csv may omit the split, and its class folders may be capitalised. Without splits all faces are in train, because
    there is no official split.

    Args:
        label_source: Source of the labels, ``csv`` or ``folder``.
    """

    name = "labels_csv"
    title = "AffectNet (labels.csv and class folders)"
    signs = "labels.csv with the columns pth and label beside class folders"
    choices = {"label_source": ("csv", "folder")}  # noqa: RUF012
    sign_files = (_LABELS_CSV,)

    label_source: str = "csv"

    @classmethod
    def fits(cls, file: Path) -> bool:
        return damaged_or_has(file, ("pth",))

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        rows = CsvRows(self.listed_in, _COLUMNS)
        keys, by_path = _pictures(self.base)
        seen: Seen = {}
        missing: list[str] = []
        agreeing = listed = 0
        for row in rows:
            listed += 1
            path = relative_path(row["pth"], rows.where)
            by_csv = class_named(row["label"], rows.where)
            found = by_path.get(path.lower(), [])
            # Those that are spelt alike go before the others.
            found = [key for key in found if key == path or key.endswith(f"/{path}")] or found
            if len(found) != 1:
                listing.left_out["path fits a picture in two splits"] += bool(found)
                missing += [] if found else [path]
                continue
            (key,) = found
            if not is_new(listing, seen, key, by_csv, rows.where):
                continue
            folders = key.split("/")[:-1]
            by_folder = class_named(folders[-1], f"{rows.where} (folder {self.base / '/'.join(folders)})")
            agreeing += by_csv == by_folder
            name = by_csv if self.label_source == "csv" else by_folder
            yield from listing.labelled(name, key, split_of(folders[0]) or "train")
        require_most(missing, listed, f"{rows.path}, pictures in {self.base}")
        listing.notes.append(
            f"Labels are taken from the {self.label_source}; csv and folder agree on {agreeing:,} of {len(seen):,} "
            f"faces ({agreeing / max(1, len(seen)):.1%})."
        )
        listing.leave_out(NOT_THERE, missing)
        unlisted = [key for key in keys if key not in seen]
        listing.leave_out(f"picture that {_LABELS_CSV} does not list", unlisted)
        listing.compare(_PUBLISHED, {"all": listed})


def _pictures(base: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The pictures below a folder, and by each path that the csv may give them: in lower case, without the split."""
    keys: list[str] = []
    by_path: dict[str, list[str]] = defaultdict(list)
    for outer in folders_in(base):
        is_split = split_of(outer) is not None
        for folder in [f"{outer}/{name}" for name in folders_in(base / outer)] if is_split else [outer]:
            for key in (f"{folder}/{name}" for name in sorted(filter(is_picture, names_in(base / folder)))):
                keys.append(key)
                for path in {key, key.removeprefix(f"{outer}/") if is_split else key}:
                    by_path[path.lower()].append(key)
    return keys, by_path


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
    sign_files = ("data.yaml", "data.yml")

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return super().matches(folder) and any(
            (folder / name / "images").is_dir() and (folder / name / "labels").is_dir()
            for names in split_folders(folder).values()
            for name in names
        )

    def list_samples(self, listing: Listing) -> list[Sample]:
        classes = _read_names(self.listed_in)
        listing.notes.append("The boxes of the label files are not used: the pictures are face crops.")
        read = functools.partial(_read_label, classes)
        samples: list[Sample] = []
        for split, folder in split_parts(listing, self.base, "labels", tuple(_PUBLISHED_YOLO)):
            found = list(read_annotations(listing, folder / "labels", ".txt", "a label file", read))
            empty = [picture for picture, (_, lines) in found if not lines]
            listing.leave_out("label file is empty", empty, f"{folder.name}/")
            if longer := sum(lines > 1 for _, (_, lines) in found):
                note = f"{folder.name}/labels/: of {longer:,} files with several lines only the first is read."
                listing.notes.append(note)
            for picture, (name, lines) in found:
                samples += listing.labelled(name, f"{folder.name}/{picture}", split) if lines else ()
        if not self.about():  # drawn faces are no part of the published ones
            listing.compare(_PUBLISHED_YOLO, Counter(sample.split for sample in samples))
        return samples


def _read_names(path: Path) -> dict[int, str]:
    """Our class name by the export's class number."""
    import yaml  # comes with the training extra, and only this needs it

    with errors_of(path, "cannot be read as YAML", yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError):
        # The base loader builds text, lists and dicts only: no objects, and a class called no stays a word.
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise EmodetError(f"{path}: names must list the classes, as a list or by number")
    with errors_of(path):
        ids_of(list(names.values()))  # refuses a class that is there twice
        try:
            return {int(number): emotion_name(name) for number, name in names.items()}
        except (ValueError, TypeError):
            raise EmodetError(f"names has {few(map(repr, names))} where class numbers were expected") from None


def _read_label(classes: Mapping[int, str], path: Path) -> tuple[str, int]:
    """Class of the first line (``class cx cy w h``), empty in an empty file, and the number of lines."""
    with errors_of(path, "cannot be read as a label file", OSError, UnicodeDecodeError):
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
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
