"""AffectNet as 96×96 pictures in class folders with a `labels.csv` that disagrees with them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emodet.datasets.affectnet import compare_totals
from emodet.datasets.class_labels import class_named
from emodet.datasets.csv_rows import CsvRows, damaged_or_has
from emodet.datasets.folders import few, folders_in, is_picture, names_in, relative_path, split_of
from emodet.datasets.listed_pictures import NOT_THERE, TWICE, Seen, is_new, require_most
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS

_FILE = "labels.csv"
_COLUMNS = ("pth", "label")
_PUBLISHED = 29_042


@dataclass(kw_only=True, eq=False)
class LabelsCsv(Reader):
    """`labels.csv` with the columns ``pth`` (``anger/image0000006.jpg``) and ``label``, and class folders of pictures.

    The folder is AffectNet's class; the csv's label was made by a net. A note tells how often they agree. The column
    ``relFCs`` is a share of the pixels' variance and no confidence: it is not read. The same base name occurs in
    several folders, so a picture's key is its whole path, with the split around it where there are ``Train/`` and
    ``Test/``; the csv may leave those out, and their class folders may be capitalised. Without them all faces are
    training faces, as there is no official split.

    Args:
        label_source: Whether the ``csv`` or the ``folder`` decides.
    """

    name = "labels_csv"
    title = "AffectNet (labels.csv and class folders)"
    signs = "labels.csv with the columns pth and label beside class folders"
    choices = {"label_source": ("csv", "folder")}  # noqa: RUF012

    label_source: str = "csv"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return damaged_or_has(folder / _FILE, ("pth",))

    def list_samples(self, listing: Listing) -> Iterator[Sample]:
        rows = CsvRows(self.base / _FILE, _COLUMNS)
        keys, by_path = _pictures(self.base)
        seen: Seen = {}
        missing: list[str] = []
        agreeing = listed = 0
        for row in rows:
            listed += 1
            path = relative_path(row["pth"], rows.where)
            by_csv = class_named(row["label"], rows.where)
            found = by_path.get(path.lower(), [])
            # Those that are spelt alike go before the others.
            found = [key for key in found if key == path or key.endswith(f"/{path}")] or found
            if len(found) != 1:
                listing.left_out["path fits a picture in two splits" if found else NOT_THERE] += 1
                missing += [] if found else [path]
                continue
            (key,) = found
            if not is_new(seen, key, by_csv, rows.where):
                listing.left_out[TWICE] += 1
                continue
            folders = key.split("/")[:-1]
            by_folder = class_named(folders[-1], f"{rows.where} (folder {self.base / '/'.join(folders)})")
            agreeing += by_csv == by_folder
            name = by_csv if self.label_source == "csv" else by_folder
            if name in EMOTIONS:
                yield Sample(key, split_of(folders[0]) or "train", EMOTIONS.index(name))
            else:
                listing.left_out[name] += 1
        require_most(missing, listed, f"{rows.path}, pictures in {self.base}")
        listing.notes.append(
            f"Labels are taken from the {self.label_source}; csv and folder agree on {agreeing:,} of {len(seen):,} "
            f"faces ({agreeing / max(1, len(seen)):.1%})."
        )
        if missing:
            listing.notes.append(f"{len(missing):,} listed pictures are not there: {few(missing)}")
        unlisted = [key for key in keys if key not in seen]
        note = f"{len(unlisted):,} pictures are not in {_FILE}: {few(unlisted)}"
        listing.leave_out(f"picture that {_FILE} does not list", unlisted, note)
        compare_totals(listing, {"all": listed}, {"all": _PUBLISHED})


def _pictures(base: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The pictures below a folder, and by each path that the csv may give them: in lower case, without the split."""
    keys: list[str] = []
    by_path: dict[str, list[str]] = defaultdict(list)
    for outer in folders_in(base):
        inner = folders_in(base / outer) if split_of(outer) else [""]
        for folder in (f"{outer}/{name}".rstrip("/") for name in inner):
            without_split = folder.partition("/")[2] or folder
            for name in sorted(filter(is_picture, names_in(base / folder))):
                keys.append(f"{folder}/{name}")
                for path in {f"{folder}/{name}", f"{without_split}/{name}"}:
                    by_path[path.lower()].append(f"{folder}/{name}")
    return keys, by_path
