"""JAFFE: ten women, seven expressions each, coded in the names of the files."""

import re
from collections.abc import Iterator
from pathlib import Path

from emodet.datasets.folders import few, folders_in, pictures_below, some_names
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import emotion_id

__all__ = ["Jaffe"]

# Person, expression and its number, number of the picture; copies have a second extension (.tiff.png).
_NAME = re.compile(r"([A-Z]{2})\.(AN|DI|FE|HA|NE|SA|SU)\d+\.\d+\.[a-z.]+", re.IGNORECASE)
_PUBLISHED = 213


class Jaffe(Reader):
    """Pictures called ``KA.AN1.39.tiff``, in one folder or in class folders: the person KA shows anger.

    The code in the name decides, not the folder. The person is the subject, since each shows an expression three or
    four times. The set has no official split.

    Lyons et al. 1998, Coding Facial Expressions with Gabor Wavelets: 213 pictures.
    """

    name = "jaffe"
    title = "JAFFE"
    signs = "pictures called like KA.AN1.39.tiff, at the top or in folders"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        inside = folders_in(folder)
        # Where there is but one folder, that one is the base, so that keys are the same however it was unpacked.
        places = ["", *inside[:100]] if len(inside) > 1 else [""]
        return any(any(map(_NAME.fullmatch, some_names(folder / place))) for place in places)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        others: list[str] = []
        seen: set[str] = set()
        for path in sorted(pictures_below(self.base, others)):
            name = path.rpartition("/")[2]
            code = _NAME.fullmatch(name)
            if code is None:
                others.append(path)
            elif name.upper() in seen:  # copies have the same pictures in one folder and in class folders
                listing.left_out["same name as another picture"] += 1
            else:
                seen.add(name.upper())
                yield Sample(path, "train", emotion_id(code[2]), subject=code[1].upper())
        listing.notes.append("There is no official split, so all faces are training faces.")
        if others:
            listing.left_out["picture without a code in its name"] += len(others)
            listing.notes.append(f"{len(others):,} pictures have no code in their name: {few(others)}.")
        if len(seen) != _PUBLISHED:
            listing.notes.append(f"Faces found (published): {len(seen)} ({_PUBLISHED}).")
