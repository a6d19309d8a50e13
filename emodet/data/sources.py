"""One data set of a run: where it lies, how it is read and cut, and what its faces are used for."""

import inspect
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.data.changes import Changes, check_release
from emodet.data.cropping import check_crop, require_croppable
from emodet.data.pack import Pack, Table
from emodet.data.packing import Packing, pack_folder
from emodet.data.parts import Shard
from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.samples import Listing, Reader
from emodet.data.sharding import ShardDone
from emodet.synthetic.releases import write_release
from emodet.emotions import class_names
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["SOURCE_SETTINGS", "Source", "sources_of"]

log = logging.getLogger(__name__)

# It becomes part of metric names and of keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SOURCE_SETTINGS = (
    *("root", "packs", "reader", "reader_options", "synthetic", "crop", "classes", "labels", "val_from", "weight"),
    *("processes", "max_unreadable", "changed"),
)
"""What can be set for one data set of a mix."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A release as the configuration names it.

    Attributes:
        root: Where the release lies.
        preprocessing: What a crop is.
        packs: The folder in which packs lie.
        name: What a mix of several calls it; empty where it is the only one.
        reader: The reader's name, or ``auto`` to go by the release's signs.
        reader_options: The reader's own arguments. Where crops are turned by the eyes, a reader that can read landmarks
            does so without being told.
        synthetic: Arguments of `write_release`: the release is drawn into `root` first.
        crop: ``image`` (stored pictures are face crops) or ``box``.
        classes: 8, or 7 without contempt.
        labels: ``hard`` or ``soft``, see `EmotionDataModule`.
        val_from: See `emodet.data.splits.assign_splits`.
        weight: How many times as often as those of a source with weight 1 its faces are drawn in training.
        processes: How many prepare; None takes one per core.
        max_unreadable: The share of pictures that may be unreadable.
        changed: What to do where the release is no longer what was packed of it: ``refuse``, or ``use`` the pack as it
            is.

    Raises:
        EmodetError: A value is out of its range.
    """

    root: Path
    preprocessing: Preprocessing
    packs: Path
    name: str = ""
    reader: str = "auto"
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    synthetic: Mapping[str, Any] | None = None
    crop: str = "image"
    classes: int = 8
    labels: str = "hard"
    val_from: str | float = "auto"
    weight: float = 1.0
    processes: int | None = None
    max_unreadable: float = 0.01
    changed: str = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser())
        class_names(self.classes)
        if self.labels not in ("hard", "soft"):
            raise EmodetError(f"data.labels={self.labels!r}: there are hard and soft")
        if self.changed not in ("refuse", "use"):
            raise EmodetError(f"data.changed={self.changed!r}: there are refuse and use")
        if isinstance(self.weight, bool) or not (math.isfinite(self.weight) and self.weight > 0):
            raise EmodetError(f"weight={self.weight!r}: a number above 0 was expected; leave the source out instead")

    def settings(self) -> dict[str, Any]:
        """What `sources_of` makes the same source from, as plain values with absolute paths; without ``processes``."""
        values = {name: getattr(self, name) for name in SOURCE_SETTINGS if name != "processes"}
        paths = {name: str(values[name].resolve()) for name in ("root", "packs")}
        return {**values, **paths, "reader_options": dict(self.reader_options)}

    @property
    def soft(self) -> bool:
        """Whether it trains on soft labels where there are any."""
        return self.labels == "soft"

    def open_reader(self) -> Reader:
        """The reader of the release, which is drawn first where it is a synthetic one.

        Raises:
            EmodetError: See `emodet.datasets.readers.open_reader`.
        """
        with self._named():
            return self._open_reader()

    def pack_folder(self) -> Path:
        """Where the pack lies, or will lie."""
        return pack_folder(self.open_reader(), self.preprocessing, self.crop, self.packs)

    def read(self) -> tuple[Reader, Listing]:
        """List the faces without opening a picture, for `emodet.datasets.summary.listing_summary`.

        Raises:
            EmodetError: The release cannot be read, or its faces cannot be cut as `crop` asks.
        """
        reader = self.open_reader()
        with self._named():
            check_crop(self.crop)
            listing = reader.read()
            require_croppable(listing.samples, self.crop, self.preprocessing, self.max_unreadable)
        return reader, listing

    def packing(self, announce: Callable[[Reader, Listing], None] | None = None) -> Packing:
        """How it is packed.

        Args:
            announce: Told what was listed, before the long work.
        """
        reader = self.open_reader()
        return Packing(
            reader=reader,
            preprocessing=self.preprocessing,
            packs=self.packs,
            crop=self.crop,
            processes=self.processes,
            max_unreadable=self.max_unreadable,
            announce=None if announce is None else lambda listing: announce(reader, listing),
        )

    def prepare(
        self,
        announce: Callable[[Reader, Listing], None] | None = None,
        *,
        thorough: bool = False,
        merge: bool = False,
    ) -> tuple[Pack, bool]:
        """Make the pack where there is none yet, and open it; or make sure that the release is still what was packed.

        Args:
            announce: Told what was listed, before the long work of packing; not called where the pack is there.
            thorough: See `emodet.data.changes.check_release`.
            merge: Join the shards that are there instead of preparing what is missing.

        Returns:
            The pack, and whether it was there.

        Raises:
            EmodetError: The release has changed since; or see `emodet.data.packing.Packing`.
        """
        packing = self.packing(announce)
        with self._named():
            if packing.is_there():
                pack = Pack(packing.folder)
                self._require_unchanged(pack, check_release(pack, packing.cropper, self.packs, thorough=thorough))
                return pack, True
            log.info(
                "preparing %s from %s into %s (once; later runs open the pack)",
                *(packing.reader.title, self.root, packing.folder),
            )
            return packing.merged() if merge else packing.whole(), False

    def prepare_shard(self, shard: Shard, announce: Callable[[Reader, Listing], None] | None = None) -> ShardDone:
        """Make one machine's share of the pack: see `emodet.data.packing.Packing.shard`."""
        with self._named():
            return self.packing(announce).shard(shard)

    def _require_unchanged(self, pack: Pack, changes: Changes) -> None:
        if not changes:
            return
        found = f"{self.root} is no longer what was packed of it on {pack.manifest['packed']}: {changes}"
        if self.changed == "refuse":
            raise EmodetError(
                f"{found}. `python -m emodet.prepare` with force=true and the same settings packs it again; "
                f"data.changed=use goes on with {pack.folder} as it is"
            )
        log.warning("%s. The pack is used as it is (data.changed=use)", found)

    def usable(self, table: Table) -> npt.NDArray[np.bool_]:
        """Which faces of its table can be used at all: bool (N,)."""
        usable = (table.emotion >= 0) & (table.emotion < self.classes)
        if self.soft:
            # A face without an emotion still teaches where its soft label says something about these classes.
            usable |= (table.emotion < 0) & (np.nan_to_num(table.soft_label[:, : self.classes]).sum(axis=1) > 0)
        return np.asarray(usable)

    def _open_reader(self) -> Reader:
        if self.synthetic is not None:
            write_release(self.root, **self.synthetic)
        reader = open_reader(self.root, self.reader, **self.reader_options)
        needs_eyes = self.crop == "box" and self.preprocessing.alignment == "eyes"
        can_read_them = "landmarks" in inspect.signature(READERS[reader.name]).parameters
        if needs_eyes and can_read_them and "landmarks" not in self.reader_options:
            reader = open_reader(self.root, reader.name, **self.reader_options, landmarks=True)
        return reader

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in an error which data set of a mix it is about."""
        try:
            yield
        except EmodetError as problem:
            if not self.name:
                raise
            raise EmodetError(f"data.sources: {self.name}: {problem}") from None


def sources_of(given: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]) -> tuple[Source, ...]:
    """The data sets of a mix.

    Args:
        given: Each one's own settings, by its name.
        shared: What holds for those that say nothing else. Classes are the exception: a data set may have fewer of
            them than the mix, not more.

    Raises:
        EmodetError: There is none, a name or a setting is not one, or a value is out of its range. The message names
            the data set.
    """
    if not given:
        raise EmodetError("data.sources is empty: name data sets, as in data.sources=[affectnet8,rafdb]")
    found = []
    for name, values in given.items():
        where = f"data.sources: {name}"
        if not _NAME.fullmatch(name):
            raise EmodetError(f"{where!r}: a name of letters, digits, - and _ was expected")
        unknown = sorted(set(values) - set(SOURCE_SETTINGS))
        if unknown:
            raise EmodetError(
                f"{where}: {', '.join(unknown)} cannot be set for one data set; there are {', '.join(SOURCE_SETTINGS)}"
            )
        if values.get("root") is None:
            raise EmodetError(f"{where}: root is not set; say where it lies: data.sources={{{name}: {{root: /path}}}}")
        settings = {**shared, **values, "name": name}
        settings["classes"] = min(settings["classes"], shared["classes"])
        settings["packs"] = Path(settings["packs"]).expanduser()
        try:
            found.append(Source(**settings))
        except EmodetError as problem:
            raise EmodetError(f"{where}: {problem}") from None
    return tuple(found)
