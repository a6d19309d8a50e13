"""Parts of a pack: consecutive faces that one machine has cut, kept until all are there.

A preparation works part by part. What is finished stays, so that a run that was killed or found the disk full is
carried on by the next one, and so that several machines can share the work: each part is a folder that appears whole.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import features

from emodet.data.image_file import ImageFile, open_images
from emodet.data.pack import TABLE, VERSION, crop_hash, file_sha256, table_of
from emodet.datasets.samples import Reader, Sample
from emodet.data.release_state import Pictures
from emodet.data.unfinished import SUFFIX
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["PART_BYTES", "PICTURES", "Part", "Parts", "Shard", "Work", "spans"]

PART_BYTES = 2**29
"""Of crops in one part, at most: what is lost when a preparation is killed."""
PICTURES = "pictures.parquet"
_FORMAT = "emodet-pack-part"
_FACTS = "part.json"
_IMAGES = "images.npy"
_CHECKED = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """The share of one machine: the 3rd of 16 takes the faces from 2/16 to 3/16 of the listing.

    Attributes:
        number: From 1.
        count: Of all shards.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise EmodetError(f"shard={self}: a number from 1 to {max(self.count, 1)} was expected before the slash")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """``3/16``.

        Raises:
            EmodetError: It is not of that form.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if found is None:
            raise EmodetError(f"shard={text}: which of how many was expected, as in shard=3/16")
        return cls(int(found[1]), int(found[2]))

    def rows(self, faces: int) -> range:
        """Its share of so many faces."""
        return range(faces * (self.number - 1) // self.count, faces * self.number // self.count)


def spans(rows: range, row_bytes: int) -> list[range]:
    """Consecutive rows in pieces of equal size, each of at most `PART_BYTES` bytes and at least a row."""
    most = max(1, PART_BYTES // row_bytes)
    count = -(-len(rows) // most)
    edges = [rows.start + len(rows) * number // max(count, 1) for number in range(count + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What must be the same for parts to belong together.

    Attributes:
        reader: Its name.
        options: Of the reader.
        crop: ``image`` or ``box``.
        preprocessing: What a crop is.
        listing: See `emodet.data.release_state.listing_digest`.
        faces: Of the whole listing.
        version: Of packs.
    """

    reader: str
    options: Mapping[str, Any]
    crop: str
    preprocessing: Preprocessing
    listing: str
    faces: int
    version: int = VERSION

    @classmethod
    def of(cls, reader: Reader, crop: str, preprocessing: Preprocessing, listing: str, faces: int) -> "Work":
        """For a release as it was listed; where it lies plays no part."""
        return cls(
            reader=reader.name,
            options=reader.options(),
            crop=crop,
            preprocessing=preprocessing,
            listing=listing,
            faces=faces,
        )

    def facts(self) -> dict[str, Any]:
        """As JSON has them."""
        return {
            "version": self.version,
            "reader": self.reader,
            "options": json.loads(json.dumps(self.options, default=str)),
            "crop": self.crop,
            "preprocessing": self.preprocessing.fingerprint(),
            "listing": self.listing,
            "faces": self.faces,
        }

    @property
    def name(self) -> str:
        """Of the folder of its parts: equal on all machines."""
        digest = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()
        return f"{self.prefix}{digest[:12]}.parts"

    @property
    def prefix(self) -> str:
        """What the names of similar work begin with."""
        return f"{self.reader}-{self.preprocessing.size}px-"


@dataclass(frozen=True)
class Part:
    """A finished part on disk.

    Attributes:
        folder: Of its own.
        facts: As its file says.
        work: What it belongs to.
    """

    folder: Path
    facts: Mapping[str, Any]
    work: Work

    @property
    def rows(self) -> range:
        """Of the listing."""
        return range(self.facts["start"], self.facts["stop"])

    @property
    def faces(self) -> int:
        """How many of them could be read."""
        return int(self.facts["packed"])

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """Key and reason of the others."""
        return list(self.facts["unreadable"])

    @property
    def images(self) -> Path:
        """The crops; there is no such file where no picture could be read."""
        return self.folder / _IMAGES

    @cached_property
    def table(self) -> pa.Table:
        """As a pack's table has it, for the faces that could be read."""
        return pq.read_table(self.folder / TABLE)

    @cached_property
    def pictures(self) -> Pictures:
        """All its listed faces as they were when they were cut."""
        return Pictures.from_arrow(pq.read_table(self.folder / PICTURES))

    def hashes(self) -> dict[str, str]:
        """The `crop_hash` of each face that could be read, by key."""
        keys, hashes = (self.table.column(name).to_pylist() for name in ("key", "pixel_hash"))
        return dict(zip(keys, hashes, strict=True))

    def check(self, *, every: bool) -> None:
        """Compare its files with what they should be: every crop, or 64 of them.

        Raises:
            EmodetError: One is missing, cut off or changed.
        """
        for name in (TABLE, PICTURES):
            if not (self.folder / name).is_file() or file_sha256(self.folder / name) != self.facts["sha256"][name]:
                raise self._broken(name)
        if self.faces == 0:
            return
        size, grey = self.work.preprocessing.size, self.work.preprocessing.colour == "grey"
        try:
            images = open_images(self.images, self.faces, size, 1 if grey else 3)
        except ValueError:
            raise self._broken(_IMAGES) from None
        hashes = self.table.column("pixel_hash").to_pylist()
        for row in np.linspace(0, self.faces - 1, self.faces if every else min(_CHECKED, self.faces)).astype(int):
            if crop_hash(images[row]) != hashes[row]:
                raise self._broken(_IMAGES)

    def _broken(self, name: str) -> EmodetError:
        return EmodetError(
            f"{self.folder}: {name} is missing or is not what was written. The part was changed, damaged, or not "
            f"copied to its end; copy it again, or delete the folder and prepare shard={self.facts['shard']} again"
        )


