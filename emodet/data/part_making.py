"""Cutting the parts of a pack that are not there yet, and throwing away those that are no longer right."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emodet.data.changes import changed_pictures
from emodet.data.cutting import Cropper, CropPool
from emodet.data.parts import Part, Parts, Shard, spans
from emodet.datasets.samples import Listing, Sample
from emodet.data.release_state import Pictures, annotation_digests
from emodet.data.unfinished import place_to_write, put_in_place
from emodet.errors import EmodetError

__all__ = ["PartMaking", "require_readable"]

log = logging.getLogger(__name__)

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class PartMaking:
    """How the parts of a listing are made.

    Attributes:
        cropper: What cuts one face.
        processes: How many cut at once, see `emodet.data.cutting.CropPool`.
        max_unreadable: The share of all listed pictures that may be unreadable.
        progress: Whether to draw a progress bar on standard error.
        listing: All faces.
        parts: Where parts lie.
        is_over: Whether there is nothing left to do, as another process has made the whole pack.
    """

    cropper: Cropper
    processes: int | None
    max_unreadable: float
    progress: bool
    listing: Listing
    parts: Parts
    is_over: Callable[[], bool]
    _unreadable: list[Mapping[str, str]] = field(default_factory=list)

    def make(self, shard: Shard) -> list[Part]:
        """Make what is missing of a shard.

        Returns:
            Its parts, in order.

        Raises:
            EmodetError: There is too little room, or more pictures are unreadable than may be.
            OSError: A file cannot be written.
            BrokenProcessPool: A process that cuts was killed.
        """
        rows = shard.rows(len(self.listing.samples))
        kept = [part for part in self.parts.found() if not _meets(part.rows, rows) or self._is_still_right(part)]
        row_bytes = self.parts.image_file(self.parts.folder, 0).row_bytes
        todo = [span for gap in self.parts.missing(rows, kept) for span in spans(gap, row_bytes)]
        faces = sum(map(len, todo))
        self._unreadable[:] = [entry for part in kept for entry in part.unreadable]
        bar = tqdm(
            total=len(rows),
            initial=len(rows) - faces,
            unit="face",
            desc=f"packing {self.cropper.reader.title}" + ("" if shard.count == 1 else f", shard {shard}"),
            disable=not self.progress,
        )
        with bar, CropPool(self.cropper, self.processes, faces) as cutters:
            self._require_room(faces * row_bytes)
            for span in todo:
                place = self.parts.place(span)
                with place_to_write(place) as folder:
                    if self.is_over():
                        return []
                    if not place.is_dir():
                        self._make_part(span, shard, cutters, folder, bar)
                        put_in_place(folder, place)
        return [part for part in self.parts.found() if _meets(part.rows, rows)]

    def changed(self, part: Part) -> list[str]:
        """The keys of a part's faces whose pictures are no longer what was cut."""
        return changed_pictures(self.cropper, self._records(part.rows), part.pictures, part.hashes())

    def _make_part(self, span: range, shard: Shard, cutters: CropPool, folder: Path, bar: "tqdm[None]") -> None:
        records = self._records(span)
        image_file = self.parts.image_file(folder, len(records))
        image_file.create()
        hashes: list[str | None] = []
        reasons: list[str | None] = []
        facts: list[tuple[int, int]] = []
        for done in cutters.cut(records, image_file):
            hashes += done.hashes
            reasons += done.reasons
            facts += done.facts
            for record, reason in zip(records[done.start :], done.reasons, strict=False):
                if reason is not None:
                    self._unreadable.append({"key": record.key, "reason": reason})
            require_readable(self._unreadable, len(self.listing.samples), self.max_unreadable)
            bar.update(len(done.hashes))
        seen = np.array(facts, dtype=np.int64).reshape(-1, 2)
        pictures = Pictures([record.key for record in records], annotation_digests(records), seen[:, 0], seen[:, 1])
        about = {"start": span.start, "stop": span.stop, "shard": str(shard)}
        self.parts.write(folder, records, pictures, hashes, reasons, about)

    def _is_still_right(self, part: Part) -> bool:
        """Whether a part that was made before can be kept; where not, it is deleted."""
        try:
            part.check(every=False)
        except EmodetError as problem:
            log.warning("%s. It is made again now", problem)
        else:
            changed = self.changed(part)
            if not changed:
                return True
            log.warning("%s: %d pictures have changed since; it is made again", part.folder, len(changed))
        shutil.rmtree(part.folder)
        return False

    def _require_room(self, needed: int) -> None:
        packs = self.parts.packs
        packs.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(packs).free
        if needed > free:
            raise EmodetError(
                f"data.packs={packs}: the crops need {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free. Make "
                "room, or name another folder"
            )

    def _records(self, rows: range) -> tuple[Sample, ...]:
        return self.listing.samples[rows.start : rows.stop]


def require_readable(unreadable: Sequence[Mapping[str, str]], total: int, allowed: float) -> None:
    """Refuse more unreadable pictures than allowed.

    Args:
        unreadable: Key and reason of each.
        total: Of all pictures.
        allowed: The share of them that may be unreadable; even where all may, one must be readable.

    Raises:
        EmodetError: There are more.
    """
    if len(unreadable) <= allowed * total + 1e-6 and len(unreadable) < total:
        return
    shown = "\n".join(f"  {entry['key']}: {entry['reason']}" for entry in unreadable[:_NAMED])
    share, verb = ("none", "can") if allowed == 1 else (f"more than {allowed:.1%}", "cannot")
    raise EmodetError(
        f"{share} of the {total} pictures {verb} be read (data.max_unreadable={allowed:g}). First ones:\n{shown}\n"
        "Put the files right, or raise data.max_unreadable, the share that may be left out"
    )


def _meets(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
