"""Pictures in one folder per class, named or numbered; CK+48 and JAFFE, whose file names contain the person."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from emodet.datasets.class_labels import ORDERS, classes_of, is_class_label, own_classes
from emodet.datasets.folders import few, folders_in, is_broken_link, is_picture, names_in, pictures_below, split_folders
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import emotion_id

_MIN_CLASSES = 2
_SOME = 1000
_CKPLUS_FRAME = re.compile(r"S\d{3}_\d{3}_\d+\.", re.IGNORECASE)
_CKPLUS_CLASSES = ("happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
# Person, expression and its number, number of the picture; copies have a second extension (.tiff.png).
_JAFFE_NAME = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)\d+\.\d+\.[a-z.]+", re.IGNORECASE)
_JAFFE_PUBLISHED = {"all": 213}


@dataclass(kw_only=True, eq=False)
class ClassFolders(Reader):
    """Class folders in ``train``, ``val`` (or ``valid``) and ``test``, or without splits: then all faces are in train.

    Class folders have any known name (``happy``, ``Happiness``, ``1_happy``) or a number: 0 to 7 are AffectNet's ids
    (8 to 10 are counted and left out), 1 to 7 without 0 are RAF-DB's. Pictures can be in subfolders of a class folder,
    also behind links. A sample's key is the picture's path below the root. Pictures in unsupported formats, broken
    links and pictures outside the class folders are counted and named.

    If the reader is chosen explicitly (``data=class_folders``), folders with other names are the user's own classes;
    emotions among them need ``data.classes``.

    In FER2013 as class folders, ``test`` contains both test parts, 7,178 faces.

    Args:
        order: Meaning of numbered folders: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``,
            ``rafdb`` (from 1).
    """

    name = "class_folders"
    title = "Class folders"
    signs = (
        "at least two folders named or numbered as classes, at the top or in train/, val/, test/ (of any names with "
        "data.reader=class_folders)"
    )
    choices = {"order": ("auto", *ORDERS)}  # noqa: RUF012
    takes_own_classes: ClassVar[bool] = True

    order: str = "auto"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any(sum(map(is_class_label, folders_in(place))) >= _MIN_CLASSES for place in _places(folder))

    @classmethod
    def matches_named(cls, folder: Path) -> bool:
        def has_own_classes(place: Path) -> bool:
            with_pictures = [it for it in folders_in(place) if any(map(is_picture, names_in(place / it, _SOME)))]
            return len(with_pictures) >= _MIN_CLASSES

        return cls.matches(folder) or (cls.takes_own_classes and any(map(has_own_classes, _places(folder))))

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        names = split_folders(self.base)
        splits = {split: first for split, (first, *_) in names.items()}
        if others := [name for _, *more in names.values() for name in more]:
            listing.notes.append(f"Read {', '.join(splits.values())}; {few(others)} is not read.")
        if not splits:
            splits = {"train": ""}
            listing.notes.append("The class folders lie in no split, so all faces are training faces.")
        unread: list[str] = []
        pictures: dict[tuple[str, str], list[str]] = {}
        for split, folder in splits.items():
            labels = folders_in(self.base / folder)
            if not labels:
                listing.notes.append(f"{folder}/ holds no class folder, so no {split} faces.")
            for label in labels:
                place, passed_over = Path(folder, label), list[str]()
                pictures[split, label] = list(pictures_below(self.base / place, passed_over))
                unread += [(place / path).as_posix() for path in passed_over]
        where, own = f"class folders in {self.base}", None
        if self.takes_own_classes and self.order == "auto":
            own = own_classes({label: where for (_, label), paths in pictures.items() if paths}, self.named_classes)
        if own is not None:
            meaning, listing.class_names = own
        else:
            meaning, notes = classes_of((label for _, label in pictures), self.order, where)
            listing.notes += notes
        for (split, label), paths in pictures.items():
            name, prefix = meaning.get(label, label), Path(splits[split], label).as_posix()
            for path in paths:
                yield from listing.labelled(name, f"{prefix}/{path}", split, subject=self.subject_of(path))
        outside = [
            Path(folder, name).as_posix()
            for folder in sorted({"", *splits.values()})
            for name in sorted(names_in(self.base / folder))
            if (is_picture(name) and (self.base / folder / name).is_file()) or is_broken_link(self.base / folder / name)
        ]
        listing.leave_out("unreadable format or broken link", unread)
        listing.leave_out("outside the class folders", outside)

    def subject_of(self, _path: str) -> str | None:
        """Return the person in a picture, if its path below the class folder contains the person."""
        return None


class CkPlus48(ClassFolders):
    """Class folders of pictures called ``S010_004_00000017.png``: person, sequence, frame.

    Three frames of one sequence are nearly identical, so the person (``S010``) is the subject. The data set has no
    official split and no neutral faces.

    Lucey et al. 2010, The Extended Cohn-Kanade Dataset: 327 labelled sequences, of which CK+48 has three frames each.
    """

    name = "ckplus"
    takes_own_classes = False
    title = "CK+48 class folders"
    signs = "class folders of pictures called like S010_004_00000017.png"
    expected = {"train": dict(zip(_CKPLUS_CLASSES, (207, 84, 249, 75, 177, 135, 54), strict=True))}  # noqa: RUF012

    @classmethod
    def matches(cls, folder: Path) -> bool:
        if not super().matches(folder):
            return False
        classes = [place / label for place in _places(folder) for label in folders_in(place)]
        return any(_CKPLUS_FRAME.match(name) for place in classes for name in names_in(place, _SOME))

    def subject_of(self, path: str) -> str | None:
        name = path.rpartition("/")[2]
        return name.partition("_")[0].upper() if _CKPLUS_FRAME.match(name) else None


class Jaffe(Reader):
    """Pictures called ``KA.AN1.39.tiff``, in one folder or in class folders: the person KA shows anger.

    The label is the code in the name, not the folder. The person is the subject, because each shows an expression three
    or four times. The data set has no official split.

    Lyons et al. 1998, Coding Facial Expressions with Gabor Wavelets: 213 pictures.
    """

    name = "jaffe"
    title = "JAFFE"
    signs = "pictures called like KA.AN1.39.tiff, at the top or in folders"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        inside = folders_in(folder)
        # A single folder is the base, so that keys do not depend on the unpacking.
        places = ["", *inside[:100]] if len(inside) > 1 else [""]
        return any(any(map(_JAFFE_NAME.fullmatch, names_in(folder / place, _SOME))) for place in places)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        others: list[str] = []
        seen: set[str] = set()
        for path in sorted(pictures_below(self.base, others)):
            name = path.rpartition("/")[2]
            code = _JAFFE_NAME.fullmatch(name)
            if code is None:
                others.append(path)
            elif name.upper() in seen:  # some copies contain the pictures in one folder and in class folders
                listing.left_out["same name as another picture"] += 1
            else:
                seen.add(name.upper())
                yield Sample(path, "train", emotion_id(code[2]), subject=code[1].upper())
        listing.notes.append("There is no official split, so all faces are training faces.")
        listing.leave_out("picture without a code in its name", others)
        listing.compare(_JAFFE_PUBLISHED, {"all": len(seen)})


def _places(base: Path) -> list[Path]:
    """Return the folders that can contain class folders: the root and the splits."""
    return [base, *(base / first for first, *_ in split_folders(base).values())]
