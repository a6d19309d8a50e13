"""CK+48: the extended Cohn-Kanade faces, 48×48, three frames of each sequence, in class folders."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from emodet.datasets.class_folders import ClassFolders, class_folders_in, split_folders_in
from emodet.datasets.folders import some_names

__all__ = ["CkPlus48"]

_FRAME = re.compile(r"S\d{3}_\d{3}_\d+\.", re.IGNORECASE)


class CkPlus48(ClassFolders):
    """Class folders of pictures called ``S010_004_00000017.png``: person, sequence, frame.

    Three frames of one sequence are near-copies of each other, so the person (``S010``) is the record's subject, and
    no split that is drawn tears a person apart. The set has no official split and no neutral faces.

    Lucey et al. 2010, The Extended Cohn-Kanade Dataset: 327 labelled sequences, of which CK+48 has three frames each.
    """

    name: ClassVar[str] = "ckplus"
    title: ClassVar[str] = "CK+48 class folders"
    signs: ClassVar[str] = "class folders of pictures called like S010_004_00000017.png"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": {
            "happiness": 207,
            "sadness": 84,
            "surprise": 249,
            "fear": 75,
            "disgust": 177,
            "anger": 135,
            "contempt": 54,
        }
    }

    def _subject(self, path: str) -> str | None:
        name = path.rpartition("/")[2]
        return name.partition("_")[0].upper() if _FRAME.match(name) else None

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        if not super()._bears_signs(folder):
            return False
        splits = split_folders_in(folder)[0].values()
        classes = itertools.chain.from_iterable(
            (folder / split / label for label in class_folders_in(folder / split)) for split in ("", *splits)
        )
        return any(_FRAME.match(name) for place in classes for name in some_names(place))
