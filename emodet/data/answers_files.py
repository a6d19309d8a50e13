"""The files of teachers' answers: written whole or not at all, and read without running any code that they bring."""

import io
import json
import os
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = [
    *("MANIFEST", "SUFFIX", "Said", "brightness_of", "damaged"),
    *("read_answers", "read_manifest", "write_answers", "write_manifest"),
]

FORMAT, VERSION = "emodet-teachers-answers", 1
MANIFEST = "answers.json"
SUFFIX = ".unfinished-"
"""Stands in the names of files that are being written, or were when their process was killed."""
_SUM_TO_ONE = 0.02  # float16 rounds each logarithm by up to 0.4 %


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """The answers of one file.

    Attributes:
        log_probabilities: float16 (N, K): logarithms keep what is unlikely, which softening by a temperature brings
            back.
        index: int64 (N,), which face each row is about: positions in the pack's table.
        brightness: float16 (N,), the mean of the crop's pixels, 0 to 255: whether two mean the same crop.
    """

    log_probabilities: npt.NDArray[np.float16]
    index: npt.NDArray[np.int64]
    brightness: npt.NDArray[np.float16]


def brightness_of(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """See `Said.brightness`."""
    return np.asarray(crops.reshape(len(crops), -1).mean(axis=1), dtype=np.float16)


def write_answers(file: Path, said: Said) -> None:
    """Write one file of answers, whole or not at all.

    Raises:
        EmodetError: It cannot be written.
    """
    content = io.BytesIO()
    np.savez(
        content,
        log_probabilities=said.log_probabilities.astype(np.float16),
        index=said.index.astype(np.int64),
        brightness=said.brightness.astype(np.float16),
    )
    _write_whole(file, content.getvalue())


def _write_whole(file: Path, content: bytes) -> None:
    unfinished = file.with_name(f"{file.name}{SUFFIX}{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as problem:
        raise EmodetError(f"{file}: could not be written ({problem.strerror or problem})") from None
    finally:
        with suppress(OSError):
            unfinished.unlink()


def read_answers(file: Path, classes: int) -> Said:
    """Read what `write_answers` wrote, for so many classes.

    Raises:
        EmodetError: It is not there, or it is something else, cut off, or holds no probabilities.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            found, index, brightness = (stored[name] for name in ("log_probabilities", "index", "brightness"))
    except FileNotFoundError:
        raise EmodetError(
            f"distillation.answers: {file} is not there; python -m emodet.teach with the same settings makes what is "
            "missing in its folder"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as problem:
        raise damaged(file, next(iter(str(problem).splitlines()), type(problem).__name__), "it") from None
    rows = len(index) if index.ndim == 1 else -1
    if found.dtype != np.float16 or index.dtype != np.int64 or brightness.dtype != np.float16:
        raise damaged(file, f"types {found.dtype}, {index.dtype}, {brightness.dtype}", "it")
    if found.shape != (rows, classes) or brightness.shape != (rows,):
        raise damaged(file, f"shapes {found.shape}, {index.shape}, {brightness.shape} for {classes} classes", "it")
    sums = np.exp(found.astype(np.float32)).sum(axis=1)
    if not (np.isfinite(found).all() and (np.abs(sums - 1) < _SUM_TO_ONE).all()):
        raise damaged(file, "it holds numbers that are no probabilities that sum to 1", "it")
    return Said(found, index, brightness)


def write_manifest(folder: Path, values: dict[str, Any]) -> None:
    """Write ``answers.json``, whole or not at all; the folder is made where there is none.

    Raises:
        EmodetError: It cannot be written.
    """
    content = json.dumps({"format": FORMAT, "version": VERSION, **values}, indent=2, ensure_ascii=False)
    _write_whole(folder / MANIFEST, f"{content}\n".encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``answers.json`` of a folder says.

    Raises:
        EmodetError: There is none, it is of another version, or it is damaged.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise EmodetError(
            f"distillation.answers={folder}: there are no teachers' answers (no {MANIFEST}). python -m emodet.teach "
            "with checkpoint=TEACHER and the settings of this training makes them"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT}")
    except (OSError, ValueError) as problem:
        raise damaged(file, str(problem), "the folder") from None
    if values.get("version") != VERSION:
        raise EmodetError(
            f"{file} is of version {values.get('version')}, this emodet reads version {VERSION}; make the answers anew"
        )
    return values


def damaged(file: Path, what: str, delete: str) -> EmodetError:
    """What to say of a file that does not hold what it should; `delete` says what is to be deleted."""
    return EmodetError(
        f"distillation.answers: {file} is damaged or none of python -m emodet.teach ({what}). Delete {delete} and run "
        "that command again: it makes what is missing"
    )
