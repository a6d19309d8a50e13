"""The pack: a prepared data set that opens in milliseconds and is shared by all worker processes.

A pack is a folder. ``images.npy`` contains uint8 crops (faces, size, size, 3), or one channel for grey crops;
``table.parquet`` contains one row per face in the same order, with a hash of its crop; ``manifest.json`` describes
source and settings and is written last: a folder without a valid manifest is not a pack.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.arrays import Float32, Int64, UInt8
from emodet.datasets.samples import Sample
from emodet.emotions import EMOTIONS, checked_class_names
from emodet.errors import EmodetError
from emodet.files import sha256_of
from emodet.preprocessing import Preprocessing

FORMAT = "emodet-pack"
VERSION = 3
"""Version of the files."""
_CONTENT_VERSION = 2
"""Version of the fingerprint and of the cropping code."""
MANIFEST, TABLE, IMAGES = "manifest.json", "table.parquet", "images.npy"
_CHECKED_ON_OPENING = 64
_VERIFIED_AT_ONCE = 512
_TYPES: dict[str, type[Any]] = {
    **dict.fromkeys(("key", "split", "subject", "pixel_hash"), np.str_),
    **{"emotion": np.int64, "soft_label": np.float32, "valence": np.float32, "arousal": np.float32},
}
_NEEDED = frozenset({"counts", "expected", "faces", "fingerprint", "preprocessing", "table_sha256", "title", "reader"})


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a pack as arrays, one entry per face.

    Attributes:
        key: str (N,).
        split: str (N,), train, val or test, as in the release.
        emotion: int64 (N,), indices of the pack's `class_names`, -1 for none.
        soft_label: float32 (N, K), rows sum to 1, or all NaN for none.
        valence: float32 (N,), -1 to 1, NaN if not annotated.
        arousal: float32 (N,), -1 to 1, NaN if not annotated.
        subject: str (N,), empty if unknown.
        pixel_hash: str (N,), see `crop_hash`: equal for identical crops.
    """

    key: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    emotion: Int64
    soft_label: Float32
    valence: Float32
    arousal: Float32
    subject: npt.NDArray[np.str_]
    pixel_hash: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.key)

    def rows(self, rows: slice) -> "Table":
        """Return some of the rows."""
        return Table(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def to_arrow(self) -> pa.Table:
        """Convert to a pyarrow table, as stored in Parquet."""
        width = self.soft_label.shape[1]
        columns: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        columns["emotion"] = self.emotion.astype(np.int8 if width < 128 else np.int16)
        columns["soft_label"] = pa.FixedSizeListArray.from_arrays(pa.array(self.soft_label.reshape(-1)), width)
        return pa.table(columns)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "Table":
        """The inverse of `to_arrow`."""
        soft = table.column("soft_label").combine_chunks()
        columns = {name: table.column(name).to_numpy() for name in _TYPES if name != "soft_label"}
        columns["soft_label"] = np.asarray(soft.flatten()).reshape(len(table), soft.type.list_size)
        return cls(**{name: column.astype(_TYPES[name]) for name, column in columns.items()})

    def digest(self) -> str:
        """Return the SHA-256 of the content, independent of the library that wrote the file."""
        total = hashlib.sha256()
        for column in (self.key, self.split, self.subject, self.pixel_hash):
            total.update(json.dumps(column.tolist()).encode())
        for numbers in (self.emotion, self.soft_label, self.valence, self.arousal):
            total.update(np.ascontiguousarray(numbers).tobytes())
        return total.hexdigest()

    def counts(self, class_names: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return the number of faces by split and class name, or ``without emotion``."""
        names = {-1: "without emotion", **dict(enumerate(class_names))}
        ids = {split: Counter(self.emotion[self.split == split].tolist()) for split in ("train", "val", "test")}
        return {split: {name: of[k] for k, name in names.items() if of[k]} for split, of in ids.items() if of}

    def fingerprint(self, preprocessing: Preprocessing, class_names: Sequence[str]) -> str:
        """Return `Pack.fingerprint`: a hash of annotations and crops, without paths and times."""
        parts = {"version": _CONTENT_VERSION, "table": self.digest(), "crop": preprocessing.fingerprint()}
        if tuple(class_names) != EMOTIONS:
            parts["class_names"] = list(class_names)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Pack:
    """A prepared data set on disk.

    Opening checks the manifest, the table's hash, the size of the image file, and the hashes of 64 evenly spaced crops;
    `verify` checks every crop. Images are memory-mapped, and a pickled pack contains only its path, so worker processes
    share one copy of the pixels.

    Raises:
        EmodetError: The pack does not exist, has another version, or differs from its manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest, self.preprocessing = _read_manifest(folder)
        faces = len(self)
        self._check_table()
        self._check_crops(np.unique(np.linspace(0, faces - 1, min(faces, _CHECKED_ON_OPENING)).astype(np.int64)))

    @property
    def fingerprint(self) -> str:
        """Hash of crops and annotations as hexadecimal digits, equal on all machines."""
        return str(self.manifest["fingerprint"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the table's numbers: the eight emotions, or the data set's own classes."""
        return tuple(self.manifest.get("class_names", EMOTIONS))

    @cached_property
    def table(self) -> Table:
        """Annotations of each face."""
        return Table.from_arrow(pq.read_table(self.folder / TABLE))

    def __len__(self) -> int:
        return int(self.manifest["faces"])

    def images(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> UInt8:
        """Read the crops of these rows: a new array, uint8 (len(indices), size, size, 3), RGB."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"indices from {wanted.min()} to {wanted.max()} in a pack of {len(self)} faces")
        crops = self._crops[wanted]
        return np.repeat(crops, 3, axis=3) if crops.shape[3] == 1 else crops

    def verify(self) -> None:
        """Compare every crop and annotation with the manifest; raise `EmodetError` if a file is changed or damaged."""
        self._check_table()
        for start in range(0, len(self), _VERIFIED_AT_ONCE):
            self._check_crops(np.arange(start, min(start + _VERIFIED_AT_ONCE, len(self))))
        if self.table.fingerprint(self.preprocessing, self.class_names) != self.fingerprint:
            raise self._broken(MANIFEST)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "manifest", "preprocessing")
        return {name: value for name, value in self.__dict__.items() if name in kept}

    @cached_property
    def _crops(self) -> UInt8:
        """Stored crops, memory-mapped, with one or three channels."""
        size, channels = self.preprocessing.size, 1 if self.preprocessing.colour == "grey" else 3
        file = self.folder / IMAGES
        try:
            crops = np.load(file, mmap_mode="r", allow_pickle=False)
            is_whole = file.stat().st_size == crops.offset + crops.nbytes
        except (OSError, EOFError, ValueError, SyntaxError, MemoryError, OverflowError):
            raise self._broken(IMAGES) from None
        if not is_whole or crops.dtype != np.uint8 or crops.shape != (len(self), size, size, channels):
            raise self._broken(IMAGES)
        return crops  # type: ignore[no-any-return]  # np.load has no types

    def _check_table(self) -> None:
        table = self.folder / TABLE
        if not table.is_file() or sha256_of(table) != self.manifest["table_sha256"]:
            raise self._broken(TABLE)
        if len(self.table) != len(self):
            raise self._broken(MANIFEST)

    def _check_crops(self, rows: Int64) -> None:
        for row, crop in zip(rows.tolist(), self._crops[rows], strict=True):
            if crop_hash(crop) != self.table.pixel_hash[row]:
                raise self._broken(IMAGES)

    def _broken(self, name: str) -> EmodetError:
        return EmodetError(
            f"pack {self.folder}: {name} is missing, damaged or changed; delete the folder and prepare it again"
        )


def crop_hash(crop: UInt8) -> str:
    """Return a hash of a stored crop, as 24 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=12).hexdigest()


def table_of(samples: Sequence[Sample], hashes: Sequence[str], classes: int = len(EMOTIONS)) -> Table:
    """Build the table of samples with the `crop_hash` of each; `classes` is the number of classes."""
    columns: dict[str, list[Any]] = {
        name: [getattr(sample, name) for sample in samples] for name in ("key", "split", "valence", "arousal")
    }
    blank = (np.nan,) * classes
    columns["emotion"] = [-1 if sample.emotion is None else sample.emotion for sample in samples]
    columns["soft_label"] = [sample.soft_label or blank for sample in samples]
    columns["subject"] = [sample.subject or "" for sample in samples]
    columns["pixel_hash"] = list(hashes)
    # In an array of numbers None becomes NaN.
    return Table(**{name: np.array(columns[name], kind) for name, kind in _TYPES.items()})


def _read_manifest(folder: Path) -> tuple[dict[str, Any], Preprocessing]:
    file = folder / MANIFEST
    if not file.is_file():
        raise EmodetError(f"{folder}: not a pack ({MANIFEST} is missing); `python -m emodet.prepare` makes one")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError("not a pack's manifest")
        if manifest.get("version") != VERSION:
            raise ValueError(f"version {manifest.get('version')}, expected version {VERSION}")
        if missing := sorted(_NEEDED - set(manifest)):
            raise ValueError(f"{', '.join(missing)} is missing")
        if "class_names" in manifest:
            checked_class_names(manifest["class_names"], "class_names")
        if not isinstance(manifest["faces"], int) or manifest["faces"] < 1:
            raise ValueError(f"faces={manifest['faces']!r}")
        return manifest, Preprocessing.from_dict(manifest["preprocessing"])
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, EmodetError) as problem:
        raise EmodetError(f"{file}: unreadable ({problem}); delete {folder} and prepare it again") from None
