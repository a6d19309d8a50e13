"""AffectNet+: pictures with one JSON file each, which holds a person's label, soft labels and a difficulty."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from emodet.datasets import affectnet
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import LEAST_RESOLVED, few, names_in, pictures_by_stem, some_names
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["AffectNetPlus"]

_HUMAN = "human_annotated"
_NO_HUMAN = "no_human_annotated"
_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "train": ("train_set",),
    "val": ("validation_set", "val_set", "valid_set"),
}
_SUBSETS = ("easy", "challenging", "difficult")
_PUBLISHED = {"train": 414_799, "val": 5_500}
_PUBLISHED_NO_HUMAN = 539_607
_MAX_BYTES = 1 << 20
_THREADS = 8
_CHUNK = 256
_ENOUGH_OF_ONE = 0.02  # a sum this far from 1 is rounding

_NO_PICTURE = "annotation without a picture"
_NO_ANNOTATION = "picture without an annotation"
_NOTHING_KNOWN = "neither human label nor soft label"


class AffectNetPlus(FolderReader):
    """``human_annotated/{train_set,validation_set}/{images,annotations}`` and ``no_human_annotated/…``.

    Each ``annotations/<N>.json`` has the keys ``human-label`` (AffectNet's id 0 to 10, or null), ``soft-label`` (eight
    numbers in AffectNet's order), ``subset`` (0 easy, 1 challenging, 2 difficult) and ``meta-data`` with valence and
    arousal. Keys are compared without case, and with hyphen, underscore and space alike; numbers may be text. Soft
    labels that do not sum to 1 are scaled, and counted in a note. Landmarks are not read.

    Written after the release's description and not tried on the release itself. Whether its pictures are face crops
    of one size is not known: they are taken as they are, without a box.

    Fard et al. 2024, AffectNet+ (arXiv 2410.22506): 414,799 and 5,500 faces, and 539,607 without a human label.

    Args:
        root: The unpacked release, or a folder that holds nothing but its folder.
        no_human: Train also on the faces that no person labelled. They have soft labels but no emotion, so only
            ``data.labels=soft`` learns from them.
        subset: ``all``, or only the faces that are ``easy``, ``challenging`` or ``difficult``.

    Raises:
        EmodetError: The root bears none of the signs, or there is no such subset.
    """

    name: ClassVar[str] = "affectnet_plus"
    title: ClassVar[str] = "AffectNet+ (soft labels)"
    signs: ClassVar[str] = "human_annotated/ or no_human_annotated/ with annotations/*.json"

    def __init__(self, root: Path, *, no_human: bool = False, subset: str = "all") -> None:
        if subset not in ("all", *_SUBSETS):
            raise EmodetError(f"subset={subset!r}: there are all, {', '.join(_SUBSETS)}")
        super().__init__(root)
        self.no_human, self.subset = no_human, subset

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: An annotation is not what it should be, fewer than 90 % of the annotated pictures are there, or
                the part asked for is not. The message names the file.
        """
        findings = _Findings()
        records: list[Sample] = []
        for split, names in _FOLDERS.items():
            found = [f"{_HUMAN}/{name}" for name in names if (self.base / _HUMAN / name / "annotations").is_dir()]
            if not found:
                findings.notes.append(f"There is no {_HUMAN}/{names[0]}/, so no {split} faces with a human label.")
                continue
            if len(found) > 1:
                findings.notes.append(f"Read {found[0]}/; passed over {few(found[1:])}.")
            records += self._part(found[0], split, _PUBLISHED[split], findings)
        if self.no_human:
            if not (self.base / _NO_HUMAN / "annotations").is_dir():
                raise EmodetError(
                    f"data.root={self.root}: no_human=True asks for {_NO_HUMAN}/, which is not there. "
                    "Unpack that part of the release, or leave the option out"
                )
            records += self._part(_NO_HUMAN, "train", _PUBLISHED_NO_HUMAN, findings)
        elif (self.base / _NO_HUMAN).is_dir():
            findings.notes.append(f"{_NO_HUMAN}/ is there but not read; the reader's option no_human=true reads it.")
        if not records:
            raise EmodetError(f"{self.base}: no face with one of the eight emotions, or a soft label, is annotated")
        records.sort(key=lambda record: record.key)
        doubt = affectnet.doubt_about_order(records)
        notes = (*findings.notes, *findings.sentences(), *([doubt] if doubt else []))
        return Listing(tuple(records), dict(findings.left_out), notes)

    def options(self) -> dict[str, Any]:
        return {"no_human": self.no_human, "subset": self.subset}

    def _part(self, name: str, split: str, published: int, findings: "_Findings") -> list[Sample]:
        folder = self.base / name
        annotated = {
            text.rpartition(".")[0] for text in names_in(folder / "annotations") if text.lower().endswith(".json")
        }
        pictures, passed_over = pictures_by_stem(folder / "images")
        stems = sorted(annotated & set(pictures))
        missing = sorted(annotated - set(pictures))
        extra = sorted(set(pictures) - annotated)
        if len(missing) > (1 - LEAST_RESOLVED) * len(annotated):
            raise EmodetError(
                f"{folder}: {len(annotated):,} faces are annotated but images/ holds pictures of {len(stems):,} of "
                f"them (not there: {few(missing)}). Unpack all parts of the archive"
            )
        for reason, which in ((_NO_PICTURE, missing), (_NO_ANNOTATION, extra)):
            if which:
                findings.left_out[reason] += len(which)
                findings.notes.append(f"{name}/, {reason}: {len(which):,} ({few(which)}).")
        if passed_over:
            findings.notes.append(f"{name}/images/: pictures named like another passed over: {few(passed_over)}.")
        findings.notes += affectnet.doubt_about_totals({name: len(stems)}, {name: published})
        records = []
        for stem, face in zip(stems, _read(folder / "annotations", stems), strict=True):
            if self.subset != "all" and face.subset != self.subset:
                findings.left_out[f"subset {face.subset or 'not given'}"] += 1
                continue
            label = None if face.label is None else affectnet.CLASS_NAMES[face.label]
            if label is not None and label not in EMOTIONS:
                findings.left_out[label] += 1
                continue
            if label is None and face.shares is None:
                findings.left_out[_NOTHING_KNOWN] += 1
                continue
            findings.add(face)
            key = f"{name}/images/{pictures[stem]}"
            records.append(Sample(key, split, face.label, face.shares, face.valence, face.arousal))
        return records

    @classmethod
    def _base_of(cls, root: Path) -> Path | None:
        # The root may also be one of the two parts.
        if root.name in (_HUMAN, _NO_HUMAN) and cls._bears_signs(root.parent):
            return root.parent
        return super()._base_of(root)

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        parts = [_NO_HUMAN, *(f"{_HUMAN}/{name}" for names in _FOLDERS.values() for name in names)]
        return any(
            name.lower().endswith(".json") for part in parts for name in some_names(folder / part / "annotations")
        )


class _Face(NamedTuple):
    """One annotation, understood."""

    label: int | None
    shares: tuple[float, ...] | None
    total: float
    subset: str | None
    valence: float | None
    arousal: float | None


class _Findings:
    """What is met on the way, for the listing."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.notes: list[str] = []
        self._counts: Counter[str] = Counter()
        self._totals: list[float] = []

    def add(self, face: _Face) -> None:
        self._counts["label"] += face.label is None
        self._counts["shares"] += face.shares is None
        self._counts["valence"] += face.valence is None
        self._counts[face.subset or "no subset"] += 1
        if face.shares is not None and abs(face.total - 1) > _ENOUGH_OF_ONE:
            self._totals.append(face.total)

    def sentences(self) -> Iterator[str]:
        if self._counts["label"]:
            yield (
                f"{self._counts['label']:,} faces have no human label: their soft labels can train, no metric counts "
                "them."
            )
        if self._counts["shares"]:
            yield f"{self._counts['shares']:,} faces have no soft label (none given, or all zero)."
        if self._totals:
            yield (
                f"{len(self._totals):,} soft labels did not sum to 1 but to {min(self._totals):.3g} up to "
                f"{max(self._totals):.3g}; they were scaled."
            )
        if self._counts["valence"]:
            yield f"{self._counts['valence']:,} faces have no valence and arousal (none given, -2 or outside -1 to 1)."
        subsets = [f"{name} {self._counts[name]:,}" for name in (*_SUBSETS, "no subset") if self._counts[name]]
        yield f"Subsets: {', '.join(subsets)}."


def _read(folder: Path, stems: list[str]) -> Iterable[_Face]:
    """Several files at a time: opening them is what takes the time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        chunks = [stems[start : start + _CHUNK] for start in range(0, len(stems), _CHUNK)]
        try:
            for faces in pool.map(
                lambda chunk: [_Annotation(folder / f"{stem}.json").face() for stem in chunk], chunks
            ):
                yield from faces
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One JSON file."""

    path: Path

    def face(self) -> _Face:
        """What it says.

        Raises:
            EmodetError: It is not what it should be.
        """
        content = self._content()
        if "human-label" not in content and "soft-label" not in content:
            raise self._error(f"neither human-label nor soft-label is among its keys ({few(content, 8)})")
        meta = content.get("meta-data")
        values = {**_by_key(meta), **content} if isinstance(meta, dict) else content
        valence, arousal = affectnet.valence_and_arousal(
            *(math.nan if values.get(key) is None else self._number(key, values[key]) for key in ("valence", "arousal"))
        )
        shares, total = self._shares(content.get("soft-label"))
        subset = self._index("subset", content.get("subset"), len(_SUBSETS))
        return _Face(
            label=self._index("human-label", content.get("human-label"), len(affectnet.CLASS_NAMES)),
            shares=shares,
            total=total,
            subset=None if subset is None else _SUBSETS[subset],
            valence=valence,
            arousal=arousal,
        )

    def _content(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise self._error(f"over {_MAX_BYTES:,} bytes are no annotation")
            content = json.loads(data.decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as problem:
            raise self._error(f"cannot be read as JSON ({problem})") from None
        if not isinstance(content, dict):
            raise self._error("not a JSON object")
        return _by_key(content)

    def _shares(self, value: object) -> tuple[tuple[float, ...] | None, float]:
        """The soft label scaled to sum to 1, and what it summed to."""
        if value is None:
            return None, 0.0
        if isinstance(value, str):
            value = re.split(r"[\s,;]+", value.strip(" []()"))
        if not isinstance(value, list) or len(value) != len(EMOTIONS):
            raise self._error(f"soft-label is not a list of {len(EMOTIONS)} numbers")
        shares = [self._number("soft-label", share) for share in value]
        total = sum(shares)
        if min(shares) < 0 or not math.isfinite(total):
            raise self._error(f"soft-label has shares that are negative or not finite ({few(map(str, shares), 8)})")
        return (tuple(share / total for share in shares), total) if total > 0 else (None, 0.0)

    def _index(self, key: str, value: object, count: int) -> int | None:
        if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "nan")):
            return None
        number = self._number(key, value)
        if number not in range(count):
            raise self._error(f"{key}={value!r} is not a number from 0 to {count - 1}")
        return int(number)

    def _number(self, key: str, value: object) -> float:
        try:
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise self._error(f"{key} has {str(value)[:40]!r} where a number was expected")

    def _error(self, what: str) -> EmodetError:
        return EmodetError(f"{self.path}: {what}")


def _by_key(content: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[\s_]", "-", key.strip().lower()): value for key, value in content.items()}
