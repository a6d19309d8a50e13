"""AffectNet's release of 2021: flat folders of 224×224 pictures with four small npy files beside each."""

import functools
import io
import math
import os
import tokenize
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy

from emodet.datasets import affectnet
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import LEAST_RESOLVED, few, names_in, pictures_by_stem
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["AffectNetNpy", "read_numbers"]

_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "train": ("train_set",),
    "val": ("val_set", "valid_set", "validation_set"),
}
_SIDE = 224
_MAX_BYTES = 1 << 16
_THREADS = 8
_CHUNK = 256

_NO_PICTURE = "annotation without a picture"
_NO_ANNOTATION = "picture without an annotation"


class AffectNetNpy(FolderReader):
    """AffectNet 2021 ("AffectNet-8"): ``train_set`` and ``val_set``, each with ``images`` and ``annotations``.

    ``<N>_exp.npy`` holds the emotion, ``_val`` and ``_aro`` valence and arousal, each one text ("3", "-0.48"), and
    ``_lnd`` 68 landmarks in the 224×224 picture. Copies that hold numbers, or shape (1,), are read as well; whether
    such copies are in use is not known. An ``affectnet.csv`` in the root holds another machine's paths: it is not read.

    Records are ordered by the number in the file name. The pictures are face crops, so there is no box.

    Args:
        root: The unpacked release, or a folder that holds nothing but its folder.
        landmarks: Read ``_lnd`` as well and keep five points. The whole 224×224 picture then becomes the box, so that
            a crop can be turned upright by the eyes.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "affectnet_npy"
    title: ClassVar[str] = "AffectNet (2021, npy files)"
    signs: ClassVar[str] = "train_set/ or val_set/ with images/ and annotations/*_exp.npy"
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": affectnet.TRAIN_COUNTS,
        "val": {**affectnet.VALIDATION_COUNTS, "contempt": 499},
    }

    def __init__(self, root: Path, *, landmarks: bool = False) -> None:
        super().__init__(root)
        self.landmarks = landmarks

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A file is not what it should be, or fewer than 90 % of the annotated pictures are there. The
                message names the file.
        """
        left_out: Counter[str] = Counter()
        notes: list[str] = []
        records: list[Sample] = []
        for split, names in _FOLDERS.items():
            folders = [self.base / name for name in names if (self.base / name / "annotations").is_dir()]
            if not folders:
                notes.append(f"There is no {names[0]}/, so no {split} faces.")
                continue
            if len(folders) > 1:
                notes.append(f"Read {folders[0].name}/; passed over {few(folder.name for folder in folders[1:])}.")
            records += self._split(folders[0], split, left_out, notes)
        if not records:
            raise EmodetError(f"{self.base}: no face with one of the eight emotions is annotated")
        unannotated = sum(record.valence is None for record in records)
        if unannotated:
            notes.append(f"{unannotated:,} faces have no valence and arousal (no file, -2 or outside -1 to 1).")
        without = sum(record.landmarks is None for record in records) if self.landmarks else 0
        if without:
            notes.append(f"{without:,} faces have no landmarks.")
        doubt = affectnet.doubt_about_order(records)
        if doubt:
            notes.append(doubt)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def options(self) -> dict[str, Any]:
        return {"landmarks": self.landmarks}

    def _split(self, folder: Path, split: str, left_out: Counter[str], notes: list[str]) -> list[Sample]:
        annotations = folder / "annotations"
        there = names_in(annotations)
        stems = sorted((name.removesuffix("_exp.npy") for name in there if name.endswith("_exp.npy")), key=_as_number)
        if not stems:
            notes.append(f"{folder.name}/annotations/ holds no _exp.npy, so no {split} faces.")
        pictures, passed_over = pictures_by_stem(folder / "images")
        paired = [stem for stem in stems if stem in pictures]
        missing = [f"{stem}.jpg" for stem in stems if stem not in pictures]
        if len(paired) < LEAST_RESOLVED * len(stems):
            raise EmodetError(
                f"{folder}: {len(stems):,} faces are annotated but images/ holds pictures of {len(paired):,} of them "
                f"(not there: {few(missing)}). Unpack all parts of the archive"
            )
        if missing:
            left_out[_NO_PICTURE] += len(missing)
            notes.append(f"{len(missing):,} annotated pictures are not in {folder.name}/images/: {few(missing)}")
        annotated = set(stems)
        extra = [name for stem, name in pictures.items() if stem not in annotated]
        if extra:
            left_out[_NO_ANNOTATION] += len(extra)
            notes.append(f"{len(extra):,} pictures in {folder.name}/images/ have no annotation: {few(extra)}")
        if passed_over:
            notes.append(
                f"Pictures of the same number as another in {folder.name}/images/ passed over: {few(passed_over)}"
            )
        faces = _Faces(annotations, there, self.landmarks)
        records = []
        for stem, (emotion, valence, arousal, points) in zip(paired, faces.read(paired), strict=True):
            if emotion >= len(EMOTIONS):
                left_out[affectnet.CLASS_NAMES[emotion]] += 1
                continue
            key = f"{folder.name}/images/{pictures[stem]}"
            box = (0.0, 0.0, float(_SIDE), float(_SIDE)) if points else None
            records.append(Sample(key, split, emotion, None, valence, arousal, box, points))
        return records

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return any(_has_expression(folder / name / "annotations") for names in _FOLDERS.values() for name in names)


