"""What teachers say of training faces, stored for a student that is to learn it (distillation).

A folder. ``answers.json`` says who answered and what was asked; ``epoch-0000.npz`` and so on hold the answers to all
that a training with certain settings shows in an epoch, each crop augmented as the student will see it, as order and
augmentation are a function of (seed, epoch, batch); or ``faces.npz`` holds one answer for each training face as it is.
Each file is written whole or not at all, so a folder can be gone on with, and whatever lies in it can be used.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.data.answers_files import (
    MANIFEST,
    SUFFIX,
    Said,
    brightness_of,
    damaged,
    read_answers,
    read_manifest,
    write_manifest,
)
from emodet.data.splits import Draw
from emodet.errors import EmodetError

__all__ = ["Asked", "TeachersAnswers", "Views", "begin_answers", "digest_of"]

Indices = npt.NDArray[np.int64]

FACES = "faces.npz"
_SAME_CROP = 1.0  # of 255: another processor may round single pixels otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What decides in which order and how augmented faces are seen.

    Attributes:
        seed: Of order and augmentation.
        batch_size: Faces per batch and process.
        processes: That share the epoch.
        chances: ``equal``, or the `digest_of` the faces' chances to be drawn.
        augmentation: The steps of an `Augmentation`.
    """

    seed: int
    batch_size: int
    processes: int
    chances: str
    augmentation: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What teachers were asked: their answers are for trainings that would ask the same.

    Attributes:
        data: `EmotionDataModule.fingerprint`.
        classes: In the order of the columns.
        faces: The `digest_of` the training faces' positions.
        views: None where each face was looked at once, as it is.
    """

    data: str
    classes: tuple[str, ...]
    faces: str
    views: Views | None

    def differences(self, other: "Asked") -> list[str]:
        """What keeps these answers from being those to `other`, in words; views count where both have them."""
        found = [
            f"{name} ({_short(own)} there, {_short(theirs)} here)"
            for name, own, theirs in (
                ("the data set with its corrections", self.data, other.data),
                ("data.classes", self.classes, other.classes),
                (
                    "the training faces (data.val_from, data.split_seed, data.labels, data.training_faces)",
                    self.faces,
                    other.faces,
                ),
            )
            if own != theirs
        ]
        if self.views is None or other.views is None:
            return found
        names = {
            "seed": "seed",
            "batch_size": "data.batch_size",
            "processes": "the number of processes (student_processes there)",
            "chances": "how often faces are drawn (data.balanced, weights of data.sources)",
            "augmentation": "augmentation",
        }
        for key, name in names.items():
            own, theirs = (_plain(getattr(views, key)) for views in (self.views, other.views))
            if own != theirs:
                found.append(f"{name} ({_short(own)} there, {_short(theirs)} here)")
        return found


class TeachersAnswers:
    """A folder of answers, opened. A pickled one carries only its path: each worker reads the epoch that it is at.

    Args:
        folder: See `emodet.data.teachers_answers`.

    Attributes:
        asked: What the answers are to.
        teachers: One mapping for each teacher: ``file``, ``net``, ``weights_sha256``, ``temperature``,
            ``training_data`` (name and terms of each).
        made: How they were made: ``flip``, ``precision``.
        versions: Of the packages that made the crops.

    Raises:
        EmodetError: There are none, they are of another version, or the manifest is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        values = read_manifest(folder)
        try:
            asked = dict(values["asked"])
            views = None if asked["views"] is None else Views(**asked.pop("views"))
            self.asked = Asked(**{**asked, "classes": tuple(asked["classes"]), "views": views})
            self.teachers: tuple[Mapping[str, Any], ...] = tuple(dict(teacher) for teacher in values["teachers"])
            self.made, self.versions = dict(values["made"]), dict(values["versions"])
        except (KeyError, TypeError, ValueError) as problem:
            raise damaged(folder / MANIFEST, f"{type(problem).__name__}: {problem}", "the folder") from None
        self._opened: tuple[Path, Said] | None = None

    @property
    def epochs(self) -> int | None:
        """How many epochs are there, from the first one on without a gap; None where each face has one answer."""
        if self.asked.views is None:
            return None
        number = 0
        while self.file_of(number).is_file():
            number += 1
        return number

    def file_of(self, epoch: int | None) -> Path:
        """Where the answers of an epoch lie, or those to the faces as they are."""
        return self.folder / (FACES if epoch is None or self.asked.views is None else f"epoch-{epoch:04d}.npz")

    def holds(self, epoch: int | None) -> bool:
        """Whether the answers of an epoch, or those to the faces as they are, are there and whole."""
        try:
            self._read(epoch)
        except EmodetError:
            return False
        return True

    def require(self, asked: Asked, epochs: int | None = None) -> None:
        """Refuse answers that are not those to what a training will show.

        Args:
            asked: What it would ask; without views these are not compared.
            epochs: How many it has; None where not known.

        Raises:
            EmodetError: They differ, the epochs are not all there, or a file is damaged.
        """
        differences = self.asked.differences(asked)
        if differences:
            once = "" if self.asked.views is None else "; augmented=false makes answers for any seed, batch and view"
            raise EmodetError(
                f"distillation.answers={self.folder}: these are not answers to what this training shows. It differs "
                f"in {'; '.join(differences)}. Train with the settings there, or make answers for these: "
                f"python -m emodet.teach with the same settings as this training, into another folder{once}"
            )
        there = self.epochs
        if there is not None and epochs is not None and there < epochs:
            raise EmodetError(
                f"distillation.answers={self.folder}: the answers to {there} epoch(s) are there, and training takes "
                f"{epochs}. python -m emodet.teach with epochs={epochs} makes the missing ones; or set "
                f"trainer.max_epochs={max(there, 1)}"
            )
        if there is None:
            self._read(None)

    def require_epoch(self, epoch: int, order: Indices) -> None:
        """Look whether an epoch's answers are there, whole, and about the faces that will be drawn.

        Args:
            epoch: Its number.
            order: int64, the epoch's faces in order, over all processes.

        Raises:
            EmodetError: They are not.
        """
        said = self._read(epoch)
        if self.asked.views is not None and not np.array_equal(said.index, order):
            raise damaged(self.file_of(epoch), "its faces are not those of this epoch, or in another order", "it")

    def require_same_crops(self, draw: Draw, crops: npt.NDArray[np.uint8]) -> None:
        """Compare crops, uint8 (N, H, W, 3), with what the teachers saw.

        Raises:
            EmodetError: They differ, as other versions of what augments them may make them differ.
        """
        if self.asked.views is None:
            return
        said = self._read(draw.epoch)
        apart = np.abs(brightness_of(crops).astype(np.float64) - said.brightness[draw.places].astype(np.float64)).mean()
        if not apart <= _SAME_CROP:
            versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
            raise EmodetError(
                f"distillation.answers={self.folder}: the augmented crops of this training are not those that the "
                f"teachers saw ({apart:.1f} of 255 apart on average), although all settings agree. They were made "
                f"with {versions}: use these, or make the answers anew"
            )

    def of(self, draw: Draw) -> npt.NDArray[np.float32]:
        """The answers to a batch: float32 (N, K), logarithms of probabilities.

        Raises:
            EmodetError: See `require_epoch`.
        """
        said = self._read(draw.epoch)
        if self.asked.views is not None:
            return np.asarray(said.log_probabilities[draw.places], dtype=np.float32)
        return np.asarray(said.log_probabilities[np.searchsorted(said.index, draw.indices)], dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _read(self, epoch: int | None) -> Said:
        file = self.file_of(epoch)
        if self._opened is None or self._opened[0] != file:
            self._opened = (file, read_answers(file, len(self.asked.classes)))
            if self.asked.views is None:
                index = self._opened[1].index
                if (np.diff(index) <= 0).any() or digest_of(index) != self.asked.faces:
                    self._opened = None
                    raise damaged(file, "its faces are not the training faces", "it")
        return self._opened[1]


def digest_of(numbers: npt.NDArray[Any]) -> str:
    """Hex digits that differ where numbers or their order differ."""
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()


def begin_answers(
    folder: Path,
    asked: Asked,
    teachers: Sequence[Mapping[str, Any]],
    made: Mapping[str, Any],
    versions: Mapping[str, str],
    details: Mapping[str, Any],
) -> TeachersAnswers:
    """Begin a folder of answers, or go on with one that was begun for the same.

    Args:
        folder: Made where there is none.
        asked: See `TeachersAnswers`, as the next three.
        teachers: Likewise.
        made: Likewise.
        versions: Likewise.
        details: For people: the command, the commit, the time.

    Raises:
        EmodetError: The folder holds other answers, or something else, or cannot be written.
    """
    values = {
        "asked": dataclasses.asdict(asked),
        "teachers": list(teachers),
        "made": dict(made),
        "versions": dict(versions),
        "details": dict(details),
    }
    if not (folder / MANIFEST).is_file():
        if folder.is_dir() and any(SUFFIX not in file.name for file in folder.iterdir()):
            raise EmodetError(f"output={folder}: this folder holds something else; name one that is empty or not there")
        write_manifest(folder, values)
        return TeachersAnswers(folder)
    there = TeachersAnswers(folder)
    differences = there.asked.differences(asked)
    if (there.asked.views is None) != (asked.views is None):
        differences.append("augmented")
    if [_identity(teacher) for teacher in there.teachers] != [_identity(teacher) for teacher in teachers]:
        differences.append(f"the teachers ({_named(there.teachers)} there, {_named(teachers)} here)")
    differences += [
        f"{key} ({own.get(key)} there, {theirs.get(key)} here)"
        for own, theirs in ((there.made, made), (there.versions, versions))
        for key in sorted({*own, *theirs})
        if own.get(key) != theirs.get(key)
    ]
    if differences:
        raise EmodetError(
            f"output={folder}: it holds other answers; they differ in {'; '.join(differences)}. Name another folder"
        )
    return there


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value[:12]
    if not isinstance(value, list | tuple):
        return str(value)
    if all(isinstance(entry, str) for entry in value):
        return ", ".join(value) or "none"
    # Augmentation: its steps' names need not differ where their arguments do.
    hashed = hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()
    return f"{', '.join(str(dict(step).get('name')) for step in value)}; {hashed[:8]}"


def _identity(teacher: Mapping[str, Any]) -> Any:
    return teacher.get("weights_sha256"), teacher.get("temperature")


def _named(teachers: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{teacher.get('file')} {str(teacher.get('weights_sha256'))[:8]}" for teacher in teachers)
