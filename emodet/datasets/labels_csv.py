"""AffectNet as 96×96 pictures in class folders with a `labels.csv` that disagrees with them."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, ClassVar

from emodet.datasets import affectnet
from emodet.datasets.class_labels import split_of
from emodet.datasets.csv_rows import CsvRows, header_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import (
    LEAST_RESOLVED,
    few,
    folders_in,
    is_picture,
    names_in,
    relative_path,
)
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, EachOnce
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, emotion_name
from emodet.errors import EmodetError

__all__ = ["LabelsCsv"]

_FILE = "labels.csv"
_COLUMNS = ("pth", "label")
_PUBLISHED = 29_042

_TWO_PLACES = "path fits a picture in two splits"
_UNLISTED = f"picture that {_FILE} does not list"


class LabelsCsv(FolderReader):
    """`labels.csv` with the columns ``pth`` (``anger/image0000006.jpg``) and ``label``, and class folders of pictures.

    The folder is AffectNet's class; the csv's label was made by a net. `label_source` says which one to believe, and a
    note says how often they agree. The column ``relFCs`` is a share of the pixels' variance and no confidence: it is
    not read. The same base name occurs in several folders, so a picture is known by its whole path, and by that of the
    split around it where ``Train/`` and ``Test/`` are there; the csv may leave those out, and their class folders may
    be capitalised. Without them all faces are training faces, as there is no official split.

    Args:
        root: The unpacked export, or a folder that holds nothing but its folder.
        label_source: ``csv`` or ``folder``.

    Raises:
        EmodetError: The root bears none of the signs, or there is no such label source.
    """

    name: ClassVar[str] = "labels_csv"
    title: ClassVar[str] = "AffectNet (labels.csv and class folders)"
    signs: ClassVar[str] = "labels.csv with the columns pth and label beside class folders"

    def __init__(self, root: Path, *, label_source: str = "csv") -> None:
        if label_source not in ("csv", "folder"):
            raise EmodetError(f"label_source={label_source!r}: there are csv and folder")
        super().__init__(root)
        self.label_source = label_source

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: The csv cannot be read, or has a class name that is not known or one picture with two labels;
                or fewer than 90 % of the pictures are there. The message names the file and line.
        """
        rows = CsvRows(self.base / _FILE, _COLUMNS)
        places = _Places(self.base)
        left_out: Counter[str] = Counter()
        records: list[Sample] = []
        once = EachOnce()
        missing: list[str] = []
        agreeing = listed = 0
        for row in rows:
            listed += 1
            path = relative_path(row["pth"], rows.where)
            name = _class_named(row["label"], rows.where)
            found = places.at(path)
            if len(found) != 1:
                left_out[_TWO_PLACES if found else NOT_THERE] += 1
                missing += [] if found else [path]
                continue
            (key,) = found
            if not once.is_new(key, name, rows.where):
                left_out[TWICE] += 1
                continue
            folder, by_folder = _class_of_folder(key, self.base, rows.where)
            agreeing += name == by_folder
            used = name if self.label_source == "csv" else by_folder
            if used not in EMOTIONS:
                left_out[used] += 1
                continue
            records.append(Sample(key, split_of(folder) or "train", EMOTIONS.index(used)))
        if len(missing) > (1 - LEAST_RESOLVED) * listed:
            raise EmodetError(
                f"{rows.path}: {len(missing):,} of {listed:,} listed pictures are not below {self.base} "
                f"({few(missing)}). Unpack the whole archive"
            )
        compared = len(once)
        notes = [
            f"Labels are taken from the {self.label_source}; csv and folder agree on {agreeing:,} of {compared:,} faces"
            f" ({agreeing / max(1, compared):.1%})."
        ]
        if missing:
            notes.append(f"{len(missing):,} listed pictures are not there: {few(missing)}")
        unlisted = [key for key in places.keys if key not in once]
        if unlisted:
            left_out[_UNLISTED] += len(unlisted)
            notes.append(f"{len(unlisted):,} pictures are not in {_FILE}: {few(unlisted)}")
        notes += affectnet.doubt_about_totals({"all": listed}, {"all": _PUBLISHED})
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(+left_out), tuple(notes))

    def options(self) -> dict[str, Any]:
        return {"label_source": self.label_source}

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return set(_COLUMNS) <= set(header_of(folder / _FILE))


class _Places:
    """Where pictures lie below a folder, by each path that the csv may give them: in any case, without the split."""

    def __init__(self, base: Path) -> None:
        self.keys: list[str] = []
        self._by_path: dict[str, list[str]] = defaultdict(list)
        for outer in folders_in(base):
            inner = folders_in(base / outer) if split_of(outer) else [""]
            for folder in (f"{outer}/{name}".rstrip("/") for name in inner):
                without_split = folder.partition("/")[2] or folder
                for name in sorted(filter(is_picture, names_in(base / folder))):
                    self.keys.append(f"{folder}/{name}")
                    for path in {f"{folder}/{name}", f"{without_split}/{name}"}:
                        self._by_path[path.lower()].append(f"{folder}/{name}")

    def at(self, path: str) -> list[str]:
        """The pictures that a path of the csv may mean; those that are spelt like it go before the others."""
        found = self._by_path.get(path.lower(), [])
        spelt = [key for key in found if key == path or key.endswith(f"/{path}")]
        return spelt or found


def _class_of_folder(key: str, base: Path, where: str) -> tuple[str, str]:
    """The outermost folder of a picture, and the class that its own folder names."""
    parts = key.split("/")
    return parts[0], _class_named(parts[-2], f"{where} (folder {base / '/'.join(parts[:-1])})")


def _class_named(text: str, where: str) -> str:
    try:
        return emotion_name(text)
    except EmodetError as problem:
        raise EmodetError(f"{where}: {problem}") from None
