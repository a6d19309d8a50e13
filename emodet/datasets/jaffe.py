"""JAFFE: ten women, seven expressions each, coded in the names of the files."""

import re
from collections import Counter
from pathlib import Path
from typing import ClassVar

from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import few, folders_in, pictures_below, some_names
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import emotion_id

__all__ = ["Jaffe"]

# Person, expression and its number, number of the picture; copies have a second extension (.tiff.png).
_NAME = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)\d+\.\d+\.[a-z.]+", re.IGNORECASE)
_OTHER_NAME = "picture without a code in its name"
_PUBLISHED = 213


class Jaffe(FolderReader):
    """Pictures called ``KA.AN1.39.tiff``, in one folder or in class folders: the person KA shows anger.

    The code in the name decides, not the folder. The person is the record's subject: she shows each expression three
    or four times, so no split that is drawn may tear her apart. The set has no official split.

    Lyons et al. 1998, Coding Facial Expressions with Gabor Wavelets: 213 pictures.

    Args:
        root: The folder of the pictures or of their folders, or a folder that holds nothing but its folder.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "jaffe"
    title: ClassVar[str] = "JAFFE"
    signs: ClassVar[str] = "pictures called like KA.AN1.39.tiff, at the top or in folders"

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A folder cannot be read.
        """
        records, others, seen = [], [], set()
        left_out: Counter[str] = Counter()
        for path in sorted(pictures_below(self.base)):
            name = path.rpartition("/")[2]
            code = _NAME.fullmatch(name)
            if code is None:
                others.append(path)
                continue
            # Copies keep the same pictures in one folder and in class folders.
            if name.upper() in seen:
                left_out["same name as another picture"] += 1
                continue
            seen.add(name.upper())
            records.append(Sample(path, "train", emotion_id(code[2]), subject=code[1].upper()))
        notes = ["There is no official split, so all faces are training faces."]
        if others:
            left_out[_OTHER_NAME] += len(others)
            notes.append(f"{len(others):,} pictures have no code in their name: {few(others)}.")
        if len(records) != _PUBLISHED:
            notes.append(f"Faces found (published): {len(records)} ({_PUBLISHED}).")
        return Listing(tuple(records), dict(left_out), tuple(notes))

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        inside = folders_in(folder)
        # Where there is but one folder, that one is the base, so that keys are the same however it was unpacked.
        places = ["", *inside[:100]] if len(inside) > 1 else [""]
        return any(any(map(_NAME.fullmatch, some_names(folder / place))) for place in places)
