"""RAF-DB, basic emotions: aligned 100×100 faces and one list of numbers from 1 to 7."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from emodet.datasets.class_labels import ORDERS
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import relative_path
from emodet.datasets.list_files import labelled_lines
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, EachOnce, locate, note_of_missing
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError

__all__ = ["RafDb"]

# The release misspells "partition"; some copies put it right.
_LISTS = tuple(
    folder + name for folder in ("EmoLabel/", "") for name in ("list_patition_label.txt", "list_partition_label.txt")
)
_CLASSES = {str(number): name for number, name in ORDERS["rafdb"].items()}


class RafDb(FolderReader):
    """RAF-DB basic: ``EmoLabel/list_patition_label.txt`` (sic) and ``Image/aligned/train_00001_aligned.jpg``.

    A line is ``train_00001.jpg 5``; the number counts from 1 in RAF-DB's own order, the name says the split. The
    aligned pictures are face crops, so there is no box. The original pictures are not read.

    Li, Deng, Du 2017, Reliable Crowdsourcing and Deep Locality-Preserving Learning: 12,271 and 3,068 faces.

    Args:
        root: The unpacked release (also its folder ``basic``), or a folder that holds nothing but its folder.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "rafdb"
    title: ClassVar[str] = "RAF-DB (basic)"
    signs: ClassVar[str] = "EmoLabel/list_patition_label.txt beside Image/aligned/"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": dict(zip(RAFDB_ORDER, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
        "test": dict(zip(RAFDB_ORDER, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.list = next(self.base / name for name in _LISTS if (self.base / name).is_file())

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: The list has a line that does not fit, or fewer than 90 % of the pictures are there.
        """
        left_out: Counter[str] = Counter()
        once = EachOnce()
        listed: list[tuple[str, str, int]] = []
        for line in labelled_lines(self.list):
            split = line.path.partition("_")[0]
            if split not in ("train", "test"):
                raise EmodetError(f"{line.where}: {line.path!r} begins with neither train_ nor test_")
            name = _CLASSES.get(line.label)
            if name is None:
                raise EmodetError(f"{line.where}: {line.label!r} is not a class from 1 to {len(RAFDB_ORDER)}")
            if not once.is_new(line.path, name, line.where):
                left_out[TWICE] += 1
                continue
            stem, _, suffix = relative_path(line.path, line.where).rpartition(".")
            listed.append((f"{stem.removesuffix('_aligned')}_aligned.{suffix}", split, EMOTIONS.index(name)))
        paths = [path for path, _, _ in listed]
        located = locate(self.root, self.base, paths, self.list)
        notes = []
        if None in located.found:
            left_out[NOT_THERE] += located.found.count(None)
            notes.append(note_of_missing(located, paths, self.base, self.list))
        folder = located.folder.relative_to(self.base)
        records = [
            Sample((folder / found).as_posix(), split, emotion)
            for found, (_, split, emotion) in zip(located.found, listed, strict=True)
            if found is not None
        ]
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _LISTS)
