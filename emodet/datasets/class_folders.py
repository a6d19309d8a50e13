"""Pictures in one folder per class, named or numbered, with or without folders for the splits around them."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emodet.datasets.class_labels import ORDERS, classes_of, is_class_label
from emodet.datasets.folders import few, folders_in, is_broken_link, is_picture, pictures_below, split_of
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS

__all__ = ["ClassFolders", "class_folders_in", "split_folders_in"]

_MIN_CLASSES = 2


@dataclass(kw_only=True, eq=False)
class ClassFolders(Reader):
    """Class folders inside ``train``, ``val`` (also ``valid``) and ``test``, or without a split: then all is training.

    Class folders are named in any known way (``happy``, ``Happiness``, ``1_happy``) or numbered: 0 to 7 are AffectNet's
    ids (8 to 10 are counted and left out), 1 to 7 without 0 are RAF-DB's. Pictures may lie in folders below the class
    folder, also behind links. A sample's key is the picture's path below the root. Pictures in formats that are not
    read, links that lead nowhere and pictures outside the class folders are counted and named.

    FER2013 as class folders has both of its test parts merged into ``test``, 7,178 faces.

    Args:
        order: What numbered folders mean: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``,
            ``rafdb`` (from 1).
    """

    name = "class_folders"
    title = "Class folders"
    signs = "at least two folders named or numbered as classes, at the top or in train/, val/, test/"
    choices = {"order": ("auto", *ORDERS)}  # noqa: RUF012

    order: str = "auto"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        splits = split_folders_in(folder)[0].values()
        return any(sum(map(is_class_label, folders_in(folder / split))) >= _MIN_CLASSES for split in ("", *splits))

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        splits, others = split_folders_in(self.base)
        if others:
            listing.notes.append(f"Read {', '.join(splits.values())}; {few(others)} is not read.")
        if not splits:
            splits = {"train": ""}
            listing.notes.append("The class folders lie in no split, so all faces are training faces.")
        classes = {split: class_folders_in(self.base / folder) for split, folder in splits.items()}
        labels = itertools.chain.from_iterable(classes.values())
        meaning, notes = classes_of(labels, self.order, f"class folders in {self.base}")
        listing.notes += notes
        unread: list[str] = []
        for split, folder in splits.items():
            prefix = f"{folder}/" if folder else ""
            for label in classes[split]:
                others = []
                paths = list(pictures_below(self.base / folder / label, others))
                unread += [f"{prefix}{label}/{path}" for path in others]
                if meaning[label] not in EMOTIONS:
                    listing.left_out[meaning[label]] += len(paths)
                    continue
                emotion = EMOTIONS.index(meaning[label])
                for path in paths:
                    yield Sample(f"{prefix}{label}/{path}", split, emotion, subject=self.subject_of(path))
            if not classes[split]:
                listing.notes.append(f"{folder}/ holds no class folder, so no {split} faces.")
        self._count(listing, "unreadable format or broken link", unread)
        self._count(listing, "outside the class folders", _outside(self.base, {"", *splits.values()}))

    def subject_of(self, _path: str) -> str | None:
        """Who a picture shows, where its path below the class folder has that."""
        return None

    @staticmethod
    def _count(listing: Listing, reason: str, names: list[str]) -> None:
        if names:
            listing.left_out[reason] += len(names)
            listing.notes.append(f"Not read, {reason}: {few(names)}.")


def split_folders_in(base: Path) -> tuple[dict[str, str], list[str]]:
    """The folders of `base` that are called as a split is.

    Returns:
        Folder name by split, and the names of further folders for the same splits.
    """
    found: dict[str, str] = {}
    others = []
    for name in folders_in(base):
        split = split_of(name)
        if split is not None and found.setdefault(split, name) != name:
            others.append(name)
    return found, others


def class_folders_in(folder: Path) -> list[str]:
    """All folders in `folder`, the numbered ones in the order of their numbers: 2 comes before 10."""
    names = folders_in(folder)
    return sorted(names, key=lambda name: (int(name), name) if name.isascii() and name.isdigit() else (-1, name))


def _outside(base: Path, folders: set[str]) -> list[str]:
    """Pictures, and links that lead nowhere, beside splits and class folders."""
    found = []
    for folder in sorted(folders):
        with os.scandir(base / folder) as entries:
            names = sorted(e.name for e in entries if (is_picture(e.name) and e.is_file()) or is_broken_link(e))
        found += [f"{folder}/{name}".lstrip("/") for name in names]
    return found
