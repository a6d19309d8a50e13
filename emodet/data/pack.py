"""The pack: a prepared data set, opened in milliseconds and shared by all worker processes.

A pack is a folder. ``images-NNNNN.npy`` hold uint8 crops (faces, size, size, 3), or one channel where the crops are
grey; ``table.parquet`` holds one row per face in the same order; ``manifest.json`` says what was packed and how, and is
written last. A folder without a valid manifest is not a pack, so nothing half-written ever looks whole.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["BLOCK_BYTES", "FORMAT", "VERSION", "Pack", "Table", "block_hashes", "counts_by_split", "fingerprint_of"]

FORMAT = "emodet-pack"
VERSION = 1
BLOCK_BYTES = 64 * 2**20
_BLOCKS_CHECKED_ON_OPENING = 8
_NEEDED = frozenset({"counts", "expected", "fingerprint", "preprocessing", "shards", "table_sha256"})


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a pack as arrays, one entry per face.

    Attributes:
        key: str (N,).
        split: str (N,), train, val or test as the release says.
        emotion: int64 (N,), 0 to 7, -1 where there is none.
        soft_label: float32 (N, 8), rows sum to 1, or all NaN where there is none.
        valence: float32 (N,), -1 to 1, NaN where there is none.
        arousal: float32 (N,), likewise.
        subject: str (N,), empty where unknown.
        pixel_hash: str (N,), equal for identical crops.
    """

    key: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    emotion: npt.NDArray[np.int64]
    soft_label: npt.NDArray[np.float32]
    valence: npt.NDArray[np.float32]
    arousal: npt.NDArray[np.float32]
    subject: npt.NDArray[np.str_]
    pixel_hash: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.key)

    def to_arrow(self) -> pa.Table:
        """The table as Parquet stores it."""
        flat = pa.array(self.soft_label.astype(np.float32).reshape(-1))
        columns = {
            "key": pa.array(self.key.tolist(), pa.string()),
            "split": pa.array(self.split.tolist(), pa.string()),
            "emotion": pa.array(self.emotion.astype(np.int8)),
            "soft_label": pa.FixedSizeListArray.from_arrays(flat, len(EMOTIONS)),
            "valence": pa.array(self.valence.astype(np.float32)),
            "arousal": pa.array(self.arousal.astype(np.float32)),
            "subject": pa.array(self.subject.tolist(), pa.string()),
            "pixel_hash": pa.array(self.pixel_hash.tolist(), pa.string()),
        }
        return pa.table(columns)

    def digest(self) -> str:
        """SHA-256 of the content, whatever library wrote it to disk."""
        total = hashlib.sha256()
        for column in (self.key, self.split, self.subject, self.pixel_hash):
            total.update(json.dumps(column.tolist()).encode())
        for numbers in (self.emotion, self.soft_label, self.valence, self.arousal):
            total.update(np.ascontiguousarray(numbers).tobytes())
        return total.hexdigest()

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "Table":
        """The inverse of `to_arrow`."""

        def text(name: str) -> npt.NDArray[np.str_]:
            return np.asarray(table.column(name).to_numpy().astype(np.str_))

        soft = table.column("soft_label").combine_chunks()
        return cls(
            key=text("key"),
            split=text("split"),
            emotion=table.column("emotion").to_numpy().astype(np.int64),
            soft_label=np.asarray(soft.flatten(), dtype=np.float32).reshape(-1, len(EMOTIONS)),
            valence=table.column("valence").to_numpy().astype(np.float32),
            arousal=table.column("arousal").to_numpy().astype(np.float32),
            subject=text("subject"),
            pixel_hash=text("pixel_hash"),
        )


