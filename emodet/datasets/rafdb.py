"""RAF-DB, basic emotions: aligned 100×100 faces and one list of numbers from 1 to 7."""

from pathlib import Path

from emodet.datasets.class_labels import ORDERS
from emodet.datasets.folders import relative_path
from emodet.datasets.list_files import labelled_lines
from emodet.datasets.listed_pictures import TWICE, Seen, find_pictures, is_new
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, RAFDB_ORDER
from emodet.errors import EmodetError

__all__ = ["RafDb"]

# The release misspells "partition"; some copies put it right.
_LISTS = tuple(
    folder + name for folder in ("EmoLabel/", "") for name in ("list_patition_label.txt", "list_partition_label.txt")
)
_CLASSES = {str(number): name for number, name in ORDERS["rafdb"].items()}


class RafDb(Reader):
    """RAF-DB basic: ``EmoLabel/list_patition_label.txt`` (sic) and ``Image/aligned/train_00001_aligned.jpg``.

    A line is ``train_00001.jpg 5``; the number counts from 1 in RAF-DB's own order, the name has the split. The aligned
    pictures are face crops, so there is no box. The original pictures are not read.

    Li, Deng, Du 2017, Reliable Crowdsourcing and Deep Locality-Preserving Learning: 12,271 and 3,068 faces.
    """

    name = "rafdb"
    title = "RAF-DB (basic)"
    signs = "EmoLabel/list_patition_label.txt beside Image/aligned/"
    expected = {  # noqa: RUF012
        "train": dict(zip(RAFDB_ORDER, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
        "test": dict(zip(RAFDB_ORDER, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
    }

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any((folder / name).is_file() for name in _LISTS)

    def list_samples(self, listing: Listing) -> list[Sample]:
        file = next(self.base / name for name in _LISTS if (self.base / name).is_file())
        seen: Seen = {}
        paths: list[str] = []
        faces: list[tuple[str, int]] = []
        for line in labelled_lines(file):
            split = line.path.partition("_")[0]
            if split not in ("train", "test"):
                raise EmodetError(f"{line.where}: {line.path!r} begins with neither train_ nor test_")
            name = _CLASSES.get(line.label)
            if name is None:
                raise EmodetError(f"{line.where}: {line.label!r} is not a class from 1 to {len(RAFDB_ORDER)}")
            if not is_new(seen, line.path, name, line.where):
                listing.left_out[TWICE] += 1
                continue
            stem, _, suffix = relative_path(line.path, line.where).rpartition(".")
            paths.append(f"{stem.removesuffix('_aligned')}_aligned.{suffix}")
            faces.append((split, EMOTIONS.index(name)))
        found = find_pictures(listing, self.base, paths, file)
        return [Sample(key, *face) for key, face in zip(found, faces, strict=True) if key is not None]
