"""Pictures in one folder per class, named or numbered, with or without folders for the splits around them."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from emodet.datasets.class_labels import check_order, classes_of, is_class_label, split_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import few, folders_in, pictures_below
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["ClassFolders", "class_folders_in", "split_folders_in"]

_FEWEST_CLASSES = 2


class ClassFolders(FolderReader):
    """Class folders inside ``train``, ``val`` (also ``valid``) and ``test``, or without a split: then all is training.

    Class folders are named in any known way (``happy``, ``Happiness``, ``1_happy``) or numbered: 0 to 7 are AffectNet's
    ids (8 to 10 are counted and left out), 1 to 7 without 0 are RAF-DB's. Pictures may lie in folders below the class
    folder. A record's key is the picture's path below the root.

    FER2013 as class folders has both of its test parts merged into ``test``, 7,178 faces.

    Args:
        root: The folder that holds the splits or the classes, or a folder that holds nothing but its folder.
        order: What numbered folders mean: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``,
            ``rafdb`` (from 1).

    Raises:
        EmodetError: The root bears none of the signs, or there is no such order.
    """

    name: ClassVar[str] = "class_folders"
    title: ClassVar[str] = "Class folders"
    signs: ClassVar[str] = "at least two folders named or numbered as classes, at the top or in train/, val/, test/"

    def __init__(self, root: Path, *, order: str = "auto") -> None:
        check_order(order)
        super().__init__(root)
        self.order = order

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A class folder's name is not known or its number fits no order, or a folder cannot be read.
        """
        notes: list[str] = []
        splits, passed_over = split_folders_in(self.base)
        if passed_over:
            notes.append(f"Read {', '.join(splits.values())}; passed over {few(passed_over)}.")
        if not splits:
            splits = {"train": ""}
            notes.append("The class folders lie in no split, so all faces are training faces.")
        classes = {split: class_folders_in(self.base / folder) for split, folder in splits.items()}
        meaning, understood = classes_of(
            itertools.chain.from_iterable(classes.values()), self.order, f"class folders in {self.base}"
        )
        notes += [understood] if understood else []
        left_out: Counter[str] = Counter()
        records: list[Sample] = []
        for split, folder in splits.items():
            for label in classes[split]:
                place = f"{folder}/{label}" if folder else label
                pictures = list(pictures_below(self.base / place))
                if meaning[label] not in EMOTIONS:
                    left_out[meaning[label]] += len(pictures)
                    continue
                emotion = EMOTIONS.index(meaning[label])
                records += [Sample(f"{place}/{path}", split, emotion, subject=self._subject(path)) for path in pictures]
            if not classes[split]:
                notes.append(f"{folder}/ holds no class folder, so no {split} faces.")
        if not records:
            raise EmodetError(f"{self.base}: no picture lies in the class folders of the eight emotions")
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(+left_out), tuple(notes))

    def options(self) -> dict[str, Any]:
        return {"order": self.order}

    def _subject(self, _path: str) -> str | None:
        """Who a picture shows, where its path below the class folder says so."""
        return None

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any(_has_classes(folder / split) for split in ("", *split_folders_in(folder)[0].values()))


def split_folders_in(base: Path) -> tuple[dict[str, str], list[str]]:
    """The folders of `base` that are called as a split is.

    Returns:
        Folder name by split, and the names passed over because another folder means the same split.
    """
    found: dict[str, str] = {}
    passed_over = []
    for name in folders_in(base):
        split = split_of(name)
        if split is None:
            continue
        if split in found:
            passed_over.append(name)
        else:
            found[split] = name
    return found, passed_over


def class_folders_in(folder: Path) -> list[str]:
    """All folders in `folder`, the numbered ones in the order of their numbers: 2 comes before 10."""
    names = folders_in(folder)
    return sorted(names, key=lambda name: (int(name), name) if name.isascii() and name.isdigit() else (-1, name))


def _has_classes(folder: Path) -> bool:
    return sum(is_class_label(name) for name in folders_in(folder)) >= _FEWEST_CLASSES
