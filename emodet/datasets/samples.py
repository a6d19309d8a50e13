"""`Sample` (one annotated face), `Listing` (the result of a reader), and the base class of readers.

A reader converts the files of one family of data sets to `Sample`s. It decodes no pictures and silently drops or
corrects nothing: faces that are left out are counted in `Listing.left_out`, by reason.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from emodet.datasets.folders import few, folders_in, refuse_unread
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError, require
from emodet.files import read_regular

MAX_ENCODED_BYTES = 2**28
"""Maximum size of a picture file in bytes."""

Counts = Mapping[str, Mapping[str, int]]
"""Number of faces by split and class name."""

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], ...]

_LEVELS = 3
_ABOUT = "synthetic.json"


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated face.

    Attributes:
        key: Identifier of the face within its data set, equal on all machines (a relative path, or a row number).
            Samples are sorted by key, so it determines splits and shuffling.
        split: ``train``, ``val`` or ``test``, as in the release.
        emotion: Index of `Listing.class_names`, or None for a face of none of these classes.
        soft_label: Probabilities of the classes, in that order; they sum to 1.
        valence: -1 (unpleasant) to 1 (pleasant).
        arousal: -1 (calm) to 1 (excited).
        box: (x1, y1, x2, y2) in pixels of the stored picture, x2 and y2 exclusive.
        landmarks: Five points (x, y) in pixels of the stored picture: eye centres, nose tip, mouth corners; left before
            right as seen in the picture.
        subject: Person or photograph. Drawn splits never separate faces of one subject.
        file: Place of the picture for the reader, usually its path below the base; None if the key is that path.
    """

    key: str
    split: str
    emotion: int | None
    soft_label: tuple[float, ...] | None = None
    valence: float | None = None
    arousal: float | None = None
    box: Box | None = None
    landmarks: Points | None = None
    subject: str | None = None
    file: str | None = field(default=None, compare=False)


