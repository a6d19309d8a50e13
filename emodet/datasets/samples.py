"""What is known about one annotated face, and the interface that every reader has.

A reader turns one data set's layout into `Sample`s and nothing else: it decodes no pixels, drops no class and repairs
nothing in silence. What it leaves out it counts in `Listing.left_out`, by reason.
"""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from emodet.errors import EmodetError

__all__ = ["MAX_ENCODED_BYTES", "Listing", "Reader", "Sample"]

MAX_ENCODED_BYTES = 2**28
"""A picture's file that is larger is refused before it is read into memory."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated face: where its pixels are and what is known about it.

    Attributes:
        key: Names the face within its data set, the same on every machine (a relative path, or a row number).
            Records are ordered by it, so it decides splits and shuffles.
        split: ``train``, ``val`` or ``test``, as the release says.
        emotion: 0 to 7 (`emodet.emotions.EMOTIONS`), or None for a face that is none of the eight or undecided.
        soft_label: Eight shares that sum to 1, in the order of `EMOTIONS`, where several people or a model gave them.
        valence: Unpleasant to pleasant, -1 to 1.
        arousal: Calm to excited, -1 to 1.
        box: (x1, y1, x2, y2) of the face in pixels of the stored picture, x2 and y2 exclusive.
        landmarks: Five points (x, y) in pixels of the stored picture: the eye centres on the picture's left and
            right, the nose tip, the mouth corners on the picture's left and right.
        subject: Who it is: faces of one subject never lie on both sides of a split that we draw.
    """

    key: str
    split: str
    emotion: int | None
    soft_label: tuple[float, ...] | None = None
    valence: float | None = None
    arousal: float | None = None
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None
    subject: str | None = None

    def __post_init__(self) -> None:
        if self.split not in ("train", "val", "test"):
            raise EmodetError(f"record {self.key!r}: split={self.split!r} is not train, val or test")
        if self.emotion is not None and not 0 <= self.emotion <= 7:
            raise EmodetError(f"record {self.key!r}: emotion={self.emotion} is not an id from 0 to 7")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reader found.

    Attributes:
        samples: Ordered by key, the same on every machine.
        left_out: How many faces are not in `samples`, by the reason in words (``"no-face": 82415``).
        notes: Sentences for the person who reads the summary: a variant recognised, a doubt.
    """

    samples: tuple[Sample, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[Sample, ...]:
        """The former name of `samples`; goes when nothing uses it any more."""
        return self.samples


class Reader(ABC):
    """One family of data sets on disk.

    A subclass takes the root and that family's own options as keyword arguments, checks in ``__init__`` only that the
    root bears its signs, and is cheap to pickle: worker processes get a copy of it to fetch pictures with.

    Attributes:
        name: What the configuration calls it (``data.reader=affectnet_csv``).
        title: What people call it.
        signs: By what files it is recognised, for the message about a root of no known data set.
        expected: Published counts: split to class name to faces; empty where nothing is published.
        redistributable: Whether its pictures may appear in logs that leave the machine.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    signs: ClassVar[str]
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    redistributable: ClassVar[bool] = False

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @abstractmethod
    def recognises(cls, root: Path) -> bool:
        """Whether `root` bears this family's signs. Looks at names and first lines only; raises nothing."""

    @abstractmethod
    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A file of the release is missing or is not what it should be; the message names it.
        """

    def file_of(self, record: Sample) -> Path:
        """The file that holds the record's picture; several records may share one. By default the key is its path."""
        return self.root / record.key

    def encoded(self, record: Sample) -> bytes:
        """The picture as it was encoded; by default all of its file.

        Raises:
            OSError: It cannot be read.
            EmodetError: It is no ordinary file, or is larger than any picture.
        """
        # Not blocking: opening a pipe would wait for somebody who writes into it.
        descriptor = os.open(self.file_of(record), _FLAGS)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise EmodetError(f"{record.key}: not a file but a folder, a pipe or a device")
            if found.st_size > MAX_ENCODED_BYTES:
                raise EmodetError(
                    f"{record.key}: {found.st_size:,} bytes are more than the {MAX_ENCODED_BYTES:,} of the largest "
                    "picture"
                )
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
                return stream.readall()
        finally:
            os.close(descriptor)

    def options(self) -> dict[str, Any]:
        """What besides the root decides the listing: plain values, part of the pack's identity."""
        return {}