class Parts:
    """The folder in which the parts of some work lie.

    Args:
        work: What they belong to.
        packs: The folder in which packs lie.
    """

    def __init__(self, work: Work, packs: Path) -> None:
        self.work, self.packs = work, packs
        self.folder = packs / work.name

    def place(self, rows: range) -> Path:
        """Where the part of these rows lies, or will lie."""
        return self.folder / f"{rows.start:09d}-{rows.stop:09d}"

    def found(self) -> list[Part]:
        """The parts that are there, by their rows.

        Raises:
            EmodetError: A folder among them is not whole, or belongs to other work.
        """
        try:
            folders = sorted(each for each in self.folder.iterdir() if each.is_dir() and SUFFIX not in each.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(map(self._open, folders), key=lambda part: (part.rows.start, -part.rows.stop))

    def missing(self, among: range, parts: Sequence[Part]) -> list[range]:
        """The rows of `among` that none of the parts has."""
        gaps, start = [], among.start
        for part in parts:
            if part.rows.start > start:
                gaps.append(range(start, min(part.rows.start, among.stop)))
            start = max(start, part.rows.stop)
        gaps.append(range(start, among.stop))
        return [gap for gap in gaps if len(gap)]

    def in_order(self, parts: Sequence[Part]) -> list[Part]:
        """Parts that hold every face once.

        Raises:
            EmodetError: Two overlap.
        """
        chosen: list[Part] = []
        for part in parts:
            end = chosen[-1].rows.stop if chosen else 0
            if part.rows.stop <= end:
                continue  # all of it lies in a larger one
            if part.rows.start < end:
                raise EmodetError(
                    f"{chosen[-1].folder.name} and {part.folder.name} in {self.folder} have faces in common: they were "
                    "prepared for other numbers of shards. Delete one of them and prepare what is then missing"
                )
            chosen.append(part)
        return chosen

    def write(
        self,
        folder: Path,
        records: Sequence[Sample],
        pictures: Pictures,
        hashes: Sequence[str | None],
        reasons: Sequence[str | None],
        about: Mapping[str, Any],
    ) -> None:
        """Write everything of a part but its crops, which are in `image_file` of the same folder.

        Raises:
            OSError: It cannot be written.
        """
        readable = [row for row, pixel_hash in enumerate(hashes) if pixel_hash is not None]
        image_file = self.image_file(folder, len(records))
        if not readable:
            image_file.path.unlink()
        elif len(readable) < len(records):
            image_file.keep(readable)
        table = table_of([records[row] for row in readable], [str(hashes[row]) for row in readable])
        pq.write_table(table.to_arrow(), folder / TABLE)
        pq.write_table(pictures.to_arrow(), folder / PICTURES)
        facts = {
            "format": _FORMAT,
            **self.work.facts(),
            **about,
            "packed": len(readable),
            "unreadable": [
                {"key": record.key, "reason": reason}
                for record, reason in zip(records, reasons, strict=True)
                if reason is not None
            ],
            "sha256": {name: file_sha256(folder / name) for name in (TABLE, PICTURES)},
            "made_with": _libraries(),
        }
        (folder / _FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")

    def image_file(self, folder: Path, rows: int) -> ImageFile:
        """The image file of a part with so many rows."""
        preprocessing = self.work.preprocessing
        return ImageFile(folder / _IMAGES, rows, preprocessing.size, 1 if preprocessing.colour == "grey" else 3)

    def others(self) -> Iterator[tuple[Path, str]]:
        """Similar work beside it, and in words what it differs in: where else a missing shard may have gone."""
        for folder in sorted(self.packs.glob(f"{self.work.prefix}*.parts")):
            facts = next(filter(None, map(_facts_in, sorted(folder.glob(f"*/{_FACTS}")))), None)
            if folder != self.folder and facts is not None:
                yield folder, ", ".join(self._differences(facts))

    def remove(self) -> None:
        """Delete them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, folder: Path) -> Part:
        facts = _facts_in(folder / _FACTS)
        if facts is None:
            raise EmodetError(f"{folder}: not a whole part (no readable {_FACTS}); copy it again, or delete it")
        differences = self._differences(facts)
        if differences:
            raise EmodetError(
                f"{folder}: this part belongs to other work, with another {', '.join(differences)}; delete it, or put "
                "it where it came from"
            )
        return Part(folder, facts, self.work)

    def _differences(self, facts: Mapping[str, Any]) -> list[str]:
        return [name for name, value in self.work.facts().items() if facts.get(name) != value]


def _facts_in(file: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    needed = {"start", "stop", "shard", "packed", "unreadable", "sha256", "made_with"}
    return facts if isinstance(facts, dict) and facts.get("format") == _FORMAT and needed <= set(facts) else None


def _libraries() -> dict[str, str]:
    """What decides a crop's pixels besides the pictures."""
    jpeg = features.version("jpg") or ""
    return {"Pillow": PIL.__version__, "libjpeg": str(jpeg), "OpenCV": cv2.__version__}
