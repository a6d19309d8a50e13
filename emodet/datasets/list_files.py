"""Text files with one ``path label`` a line, beside a folder of pictures."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from emodet.datasets.class_labels import ORDERS, classes_of, is_class_label
from emodet.datasets.csv_rows import first_line, text_lines
from emodet.datasets.folders import folders_in, is_picture, names_in, relative_path, some_names, split_of
from emodet.datasets.listed_pictures import TWICE, Seen, find_pictures, is_new
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["LabelledLine", "ListFiles", "labelled_lines"]

_MAX_FOLDERS = 20
_MAX_FILES = 50


@dataclass(kw_only=True, eq=False)
class ListFiles(Reader):
    """``*.txt`` lists of ``path label`` lines, at the top or one folder down, and a folder of pictures anywhere below.

    A line is split at its last white space, so paths may hold spaces. Lines that are blank or start with ``#`` are
    skipped. The split is the word train, val, valid, validation or test in the list's name; a single list without such
    a word is training. Labels are names, or numbers as `ClassFolders` understands them. A picture in two lists stays in
    the one that is evaluated on. The root may also be one list. A sample's key is the picture's path below the root.

    Args:
        order: What numbers mean: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``, ``rafdb``
            (from 1).
    """

    name = "list_files"
    title = "List files"
    signs = "a .txt of lines 'path label' (picture.jpg 3, picture.jpg happy) beside a folder of pictures"
    choices = {"order": ("auto", *ORDERS)}  # noqa: RUF012

    order: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = [self.root] if self.root.is_file() else list(_texts(self.base))
        files = [file for file in texts if _is_list(file)]
        self.lists: dict[str, list[Path]] = {"test": [], "val": [], "train": []}
        for file in texts:
            splits = {split for word in re.split(r"[^a-z]+", file.stem.lower()) if (split := split_of(word))}
            if file not in files:
                if splits:
                    raise EmodetError(
                        f"{file}: its name is that of a list, but it begins {first_line(file)[:60]!r}, which is not "
                        "'path label'. Repair it, or rename it to go without"
                    )
                continue
            if not splits and len(files) == 1:
                splits = {"train"}
            if len(splits) != 1:
                raise EmodetError(
                    f"data.root={self.root}: the name of the list {file.name} has no split, or several. Call each list "
                    "after one of train, val and test, or point data.root at a single list"
                )
            self.lists[splits.pop()].append(file)

    @classmethod
    def matches(cls, folder: Path) -> bool:
        lists = [file for file in _texts(folder) if _is_list(file)]
        # Where there is but one folder and it has the lists, that one is the base, so that keys are the same however it
        # was unpacked.
        return any(file.parent == folder for file in lists) or (bool(lists) and len(folders_in(folder)) > 1)

    @classmethod
    def matches_file(cls, file: Path) -> bool:
        return file.suffix.lower() == ".txt" and _is_list(file)

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        lines = {file: list(labelled_lines(file)) for files in self.lists.values() for file in files}
        labels = [line.label for of_file in lines.values() for line in of_file]
        meaning, notes = classes_of(labels, self.order, ", ".join(map(str, lines)))
        listing.notes += notes
        listing.notes += [f"There is no list of {split} faces." for split in ("train", "val") if not self.lists[split]]
        seen: Seen = {}
        for split, file in ((split, file) for split, files in self.lists.items() for file in files):
            paths = [relative_path(line.path, line.where) for line in lines[file]]
            for key, line in zip(find_pictures(listing, self.base, paths, file, split), lines[file], strict=True):
                name = meaning[line.label]
                if key is None:
                    continue
                if not is_new(seen, key, name, line.where):
                    listing.left_out[TWICE] += 1
                elif name not in EMOTIONS:
                    listing.left_out[name] += 1
                else:
                    yield Sample(key, split, EMOTIONS.index(name))


class LabelledLine(NamedTuple):
    """One line of a list: path and label as written, and the line's place for an error."""

    path: str
    label: str
    where: str


def labelled_lines(file: Path) -> Iterator[LabelledLine]:
    """The ``path label`` lines of a list, split at the last white space; those that start with ``#`` are skipped.

    Raises:
        EmodetError: The file cannot be read as text, has a line of one word only, or no line.
    """
    for line, where in text_lines(file):
        if line.startswith("#"):
            continue
        path, *label = line.rsplit(maxsplit=1)
        if not label:
            raise EmodetError(f"{where}: {path[:80]!r} is not 'path label'; is the file cut off?")
        yield LabelledLine(path, label[0], where)


def _texts(base: Path) -> Iterator[Path]:
    """The text files at the top and one folder down, in order."""
    below = {base / name: some_names(base / name) for name in folders_in(base)[:_MAX_FOLDERS]}
    for folder, names in {base: names_in(base), **below}.items():
        texts = sorted(name for name in names if name.lower().endswith(".txt") and not name.startswith("."))
        yield from (path for name in texts[:_MAX_FILES] if (path := folder / name).is_file())


def _is_list(file: Path) -> bool:
    """Whether the first line is a picture's path and a class."""
    words = first_line(file).rsplit(maxsplit=1)
    return len(words) == 2 and is_picture(words[0].replace("\\", "/").rpartition("/")[2]) and is_class_label(words[1])
