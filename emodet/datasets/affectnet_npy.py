"""AffectNet's release of 2021: flat folders of 224×224 pictures with four small npy files beside each."""

import functools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emodet.datasets import affectnet
from emodet.datasets.folders import names_in
from emodet.datasets.listed_pictures import map_in_threads, pair_by_stem, split_part
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["AffectNetNpy", "read_numbers"]

_FOLDERS: Mapping[str, tuple[str, ...]] = {"train": ("train_set",), "val": ("val_set", "valid_set", "validation_set")}
_WHOLE_PICTURE = (0.0, 0.0, 224.0, 224.0)
_HEADER = re.compile(
    rb"""\s*\{\s*'descr': '([<>|=]?(?:[fiub][1-8]|[US][1-9]\d{0,3}|O\d*))', """
    rb"""'fortran_order': (?:True|False), 'shape': \(([\d, ]*)\),?\s*\}\s*"""
)


@dataclass(kw_only=True, eq=False)
class AffectNetNpy(Reader):
    """AffectNet 2021 ("AffectNet-8"): ``train_set`` and ``val_set``, each with ``images`` and ``annotations``.

    ``<N>_exp.npy`` holds the emotion, ``_val`` and ``_aro`` valence and arousal, each as text ("3", "-0.48"), and
    ``_lnd`` 68 landmarks in the 224×224 picture. Copies that hold numbers, or shape (1,), are read as well. An
    ``affectnet.csv`` in the root holds another machine's paths and is not read. Nothing is unpickled.

    Samples are ordered by the number in the file name. The pictures are face crops, so there is no box.

    Args:
        landmarks: Read ``_lnd`` as well and keep five points. The whole picture then becomes the box, so that a crop
            can be turned upright by the eyes.
    """

    name = "affectnet_npy"
    title = "AffectNet (2021, npy files)"
    signs = "train_set/ or val_set/ with images/ and annotations/*_exp.npy"
    expected = {"train": affectnet.TRAIN_COUNTS, "val": {**affectnet.VALIDATION_COUNTS, "contempt": 499}}  # noqa: RUF012

    landmarks: bool = False

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any(_has_expression(folder / name / "annotations") for names in _FOLDERS.values() for name in names)

    def sort_key(self, sample: Sample) -> Any:
        folder, _, name = sample.key.rpartition("/")
        return sample.split, folder, _as_number(name.rpartition(".")[0])

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        for split, names in _FOLDERS.items():
            folder = split_part(listing, self.base, names, "annotations", split)
            if folder is not None:
                samples += self._split(listing, folder, split)
        if self.landmarks and (without := sum(sample.landmarks is None for sample in samples)):
            listing.notes.append(f"{without:,} faces have no landmarks.")
        affectnet.check(listing, samples)
        return samples

    def _split(self, listing: Listing, folder: Path, split: str) -> Iterator[Sample]:
        there = names_in(folder / "annotations")
        stems = sorted((name.removesuffix("_exp.npy") for name in there if name.endswith("_exp.npy")), key=_as_number)
        if not stems:
            raise EmodetError(f"{folder / 'annotations'}: there is no _exp.npy in it. Unpack all parts of the archive")
        pairs = pair_by_stem(listing, folder, "annotations", stems, "an annotation")
        read = functools.partial(self._face, f"{folder / 'annotations'}{os.sep}", there)
        for (_, picture), face in zip(pairs, map_in_threads(read, [stem for stem, _ in pairs]), strict=True):
            emotion, valence, arousal, points = face
            if emotion >= len(EMOTIONS):
                listing.left_out[affectnet.CLASS_NAMES[emotion]] += 1
                continue
            box = _WHOLE_PICTURE if points else None
            yield Sample(f"{folder.name}/images/{picture}", split, emotion, None, valence, arousal, box, points)

    def _face(self, folder: str, there: set[str], stem: str) -> tuple[int, float | None, float | None, Any]:
        number = _read(f"{folder}{stem}_exp.npy", 1)[0]
        if number not in range(len(affectnet.CLASS_NAMES)):
            last = len(affectnet.CLASS_NAMES) - 1
            raise EmodetError(f"{folder}{stem}_exp.npy: {number} is not an id from 0 to {last}")
        valence = arousal = points = None
        if f"{stem}_val.npy" in there and f"{stem}_aro.npy" in there:
            valence, arousal = affectnet.valence_and_arousal(
                _read(f"{folder}{stem}_val.npy", 1)[0], _read(f"{folder}{stem}_aro.npy", 1)[0]
            )
        if self.landmarks and f"{stem}_lnd.npy" in there:
            points = affectnet.five_points(_read(f"{folder}{stem}_lnd.npy", 136))
        return int(number), valence, arousal, points


def _read(path: str, count: int) -> Sequence[float]:
    try:
        return read_numbers(Path(path).read_bytes(), count, path)
    except OSError as problem:
        raise EmodetError(f"{path}: cannot be read ({problem})") from None


def read_numbers(data: bytes, count: int, name: str) -> Sequence[float]:
    """The `count` numbers, in whatever shape, of an npy file that holds numbers or text; `name` names it in errors.

    Nothing is unpickled.
    """
    # Version 1 of the format has two bytes of length, version 2 four; a million files share a handful of headers.
    if data[:6] != b"\x93NUMPY" or data[6:8] not in (b"\x01\x00", b"\x02\x00") or len(data) < 12:
        raise EmodetError(f"{name}: not an npy file")
    width = 2 if data[6] == 1 else 4
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    try:
        dtype, held = _header(data[8 + width : start])
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
    """Element type and number of elements; ValueError where it announces something else than numbers or text."""
    found = _HEADER.fullmatch(header)
    if found is None:
        raise ValueError("the npy header is damaged, or announces something else than numbers or text")
    if b"O" in found[1]:
        raise ValueError("holds Python objects, and unpickling those would run code that the file brings")
    try:
        return np.dtype(found[1].decode()), math.prod(int(size) for size in found[2].split(b",") if size.strip())
    except (TypeError, ValueError):
        raise ValueError("the npy header has an unknown type") from None


def _as_number(stem: str) -> tuple[bool, int, str]:
    """Sorts 2 before 10, and names that are no numbers after all numbers."""
    is_number = stem.isascii() and stem.isdigit() and len(stem) < 20
    return not is_number, int(stem) if is_number else 0, stem


def _has_expression(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith("_exp.npy") for entry in entries)
