"""Text files with one ``path label`` a line, beside a folder of pictures."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from emodet.datasets.class_labels import check_order, classes_of, is_class_label, split_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import first_line, folders_in, is_picture, names_in, relative_path, some_names
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, EachOnce, locate, note_of_missing
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["LabelledLine", "ListFiles", "labelled_lines"]

_MOST_FOLDERS = 20
_MOST_FILES = 50
_SPLIT_ORDER = ("test", "val", "train")


class ListFiles(FolderReader):
    """``*.txt`` lists of ``path label`` lines, at the top or one folder down, and a folder of pictures anywhere below.

    A line is split at its last white space, so paths may hold spaces. Lines that are blank or start with ``#`` are
    passed over. The split is the word train, val, valid, validation or test in the list's name; a single list without
    such a word is training. Labels are names, or numbers as `ClassFolders` understands them. A picture in two lists
    stays in the one that is evaluated on. A record's key is the picture's path below the root.

    Args:
        root: The folder with the lists, or one such list; or a folder that holds nothing but its folder.
        order: What numbers mean: ``auto``, ``affectnet``, ``alphabetical``, ``ferplus``, ``fer2013``, ``rafdb``
            (from 1).

    Raises:
        EmodetError: The root bears none of the signs, there is no such order, or a list's name says no split.
    """

    name: ClassVar[str] = "list_files"
    title: ClassVar[str] = "List files"
    signs: ClassVar[str] = "a .txt of lines 'path label' (picture.jpg 3, picture.jpg happy) beside a folder of pictures"

    def __init__(self, root: Path, *, order: str = "auto") -> None:
        check_order(order)
        super().__init__(root)
        self.order = order
        files = [root] if root.is_file() else list(_list_files(self.base))
        self.lists: dict[str, list[Path]] = {split: [] for split in _SPLIT_ORDER}
        for file in files:
            words = {split for word in re.split(r"[^a-z]+", file.stem.lower()) if (split := split_of(word))}
            if not words and len(files) == 1:
                words = {"train"}
            if len(words) != 1:
                raise EmodetError(
                    f"data.root={root}: the name of the list {file.name} says no split. Call each list after one of "
                    "train, val and test, or point data.root at a single list"
                )
            self.lists[words.pop()].append(file)

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A list cannot be read, has a line that does not fit, or names one picture with two labels; or
                fewer than 90 % of the pictures are there. The message names the file and line.
        """
        lines = {file: list(labelled_lines(file)) for files in self.lists.values() for file in files}
        meaning, understood = classes_of(
            (line.label for line in itertools.chain.from_iterable(lines.values())),
            self.order,
            ", ".join(map(str, lines)),
        )
        notes = [understood] if understood else []
        notes += [f"There is no list of {split} faces." for split in ("train", "val") if not self.lists[split]]
        left_out: Counter[str] = Counter()
        records: list[Sample] = []
        once = EachOnce()
        for split, file in ((split, file) for split, files in self.lists.items() for file in files):
            paths = [relative_path(line.path, line.where) for line in lines[file]]
            located = locate(self.root, self.base, paths, file, split)
            if None in located.found:
                notes.append(note_of_missing(located, paths, self.base, file))
            folder = located.folder.relative_to(self.base)
            for found, line in zip(located.found, lines[file], strict=True):
                name = meaning[line.label]
                if found is None:
                    left_out[NOT_THERE] += 1
                elif not once.is_new(key := (folder / found).as_posix(), name, line.where):
                    left_out[TWICE] += 1
                elif name not in EMOTIONS:
                    left_out[name] += 1
                else:
                    records.append(Sample(key, split, EMOTIONS.index(name)))
        if not records:
            raise EmodetError(f"{', '.join(map(str, lines))}: no face with one of the eight emotions is listed")
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def options(self) -> dict[str, Any]:
        return {"order": self.order}

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        lists = list(_list_files(folder))
        # Where there is but one folder and it has the lists, that one is the base, so that keys are the same however it
        # was unpacked.
        return any(file.parent == folder for file in lists) or (bool(lists) and len(folders_in(folder)) > 1)

    @classmethod
    def _fits(cls, file: Path) -> bool:
        return _is_list(file)


class LabelledLine(NamedTuple):
    """One line of a list.

    Attributes:
        path: As it is written.
        label: The word after the last white space.
        where: The line's place, for an error.
    """

    path: str
    label: str
    where: str


def labelled_lines(file: Path) -> Iterator[LabelledLine]:
    """The ``path label`` lines of a list; blank lines and those that start with ``#`` are passed over.

    Raises:
        EmodetError: The file cannot be read as UTF-8, has a line of one word only, or none at all.
    """
    found = False
    number = 0
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip() or line.startswith("#"):
                    continue
                path, *label = line.strip().rsplit(maxsplit=1)
                if not label:
                    raise EmodetError(f"{file}, line {number}: {path[:80]!r} is not 'path label'; is the file cut off?")
                found = True
                yield LabelledLine(path, label[0], f"{file}, line {number}")
    except UnicodeDecodeError as problem:
        raise EmodetError(f"{file}, after line {number}: not UTF-8 ({problem.reason}); save it as UTF-8") from None
    except OSError as problem:
        raise EmodetError(f"{file}: cannot be read ({problem})") from None
    if not found:
        raise EmodetError(f"{file}: the list has no lines")


def _list_files(base: Path) -> Iterator[Path]:
    below = {base / name: some_names(base / name) for name in folders_in(base)[:_MOST_FOLDERS]}
    for folder, names in {base: names_in(base), **below}.items():
        texts = sorted(name for name in names if name.lower().endswith(".txt"))
        yield from (folder / name for name in texts[:_MOST_FILES] if _is_list(folder / name))


def _is_list(file: Path) -> bool:
    """Whether the first line is a picture's path and a class."""
    if file.suffix.lower() != ".txt":
        return False
    try:
        words = first_line(file).rsplit(maxsplit=1)
    except OSError:
        return False
    return len(words) == 2 and is_picture(words[0].replace("\\", "/").rpartition("/")[2]) and is_class_label(words[1])