class Pack:
    """A prepared data set on disk.

    Opening checks the manifest, the table's hash, the size of the image files and the hashes of up to eight evenly
    spaced 64 MiB blocks of them; `verify` checks every byte. Images are mapped, not read, and a pickled pack carries
    only its path, so worker processes share one copy of the pixels.

    Args:
        folder: The pack's folder.

    Raises:
        EmodetError: There is no pack, it is of another version, or its content is not what the manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self.preprocessing = Preprocessing.from_dict(self.manifest["preprocessing"])
        self._check_sizes()
        self._check_blocks(_BLOCKS_CHECKED_ON_OPENING)
        self._check_table()

    @property
    def fingerprint(self) -> str:
        """Hex digits that are equal on any two machines that hold the same crops with the same annotations."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def table(self) -> Table:
        """What is known about each face."""
        return Table.from_arrow(pq.read_table(self.folder / "table.parquet"))

    def __len__(self) -> int:
        return int(sum(shard["faces"] for shard in self.manifest["shards"]))

    def images(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Fetch crops.

        Args:
            indices: Positions in the table, any order, repeats allowed.

        Returns:
            uint8 (len(indices), size, size, 3), RGB; a new array.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"indices from {wanted.min()} to {wanted.max()} in a pack of {len(self)} faces")
        size = self.preprocessing.size
        crops = np.empty((len(wanted), size, size, self._channels), dtype=np.uint8)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(shard_of):
            here = shard_of == number
            crops[here] = self._shards[number][wanted[here] - self._starts[number]]
        return np.repeat(crops, 3, axis=3) if self._channels == 1 else crops

    def verify(self) -> None:
        """Compare every byte with the manifest.

        Raises:
            EmodetError: A file was changed or damaged.
        """
        self._check_sizes()
        self._check_blocks(None)
        self._check_table()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "manifest", "preprocessing")
        return {name: value for name, value in self.__dict__.items() if name in kept}

    @property
    def _channels(self) -> int:
        return 1 if self.preprocessing.colour == "grey" else 3

    @cached_property
    def _shards(self) -> list[npt.NDArray[np.uint8]]:
        return [
            np.load(self.folder / shard["file"], mmap_mode="r", allow_pickle=False) for shard in self.manifest["shards"]
        ]

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(shard["faces"] for shard in self.manifest["shards"][:-1])])

    def _check_sizes(self) -> None:
        size = self.preprocessing.size
        for shard in self.manifest["shards"]:
            file = self.folder / shard["file"]
            if not file.is_file():
                raise self._broken(shard["file"])
            try:
                shape = np.load(file, mmap_mode="r", allow_pickle=False).shape
            except (ValueError, OSError, EOFError):
                raise self._broken(shard["file"]) from None
            if shape != (shard["faces"], size, size, self._channels):
                raise self._broken(shard["file"])
        if not (self.folder / "table.parquet").is_file():
            raise self._broken("table.parquet")

    def _check_blocks(self, most: int | None) -> None:
        blocks = [(shard, number) for shard in self.manifest["shards"] for number in range(len(shard["blocks"]))]
        if most is not None and len(blocks) > most:
            blocks = [blocks[position] for position in np.linspace(0, len(blocks) - 1, most).astype(int)]
        for shard, number in blocks:
            with (self.folder / shard["file"]).open("rb") as file:
                file.seek(number * BLOCK_BYTES)
                if hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest() != shard["blocks"][number]:
                    raise self._broken(shard["file"])

    def _check_table(self) -> None:
        if _sha256(self.folder / "table.parquet") != self.manifest["table_sha256"]:
            raise self._broken("table.parquet")

    def _broken(self, name: str) -> EmodetError:
        return EmodetError(
            f"pack {self.folder}: {name} is missing or is not what the manifest says. It was changed or damaged "
            "after it was packed; delete the folder and prepare it again"
        )


def block_hashes(file: Path) -> Iterator[str]:
    """SHA-256 of each 64 MiB block of a file, in order."""
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield hashlib.sha256(block).hexdigest()


def counts_by_split(table: Table) -> dict[str, dict[str, int]]:
    """Faces per split and class name; faces without an emotion stand under ``without emotion``."""
    names = {-1: "without emotion", **dict(enumerate(EMOTIONS))}
    found: dict[str, dict[str, int]] = {}
    for split in ("train", "val", "test"):
        ids = Counter(table.emotion[table.split == split].tolist())
        if ids:
            found[split] = {name: ids[number] for number, name in names.items() if ids[number]}
    return found


def fingerprint_of(table: Table, shards: Sequence[Mapping[str, Any]], preprocessing: Preprocessing) -> str:
    """What `Pack.fingerprint` is: a hash over the content's hashes, free of paths and times."""
    parts = {
        "version": VERSION,
        "table": table.digest(),
        "shards": [shard["blocks"] for shard in shards],
        "crop": preprocessing.fingerprint(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / "manifest.json"
    if not file.is_file():
        raise EmodetError(f"{folder}: not a pack (it has no manifest.json). `python -m emodet.prepare` makes one")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError("it is not a pack's manifest")
    except (ValueError, UnicodeDecodeError) as problem:
        raise EmodetError(f"{file}: unreadable ({problem}); delete {folder} and prepare it again") from None
    if manifest.get("version") != VERSION:
        raise EmodetError(
            f"pack {folder} has version {manifest.get('version')}, this emodet reads version {VERSION}; "
            "delete it and prepare it again"
        )
    missing = sorted(_NEEDED - set(manifest))
    if missing:
        raise EmodetError(f"{file}: {', '.join(missing)} is missing in it; delete {folder} and prepare it again")
    return manifest
