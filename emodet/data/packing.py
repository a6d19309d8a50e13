"""From a release on disk to a pack: whole, or in shards on several machines that one of them joins.

Both ways cut part by part (`emodet.data.parts`) and then assemble the parts, so both make the same pack: its
fingerprint does not know how the work was shared out. What a killed run, or one that found the disk full, has finished
is kept and carried on.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emodet.data.assembling import assemble
from emodet.data.changes import compared
from emodet.data.cropping import check_crop, require_croppable
from emodet.data.cutting import Cropper
from emodet.data.pack import MANIFEST, VERSION, Pack
from emodet.data.part_making import PartMaking, require_readable
from emodet.data.parts import Part, Parts, Shard, Work
from emodet.datasets.samples import Listing, Reader
from emodet.data.release_state import Pictures, Traces, annotation_digests, listing_digest, traces_of
from emodet.data.sharding import ShardDone, require_all, shards_missing
from emodet.data.unfinished import place_to_write, put_in_place
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["Packing", "pack_folder", "prepare_pack"]

log = logging.getLogger(__name__)

_NAMED = 5


def pack_folder(
    reader: Reader, preprocessing: Preprocessing, crop: str, packs: Path, *, version: int = VERSION
) -> Path:
    """Where the pack of a release with these crops lies below `packs`: the name changes with anything that matters."""
    identity = {
        "version": version,
        "reader": reader.name,
        "root": str(reader.root.resolve()),
        "options": reader.options(),
        "preprocessing": preprocessing.fingerprint(),
        "crop": crop,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
    return packs / f"{reader.name}-{preprocessing.size}px-{digest[:12]}"


def prepare_pack(
    reader: Reader,
    preprocessing: Preprocessing,
    packs: Path,
    *,
    crop: str = "image",
    processes: int | None = None,
    max_unreadable: float = 0.01,
    progress: bool = True,
    announce: Callable[[Listing], None] | None = None,
) -> Pack:
    """Make the pack of a release, or open it where it is there already: see `Packing`."""
    packing = Packing(
        reader=reader,
        preprocessing=preprocessing,
        packs=packs,
        crop=crop,
        processes=processes,
        max_unreadable=max_unreadable,
        progress=progress,
        announce=announce,
    )
    return packing.whole()


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How a release is packed.

    Attributes:
        reader: The release.
        preprocessing: What a crop is.
        packs: The folder in which packs lie.
        crop: ``image`` takes each stored picture as a face crop, ``box`` cuts at the record's box.
        processes: How many decode at once; by default one per core, but none for less than 2,000 faces, as it takes
            seconds to start.
        max_unreadable: The share of pictures that may be unreadable. Those are listed in the manifest and left out.
        progress: Whether to draw a progress bar on standard error.
        announce: Told what was listed, before the long work.

    Raises:
        EmodetError: A value is out of its range.
    """

    reader: Reader
    preprocessing: Preprocessing
    packs: Path
    crop: str = "image"
    processes: int | None = None
    max_unreadable: float = 0.01
    progress: bool = True
    announce: Callable[[Listing], None] | None = None

    def __post_init__(self) -> None:
        check_crop(self.crop)
        if not 0 <= self.max_unreadable <= 1:
            raise EmodetError(f"data.max_unreadable={self.max_unreadable}: a share from 0 to 1 was expected")
        if self.processes is not None and self.processes < 1:
            raise EmodetError(f"data.processes={self.processes}: at least 1 was expected")

    @property
    def folder(self) -> Path:
        """Where the pack lies, or will lie."""
        return pack_folder(self.reader, self.preprocessing, self.crop, self.packs)

    @property
    def cropper(self) -> Cropper:
        """What cuts one face."""
        return Cropper(self.reader, self.preprocessing, self.crop)

    def whole(self) -> Pack:
        """Make the pack, or open it where it is there already.

        Raises:
            EmodetError: The release cannot be read, holds no face, misses boxes that `crop` needs, has more unreadable
                pictures than allowed, or changed while it was packed; or the disk is full. Finished parts are kept for
                the next run. (What a killed process was writing lies in a folder ``….unfinished`` until then.)
        """
        if (pack := self._there()) is not None:
            return pack
        traces = traces_of(self.reader.root, self.packs)
        listing = self._listed()
        making = self._making(listing)
        with self._saying_what_is_kept(making.parts), place_to_write(self.folder) as folder:
            # Another process may have been faster; its pack is as good as ours.
            if not self.is_there():
                making.make(Shard(1, 1))
                self._join(making, traces, folder, every=False)
        return Pack(self.folder)

    def shard(self, shard: Shard) -> ShardDone:
        """Make one machine's share; where it was made before, only what is missing of it.

        Raises:
            EmodetError: As for `whole`.
        """
        if self._there() is not None:
            raise EmodetError(f"{self.folder}: the whole pack is there already; shard={shard} has nothing to add")
        making = self._making(self._listed())
        faces, parts = len(making.listing.samples), making.parts
        with self._saying_what_is_kept(parts):
            mine = making.make(shard)
        return ShardDone(
            folder=parts.folder,
            rows=shard.rows(faces),
            faces=sum(part.faces for part in mine),
            unreadable=[entry for part in mine for entry in part.unreadable],
            missing=shards_missing(parts, faces, shard.count),
        )

    def merged(self) -> Pack:
        """Join the shards that are there to the pack, after comparing each crop with its hash.

        Raises:
            EmodetError: A shard is missing, damaged or of other work; or as for `whole`.
        """
        if (pack := self._there()) is not None:
            return pack
        traces = traces_of(self.reader.root, self.packs)
        making = self._making(self._listed())
        require_all(making.parts, len(making.listing.samples))
        with self._saying_what_is_kept(making.parts), place_to_write(self.folder) as folder:
            if not self.is_there():
                self._join(making, traces, folder, every=True)
        return Pack(self.folder)

    def is_there(self) -> bool:
        """Whether the pack is."""
        return (self.folder / MANIFEST).is_file()

    def _there(self) -> Pack | None:
        folder = self.folder
        if self.is_there():
            return Pack(folder)
        if folder.exists():
            raise EmodetError(f"{folder}: in the place of the pack lies something else (no {MANIFEST}); delete it")
        for version in range(1, VERSION):
            old = pack_folder(self.reader, self.preprocessing, self.crop, self.packs, version=version)
            if old.is_dir():
                log.warning(
                    "%s is a pack of version %d, this emodet makes and reads version %d: it is made again, and you can "
                    "delete the old one",
                    *(old, version, VERSION),
                )
        return None

    def _listed(self) -> Listing:
        listing = self.reader.read()
        if not listing.samples:
            raise EmodetError(
                f"{self.reader.title} in {self.reader.root}: no face in it. Left out: {dict(listing.left_out)}"
            )
        if self.announce is not None:
            self.announce(listing)
        require_croppable(listing.samples, self.crop, self.preprocessing, self.max_unreadable)
        return listing

    def _making(self, listing: Listing) -> PartMaking:
        digest = listing_digest(listing.samples, annotation_digests(listing.samples))
        work = Work.of(self.reader, self.crop, self.preprocessing, digest, len(listing.samples))
        return PartMaking(
            cropper=self.cropper,
            processes=self.processes,
            max_unreadable=self.max_unreadable,
            progress=self.progress,
            listing=listing,
            parts=Parts(work, self.packs),
            is_over=self.is_there,
        )

    def _join(self, making: PartMaking, traces: Traces, folder: Path, *, every: bool) -> None:
        """Put the pack together out of parts that hold each face, and delete them."""
        parts, listing = making.parts, making.listing
        found = parts.in_order(parts.found())
        if every:
            for part in found:
                part.check(every=True)
        unreadable = [entry for part in found for entry in part.unreadable]
        require_readable(unreadable, len(listing.samples), self.max_unreadable)
        traces = self._require_unchanged(making, found, traces)
        assemble(found, self.reader, listing, traces, folder)
        put_in_place(folder, self.folder)
        parts.remove()

    def _require_unchanged(self, making: PartMaking, found: Sequence[Part], before: Traces) -> Traces:
        """Refuse to join what was cut of a release that has changed in the meantime."""
        listing = making.listing
        changed: list[str] = []
        for part in found:
            keys = making.changed(part)
            if keys:
                changed += keys
                shutil.rmtree(part.folder)
        if changed:
            raise EmodetError(
                f"{self.reader.root}: {len(changed):,} pictures are not what was cut ({', '.join(changed[:_NAMED])}); "
                "they changed while the release was packed, or another machine has other copies of them. Prepare again "
                "when nothing writes to the release: all else is kept"
            )
        now = traces_of(self.reader.root, self.packs)
        if now != before:
            annotations = annotation_digests(listing.samples)
            listed = Pictures([record.key for record in listing.samples], annotations, _NOTHING, _NOTHING)
            changes = compared(self.reader.read().samples, listed)
            if changes:
                raise EmodetError(
                    f"{self.reader.root}: the release changed while it was packed: {changes}. Prepare again when "
                    "nothing writes to it"
                )
        return now

    @contextmanager
    def _saying_what_is_kept(self, parts: Parts) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise EmodetError(
                f"data.packs={self.packs}: writing the pack failed ({problem}); {self._what_is_kept(parts)}"
            ) from problem
        except BrokenProcessPool:
            raise EmodetError(
                "a process that prepares pictures was killed, perhaps for want of memory; "
                f"{self._what_is_kept(parts)}. Fewer at once need less: data.processes=1"
            ) from None
        finally:
            with suppress(OSError):
                parts.folder.rmdir()  # where it is empty

    def _what_is_kept(self, parts: Parts) -> str:
        faces = sum(len(part.rows) for part in parts.found())
        if not faces:
            return "nothing was kept"
        return f"{faces:,} of {parts.work.faces:,} faces are done and kept in {parts.folder}; run it again to carry on"


_NOTHING: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