@dataclass(slots=True)
class Listing:
    """Result of a reader.

    Attributes:
        samples: Samples, sorted by key.
        left_out: Number of faces or files that are not in `samples`, by reason (``"no-face": 82415``).
        notes: Sentences for the summary, for example about a detected variant.
        class_names: The eight emotions, or the user's own classes.
    """

    samples: tuple[Sample, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    class_names: tuple[str, ...] = EMOTIONS

    def labelled(self, name: str, key: str, split: str, **known: Any) -> Iterator[Sample]:
        """Create the sample of a face of the class `name`; count it if `name` is not in `class_names`."""
        if name in self.class_names:
            yield Sample(key, split, self.class_names.index(name), **known)
        else:
            self.left_out[name] += 1

    def compare(self, published: Mapping[str, int], found: Mapping[str, int]) -> None:
        """Add notes if numbers of faces differ from the published totals, for data sets without counts per class."""
        differing = [
            f"{part} {found.get(part, 0):,} ({n:,})" for part, n in published.items() if found.get(part, 0) != n
        ]
        if differing:
            self.notes.append(f"Faces found (published): {', '.join(differing)}.")

    def leave_out(self, reason: str, names: Sequence[str], place: str = "") -> None:
        """Count left-out files, and add a note with their place and first names."""
        if names:
            self.left_out[reason] += len(names)
            self.notes.append(f"Not read{place and f' in {place}'}, {reason}: {len(names):,} ({few(names)}).")


@dataclass(eq=False)
class Reader:
    """Base class of readers of one family of data sets; cheap to pickle, because worker processes use copies.

    A subclass defines which folders it matches, by files (`sign_files`, or `candidates` and `fits`) or by `matches`,
    and lists the samples (`list_samples`). Options are keyword fields of a dataclass.

    Attributes:
        root: The folder that `matches`, a folder that holds nothing but its folder, or a file that `fits`.
        base: The folder that matches, or that holds the file. Keys are paths below it unless `Sample.file` is set.
        passed_over: Other readers that the root fits.
        named_classes: Whether the user names the classes, so that emotions and other labels may be mixed.
        name: Name in the configuration (``data.reader=affectnet_csv``).
        title: Name for people.
        signs: The files by which it is recognised, for messages.
        expected: Published counts; empty where none are published.
        choices: The values of each option that takes one of several words.
        sign_files: Paths in the folder of the file by which it is recognised.
        root_suffix: Ending of a root that is a file; empty where it must be a folder.
        one_file: Whether it is one file: the root, or the only one in its folder that `fits`.

    Raises:
        EmodetError: The root does not match, or an option has an unknown value.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    signs: ClassVar[str]
    expected: ClassVar[Counts] = {}
    choices: ClassVar[Mapping[str, Sequence[str]]] = {}
    sign_files: ClassVar[Sequence[str]] = ()
    root_suffix: ClassVar[str] = ""
    one_file: ClassVar[bool] = False

    root: Path
    base: Path = field(init=False, repr=False)
    passed_over: Sequence[str] = field(init=False, repr=False, default=())
    named_classes: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        for option, known in self.choices.items():
            require(getattr(self, option) in known, option, getattr(self, option), ", ".join(known))
        base = self.base_of(self.root, named=True)
        if base is None:
            raise EmodetError(self.missing(self.root))
        self.base = base
        if self.one_file and len(files := self.files()) > 1:
            raise EmodetError(
                f"data.root={self.root}: expected {self.signs}; found {few(file.name for file in files)}. Put them "
                "together, or point data.root at one of them"
            )

    @classmethod
    def candidates(cls, folder: Path) -> Iterable[Path]:
        """Files in a folder by which it may be recognised."""
        return [folder / path for path in cls.sign_files if (folder / path).is_file()]

    @classmethod
    def fits(cls, _file: Path) -> bool:
        """Whether one of `candidates`, or a root with `root_suffix`, is the data set's, readable or damaged."""
        return True

    @classmethod
    def matches(cls, folder: Path) -> bool:
        """Whether the data set lies in this very folder, readable or damaged; may raise OSError."""
        return any(map(cls.fits, cls.candidates(folder)))

    def files(self) -> list[Path]:
        """The root that is a file, or all files in the folder by which it is recognised."""
        return [self.root] if self.root.is_file() else list(filter(self.fits, self.candidates(self.base)))

    def about(self) -> dict[str, Any]:
        """The release's own ``title`` and ``redistributable``, from a file that drawn releases have; else empty."""
        try:
            found = json.loads((self.root / _ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def full_title(self) -> str:
        """`title`, after the release's own where it has one."""
        return ", as ".join([*filter(None, [self.about().get("title")]), self.title])

    @property
    def listed_in(self) -> Path:
        """The first of `files`; one that has gone since is an error where it is read."""
        return next(iter([*self.files(), *(self.base / path for path in self.sign_files)]), self.root)

    @classmethod
    def matches_named(cls, folder: Path) -> bool:
        """Whether it can lie there if the user says that it is of this family."""
        return cls.matches(folder)

    @classmethod
    def missing(cls, root: Path) -> str:
        """The message for a root that does not match."""
        return f"data.root={root}: not a data set of this kind ({cls.title}). Expected {cls.signs}"

    @classmethod
    def base_of(cls, root: Path, *, named: bool = False) -> Path | None:
        """The folder that holds the data set: the root, or the only folder inside it, two levels down at most.

        None where it is not of this family, by names and first lines; `EmodetError` where they may not be read.
        """
        matches = cls.matches_named if named else cls.matches
        try:
            if root.is_file():
                is_one = cls.root_suffix != "" and root.name.lower().endswith(cls.root_suffix) and cls.fits(root)
                return root.parent if is_one else None
            folder = root
            for _ in range(_LEVELS):
                if matches(folder):
                    return folder
                inside = folders_in(folder)
                if len(inside) != 1:
                    return None
                folder = folder / inside[0]
        except PermissionError as problem:
            refuse_unread(problem)
        except OSError:
            pass
        return None

    def list_samples(self, listing: Listing) -> Iterable[Sample]:
        """Yield the samples, and add to ``listing.left_out`` and ``listing.notes``."""
        raise NotImplementedError

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A file is missing or malformed (the message names file and line), fewer than 90 % of the
                annotated pictures are there, or no face is usable.
        """
        listing = Listing()
        for name in self.passed_over:
            listing.notes.append(f"This folder also holds what data.reader={name} reads; it is not read.")
        listing.samples = tuple(sorted(self.list_samples(listing), key=self.sort_key))
        listing.left_out = +listing.left_out
        if not listing.samples:
            raise EmodetError(f"data.root={self.root}: no face with an emotion or another annotation is in {self.base}")
        return listing

    def sort_key(self, sample: Sample) -> Any:
        """What samples are ordered by."""
        return sample.key

    def file_of(self, sample: Sample) -> Path:
        """The file that holds the picture; several samples may share one."""
        return self.base / (sample.file or sample.key)

    def encoded(self, sample: Sample) -> bytes:
        """Return the encoded picture; raises `OSError` if it cannot be read, is not a file or is too large."""
        return read_regular(self.file_of(sample), MAX_ENCODED_BYTES)

    def options(self) -> dict[str, Any]:
        """Return the options as plain values, which are part of the pack's identity."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init and each.name != "root"}
