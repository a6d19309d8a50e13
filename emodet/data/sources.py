"""`Source`, the settings of one data set (folder, reader, crops, use), and the configuration group ``data``."""

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from emodet.arrays import Bools
from emodet.data.pack import Pack, Table
from emodet.data.packing import Packing, Report, label_files_state
from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.samples import Reader
from emodet.emotions import chosen_classes, place_of
from emodet.errors import EmodetError, errors_of, require
from emodet.files import expanded
from emodet.preprocessing import Preprocessing

log = logging.getLogger(__name__)


def default_packs() -> Path:
    """Return the folder for packs: ``$EMODET_PACKS``, else ``data/packs``."""
    return expanded(os.environ.get("EMODET_PACKS") or "data/packs")


def naming(source: str) -> AbstractContextManager[None]:
    """Prefix errors with the name of a mix's data set; the name of a single data set is empty."""
    return errors_of(f"data.sources: {source}") if source else nullcontext()


@dataclass(frozen=True)
class Source:
    """A data set on disk.

    Attributes:
        root: Folder of the release, or for some data sets its file.
        reader: A name in `emodet.datasets.readers.READERS`, or ``auto`` to detect the release.
        reader_options: Arguments of the reader. Landmarks are read if crops are aligned.
        packs: Folder of all packs.
        crop: ``image`` (stored pictures are face crops), ``box``, or ``detect`` (photographs: the face of highest score
            and size is cropped as in live recognition; pictures without a face are left out and listed).
        classes: Classes of this data set: 8, 7 (without contempt) or names; None for all classes of the training.
        labels: ``hard`` trains on the emotion; ``soft`` on the soft label if there is one, and therefore also on faces
            without a clear emotion.
        val_from: ``auto``, ``val``, or a share of train to hold out, up to 0.5; see `emodet.data.splits.assign_splits`.
        weight: Sampling frequency of the faces in training, relative to a source with weight 1.
        processes: Number of processes for packing; None for one per core.
        max_unreadable: Maximum share of unreadable pictures.

    Raises:
        EmodetError: A value is out of its range.
    """

    root: str | Path
    reader: str = "auto"
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    packs: str | Path = field(default_factory=default_packs)
    crop: str = "image"
    classes: int | Sequence[str] | None = None
    labels: str = "hard"
    val_from: str | float = "auto"
    weight: float = 1.0
    processes: int | None = None
    max_unreadable: float = 0.01

    def __post_init__(self) -> None:
        for name in ("root", "packs"):
            object.__setattr__(self, name, expanded(getattr(self, name)))
        if self.classes is not None:
            chosen_classes(self.classes)
        require(self.crop in ("image", "box", "detect"), "data.crop", self.crop, "image, box or detect")
        require(self.labels in ("hard", "soft"), "data.labels", self.labels, "hard or soft")
        require(0 <= self.max_unreadable <= 1, "data.max_unreadable", self.max_unreadable, "a share from 0 to 1")
        require(self.processes is None or self.processes >= 1, "data.processes", self.processes, "1 or more")
        fits = not isinstance(self.weight, bool) and math.isfinite(self.weight) and self.weight > 0
        require(fits, "weight", self.weight, "a number above 0; leave the source out instead")

    def settings(self) -> dict[str, Any]:
        """Return the attributes as plain values with absolute paths, without ``processes``."""
        values = {name: value for name, value in asdict(self).items() if name != "processes"}
        return {**values, **{name: str(Path(values[name]).resolve()) for name in ("root", "packs")}}

    def open_reader(self, preprocessing: Preprocessing) -> Reader:
        """Create the reader of the release, with landmarks if crops are aligned."""
        reader = open_reader(Path(self.root), self.reader, **self.reader_options)
        aligned = self.crop == "box" and preprocessing.alignment == "eyes"
        if aligned and "landmarks" in reader.options() and "landmarks" not in self.reader_options:
            reader = open_reader(Path(self.root), reader.name, **self.reader_options, landmarks=True)
        reader.named_classes = self.classes is not None and not isinstance(self.classes, int)
        return reader

    def packing(self, preprocessing: Preprocessing) -> Packing:
        """Return the `Packing` of this data set."""
        reader, packs = self.open_reader(preprocessing), Path(self.packs)
        return Packing(reader, preprocessing, packs, self.crop, self.processes, self.max_unreadable)

    def prepare(self, preprocessing: Preprocessing, report: Report = log.info) -> tuple[Pack, bool]:
        """Make the pack if it does not exist, and open it; returns the pack and whether it existed.

        Warns if label files or folders of the release have changed since it was packed; `report` as in `Packing.make`.
        """
        packing = self.packing(preprocessing)
        existed, pack = packing.is_made, packing.make(report)
        then = pack.manifest.get("release", {}).get("label_files")
        if existed and then is not None and then != label_files_state(Path(self.root), packing.packs):
            log.warning(
                "%s has changed since it was packed on %s; the existing pack is used. `python -m emodet.prepare` with "
                "the same settings compares both; with force=true it packs again",
                *(self.root, pack.manifest.get("packed")),
            )
        return pack, existed

    def require_unchanged(self, pack: Pack, preprocessing: Preprocessing) -> None:
        """Raise `EmodetError` if samples, or sizes or times of files, have changed since the release was packed."""
        packing = self.packing(preprocessing)
        now = packing.state(packing.reader.read().samples)
        words = {"listing": "other faces or annotations", "files": "other files, sizes or times"}
        changed = [words[what] for what in words if now[what] != pack.manifest.get("release", {}).get(what)]
        if changed:
            raise EmodetError(
                f"data.root={self.root} has changed since it was packed on {pack.manifest.get('packed')} "
                f"({'; '.join(changed)}): force=true packs it again"
            )

    def usable(self, table: Table, class_names: Sequence[str]) -> Bools:
        """Return which faces of a table, whose first classes are these, can be used: bool (N,)."""
        own = class_names if self.classes is None else chosen_classes(self.classes)
        columns = [column for column, name in enumerate(class_names) if place_of(name, own) is not None]
        usable = np.isin(table.emotion, columns)
        if self.labels == "soft":
            # A face without an emotion is used if its soft label concerns these classes.
            usable |= (table.emotion < 0) & (np.nan_to_num(table.soft_label[:, columns]).sum(axis=1) > 0)
        return np.asarray(usable)


