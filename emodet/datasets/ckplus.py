"""CK+48: the extended Cohn-Kanade faces, 48×48, three frames of each sequence, in class folders."""

import itertools
import re
from pathlib import Path

from emodet.datasets.class_folders import ClassFolders, class_folders_in, split_folders_in
from emodet.datasets.folders import some_names

__all__ = ["CkPlus48"]

_FRAME = re.compile(r"S\d{3}_\d{3}_\d+\.", re.IGNORECASE)
_CLASSES = ("happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")


class CkPlus48(ClassFolders):
    """Class folders of pictures called ``S010_004_00000017.png``: person, sequence, frame.

    Three frames of one sequence are near-copies of each other, so the person (``S010``) is the subject. The set has no
    official split and no neutral faces.

    Lucey et al. 2010, The Extended Cohn-Kanade Dataset: 327 labelled sequences, of which CK+48 has three frames each.
    """

    name = "ckplus"
    title = "CK+48 class folders"
    signs = "class folders of pictures called like S010_004_00000017.png"
    expected = {"train": dict(zip(_CLASSES, (207, 84, 249, 75, 177, 135, 54), strict=True))}  # noqa: RUF012

    @classmethod
    def matches(cls, folder: Path) -> bool:
        if not super().matches(folder):
            return False
        splits = split_folders_in(folder)[0].values()
        classes = itertools.chain.from_iterable(
            (folder / split / label for label in class_folders_in(folder / split)) for split in ("", *splits)
        )
        return any(_FRAME.match(name) for place in classes for name in some_names(place))

    def subject_of(self, path: str) -> str | None:
        name = path.rpartition("/")[2]
        return name.partition("_")[0].upper() if _FRAME.match(name) else None
