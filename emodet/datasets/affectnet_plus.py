"""AffectNet+: pictures with one JSON file each, with human label, soft label and difficulty."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from emodet.datasets import affectnet
from emodet.datasets.folders import few, names_in, split_folders
from emodet.datasets.listed_pictures import read_annotations, split_parts
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError, errors_of

_HUMAN, _NO_HUMAN = "human_annotated", "no_human_annotated"
_SUBSETS = ("easy", "challenging", "difficult")
_PUBLISHED = {"train": 414_799, "val": 5_500, "test": 0}
_PUBLISHED_NO_HUMAN = 539_607
_ROUNDING = 0.02


@dataclass(kw_only=True, eq=False)
class AffectNetPlus(Reader):
    """``human_annotated/{train_set,validation_set}/{images,annotations}`` and ``no_human_annotated/…``.

    Each ``annotations/<N>.json`` has the keys ``human-label`` (AffectNet's id 0 to 10, or null), ``soft-label`` (eight
    numbers in AffectNet's order), ``subset`` (0 easy, 1 challenging, 2 difficult) and ``meta-data`` with valence and
    arousal. Keys are compared without case; hyphen, underscore and space are equivalent; numbers can be text. Soft
    labels that do not sum to 1 are scaled, and counted in a note. Landmarks are not read.

    Written from the description of the release (Fard et al. 2024, arXiv 2410.22506) and not tried on the release.
    It is unknown whether its pictures are face crops of one size: they are used unchanged, without a box.

    Args:
        no_human: Whether to train on faces without a human label too. They have soft labels but no emotion, so they are
            used only with ``data.labels=soft``.
        subset: ``all``, or only ``easy``, ``challenging`` or ``difficult`` faces.
    """

    name = "affectnet_plus"
    title = "AffectNet+ (soft labels)"
    signs = "human_annotated/ or no_human_annotated/ with annotations/*.json"
    choices = {"subset": ("all", *_SUBSETS)}  # noqa: RUF012

    no_human: bool = False
    subset: str = "all"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        parts = [
            _NO_HUMAN,
            *(f"{_HUMAN}/{name}" for names in split_folders(folder / _HUMAN).values() for name in names),
        ]
        return any(
            name.lower().endswith(".json") for part in parts for name in names_in(folder / part / "annotations", 1000)
        )

    @classmethod
    def base_of(cls, root: Path, *, named: bool = False) -> Path | None:
        # The root can also be one of the two parts.
        if root.name in (_HUMAN, _NO_HUMAN) and cls.matches(root.parent):
            return root.parent
        return super().base_of(root, named=named)

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        for split, folder in split_parts(listing, self.base / _HUMAN, "annotations"):
            samples += self._part(listing, folder, split, _PUBLISHED[split])
        if self.no_human:
            if not (self.base / _NO_HUMAN / "annotations").is_dir():
                raise EmodetError(
                    f"data.root={self.root}: no_human=True asks for {_NO_HUMAN}/, which is not there. "
                    "Unpack that part of the release, or leave the option out"
                )
            samples += self._part(listing, self.base / _NO_HUMAN, "train", _PUBLISHED_NO_HUMAN)
        elif (self.base / _NO_HUMAN).is_dir():
            listing.notes.append(f"{_NO_HUMAN}/ is there but not read; the reader's option no_human=true reads it.")
        for what, value in (("human label", "emotion"), ("soft label", "soft_label")):
            if without := sum(getattr(sample, value) is None for sample in samples):
                listing.notes.append(f"{without:,} faces have no {what}.")
        affectnet.check(listing, samples)
        return samples

    def _part(self, listing: Listing, folder: Path, split: str, published: int) -> Iterator[Sample]:
        name = folder.relative_to(self.base).as_posix()
        found = list(read_annotations(listing, folder / "annotations", ".json", "an annotation", _read))
        listing.compare({name: published}, {name: len(found)})
        totals, subsets = [], Counter[str]()
        for picture, face in found:
            if self.subset not in ("all", face.subset):
                listing.left_out[f"subset {face.subset}"] += 1
            elif face.emotion is not None and face.emotion >= len(EMOTIONS):
                listing.left_out[affectnet.CLASS_NAMES[face.emotion]] += 1
            elif face.emotion is None and face.soft_label is None:
                listing.left_out["neither human label nor soft label"] += 1
            else:
                subsets[face.subset] += 1
                totals += [face.total] if face.soft_label and abs(face.total - 1) > _ROUNDING else []
                yield Sample(f"{name}/{picture}", split, *face[2:])
        if totals:
            between = f"{min(totals):.3g} up to {max(totals):.3g}"
            listing.notes.append(f"{name}/: {len(totals):,} soft labels summed to {between}, not to 1, and are scaled.")
        listing.notes.append(f"{name}/, subsets: {', '.join(f'{key} {subsets[key]:,}' for key in sorted(subsets))}.")


class _Face(NamedTuple):
    subset: str
    total: float  # sum of the soft label in the file
    emotion: int | None
    soft_label: tuple[float, ...] | None
    valence: float | None
    arousal: float | None


def _read(path: Path) -> _Face:
    problems = (OSError, ValueError, AttributeError, RecursionError)
    with errors_of(path, "cannot be read as a JSON object", *problems):
        values = _by_key(json.loads(path.read_bytes().decode("utf-8-sig")))
        if "human-label" not in values and "soft-label" not in values:
            raise EmodetError(f"neither human-label nor soft-label is among its keys ({few(values, 8)})")
        if isinstance(values.get("meta-data"), dict):
            values = {**_by_key(values["meta-data"]), **values}
        label = _number(values, "human-label", range(len(affectnet.CLASS_NAMES)))
        subset = _number(values, "subset", range(len(_SUBSETS)))
        shares = _shares(values.get("soft-label"))
        total = sum(shares)
        return _Face(
            "not given" if math.isnan(subset) else _SUBSETS[int(subset)],
            total,
            None if math.isnan(label) else int(label),
            tuple(share / total for share in shares) if total > 0 else None,
            *affectnet.valence_and_arousal(_number(values, "valence"), _number(values, "arousal")),
        )


def _shares(value: object) -> list[float]:
    """Return the soft label in the file, or an empty list."""
    if value is None:
        return []
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip(" []()"))
    if not isinstance(value, list) or len(value) != len(EMOTIONS):
        raise EmodetError(f"soft-label is not a list of {len(EMOTIONS)} numbers")
    shares = [_number({"soft-label": share}, "soft-label") for share in value]
    if min(shares) < 0 or not math.isfinite(sum(shares)):
        raise EmodetError(f"soft-label has shares that are negative or not finite ({few(map(str, shares), 8)})")
    return shares


def _number(values: Mapping[str, Any], key: str, allowed: range | None = None) -> float:
    """Parse a number, possibly given as text; NaN for null."""
    value = values.get(key)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "nan")):
        return math.nan
    with suppress(ValueError, OverflowError):
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if allowed is None or number in allowed:
                return number
    raise EmodetError(f"{key}={value!r:.60} is not a number{f' from 0 to {allowed[-1]}' if allowed else ''}")


def _by_key(content: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[\s_]", "-", key.strip().lower()): value for key, value in content.items()}