_Face = tuple[int, float | None, float | None, tuple[tuple[float, float], ...] | None]


@dataclass(frozen=True, slots=True)
class _Faces:
    """Reads the small files of one annotations folder, several at a time: opening them is what takes the time."""

    folder: Path
    names: set[str]
    landmarks: bool

    def read(self, stems: Sequence[str]) -> Iterable[_Face]:
        chunks = [stems[start : start + _CHUNK] for start in range(0, len(stems), _CHUNK)]
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for faces in pool.map(self._chunk, chunks):
                    yield from faces
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _chunk(self, stems: Sequence[str]) -> list[_Face]:
        return [self._face(stem) for stem in stems]

    def _face(self, stem: str) -> _Face:
        number = self._numbers(f"{stem}_exp.npy", 1)[0]
        if number not in range(len(affectnet.CLASS_NAMES)):
            last = len(affectnet.CLASS_NAMES) - 1
            raise EmodetError(f"{self.folder / f'{stem}_exp.npy'}: {number} is not an id from 0 to {last}")
        valence = arousal = points = None
        if f"{stem}_val.npy" in self.names and f"{stem}_aro.npy" in self.names:
            valence, arousal = affectnet.valence_and_arousal(
                self._numbers(f"{stem}_val.npy", 1)[0], self._numbers(f"{stem}_aro.npy", 1)[0]
            )
        if self.landmarks and f"{stem}_lnd.npy" in self.names:
            points = affectnet.five_points(self._numbers(f"{stem}_lnd.npy", 136))
        return int(number), valence, arousal, points

    def _numbers(self, name: str, count: int) -> Sequence[float]:
        path = f"{self.folder}/{name}"
        try:
            # Below pathlib: this runs about a million times.
            file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                data = os.read(file, _MAX_BYTES)
            finally:
                os.close(file)
        except OSError as problem:
            raise EmodetError(f"{path}: cannot be read ({problem})") from None
        return read_numbers(data, count, path)


def read_numbers(data: bytes, count: int, name: str) -> Sequence[float]:
    """The numbers of a small npy file, whether it holds them as numbers or as text. Nothing is unpickled.

    Args:
        data: The whole file.
        count: How many numbers it must hold, in whatever shape.
        name: What to call the file in an error.

    Raises:
        EmodetError: It is not an npy file of that many numbers.
    """
    # Version 1 of the format has two bytes of length, version 2 four; a million files share a handful of headers.
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\x01\x00", b"\x02\x00") or len(data) < 12:
        raise EmodetError(f"{name}: not an npy file")
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    try:
        dtype, held = _header(data[:start])
    except ValueError as problem:
        raise EmodetError(f"{name}: {problem}") from None
    if held != count:
        raise EmodetError(f"{name}: holds {held} values instead of {count}")
    if len(data) - start != dtype.itemsize * count:
        raise EmodetError(f"{name}: cut off, or longer than its header says")
    try:
        if dtype.kind == "U":
            # Decoded here: from code points that do not exist numpy makes a SystemError.
            codec, step = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le", dtype.itemsize
            cells = [data[place : place + step].decode(codec) for place in range(start, len(data), step)]
            return [float(cell.rstrip("\0")) for cell in cells]
        return [float(value) for value in np.frombuffer(data, dtype, count, start).tolist()]
    except (ValueError, OverflowError):
        raise EmodetError(f"{name}: holds something else than numbers") from None


@functools.lru_cache(maxsize=256)
def _header(header: bytes) -> tuple[np.dtype[Any], int]:
    """Element type and number of elements.

    Raises:
        ValueError: The header is damaged, or announces something else than numbers or text.
    """
    file = io.BytesIO(header)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        # What numpy's header parser lets through besides its own ValueError.
        raise ValueError("the npy header is damaged") from None
    if dtype.hasobject:
        raise ValueError("holds Python objects, and unpickling those would run code that the file brings")
    if dtype.kind not in "fiuUSb" or dtype.itemsize == 0:
        raise ValueError(f"holds {dtype} instead of numbers or text")
    return dtype, math.prod(shape)


def _as_number(stem: str) -> tuple[bool, int, str]:
    """Sorts 2 before 10, and names that are no numbers after all numbers."""
    is_number = stem.isascii() and stem.isdigit() and len(stem) < 20
    return not is_number, int(stem) if is_number else 0, stem


def _has_expression(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith("_exp.npy") for entry in entries)