SOURCE_KEYS = tuple(field.name for field in fields(Source))
"""Keys of ``data`` that can be set for one data set of a mix."""

# The name becomes part of metric names and keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_DRAWN = "Without it, data=synthetic runs the same on drawn faces"
_HOW_TO_GET = {
    "affectnet": (
        "AffectNet is given to researchers by its authors, who ask for a signed agreement: "
        "https://mohammadmahoor.com/pages/databases/affectnet/. Unpack it and name its folder with "
        f"data.root=/path/to/AffectNet or the environment variable EMODET_AFFECTNET. {_DRAWN}"
    ),
    "ferplus": (
        "FER+ is one Parquet file with the pictures of FER2013 and the votes of FER+ (docs/data.md). Name it with "
        f"data.root=/path/to/ferplus or the environment variable EMODET_FERPLUS. {_DRAWN}"
    ),
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Keys of the configuration group ``data``.

    All other keys are arguments of `Source` and `EmotionDataModule`.

    Attributes:
        root: Folder of the data set; None for a mix.
        sources: For a mix: settings of each data set by name, which override the other keys.
        packs: See `Source`; None for `default_packs`.
    """

    root: str | None = None
    sources: Any = None
    packs: str | None = None
    reader: str = "auto"
    reader_options: dict[str, Any] | None = None
    crop: str = "image"
    labels: str = "hard"
    val_from: str | float = "auto"
    processes: int | None = None
    max_unreadable: float = 0.01
    classes: int | Sequence[str] | None = None
    split_seed: int = 0
    batch_size: int = 32
    eval_batch_size: int = 256
    sampling: str = "natural"
    training_faces: int | None = None
    num_workers: int | None = None
    corrections: str | None = None


def take_sources(values: dict[str, Any]) -> Source | dict[str, Source]:
    """Build the data set, or those of a mix by name; their settings are removed from the values of `DataSettings`."""
    given, root, reader, options = (values.pop(name) for name in ("sources", "root", "reader", "reader_options"))
    shared = {name: values.pop(name) for name in SOURCE_KEYS if name in values and name != "classes"}
    shared["packs"] = default_packs() if shared["packs"] is None else shared["packs"]
    if given:
        if root is not None:
            raise EmodetError(f"data.root={root} is for one data set; in a mix each has its own in data.sources")
        return {name: _source(name, own, shared) for name, own in given.items()}
    if root is None:
        raise EmodetError(f"data.root is not set. {_how_to_get(reader)}")
    return Source(root, reader, options or {}, **shared)


def _source(name: str, values: Mapping[str, Any], shared: Mapping[str, Any]) -> Source:
    if not _NAME.fullmatch(name):
        raise EmodetError(f"'data.sources: {name}': expected a name of letters, digits, - and _")
    with naming(name):
        if unknown := sorted(set(values) - set(SOURCE_KEYS)):
            known = ", ".join(SOURCE_KEYS)
            raise EmodetError(f"{', '.join(unknown)} cannot be set for one data set; there are {known}")
        if values.get("root") is None:
            raise EmodetError(f"root is not set: data.sources={{{name}: {{root: /path}}}}")
        return Source(**{**shared, **values})


def _how_to_get(reader: str) -> str:
    if reader in _HOW_TO_GET:
        return _HOW_TO_GET[reader]
    if reader not in READERS or reader.startswith("affectnet") or reader == "yolo":
        return _HOW_TO_GET["affectnet"]
    return f"Name the folder of {READERS[reader].title} with data.root=/path: {READERS[reader].signs}"
