"""AffectNet+: pictures with one JSON file each, which holds a person's label, soft labels and a difficulty."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from emodet.datasets import affectnet
from emodet.datasets.folders import few, names_in
from emodet.datasets.listed_pictures import read_annotations, split_parts
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError, errors_of

_HUMAN, _NO_HUMAN = "human_annotated", "no_human_annotated"
_FOLDERS = {"train": ("train_set",), "val": ("validation_set", "val_set", "valid_set")}
_SUBSETS = ("easy", "challenging", "difficult")
_PUBLISHED = {"train": 414_799, "val": 5_500}
_PUBLISHED_NO_HUMAN = 539_607
_ROUNDING = 0.02


@dataclass(kw_only=True, eq=False)
class AffectNetPlus(Reader):
    """``human_annotated/{train_set,validation_set}/{images,annotations}`` and ``no_human_annotated/…``.

    Each ``annotations/<N>.json`` has the keys ``human-label`` (AffectNet's id 0 to 10, or null), ``soft-label`` (eight
    numbers in AffectNet's order), ``subset`` (0 easy, 1 challenging, 2 difficult) and ``meta-data`` with valence and
    arousal. Keys are compared without case, and with hyphen, underscore and space alike; numbers may be text. Soft
    labels that do not sum to 1 are scaled, and counted in a note. Landmarks are not read.

    Written after the release's description (Fard et al. 2024, arXiv 2410.22506) and not tried on the release itself.
    Whether its pictures are face crops of one size is not known: they are taken as they are, without a box.

    Args:
        no_human: Train also on the faces that no person labelled. They have soft labels but no emotion, so only
            ``data.labels=soft`` learns from them.
        subset: ``all``, or only the faces that are ``easy``, ``challenging`` or ``difficult``.
    """

    name = "affectnet_plus"
    title = "AffectNet+ (soft labels)"
    signs = "human_annotated/ or no_human_annotated/ with annotations/*.json"
    choices = {"subset": ("all", *_SUBSETS)}  # noqa: RUF012

    no_human: bool = False
    subset: str = "all"

    @classmethod
    def matches(cls, folder: Path) -> bool:
        parts = [_NO_HUMAN, *(f"{_HUMAN}/{name}" for names in _FOLDERS.values() for name in names)]
        return any(
            name.lower().endswith(".json") for part in parts for name in names_in(folder / part / "annotations", 1000)
        )

    @classmethod
    def base_of(cls, root: Path, *, named: bool = False) -> Path | None:
        # The root may also be one of the two parts.
        if root.name in (_HUMAN, _NO_HUMAN) and cls.matches(root.parent):
            return root.parent
        return super().base_of(root, named=named)

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        for split, folder in split_parts(listing, self.base / _HUMAN, _FOLDERS, "annotations"):
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
        affectnet.compare_totals(listing, {name: len(found)}, {name: published})
        totals, subsets = [], Counter[str]()
        for picture, face in found:
            label = None if face.label is None else affectnet.CLASS_NAMES[face.label]
            if self.subset not in ("all", face.subset):
                listing.left_out[f"subset {face.subset}"] += 1
            elif label is not None and label not in EMOTIONS:
                listing.left_out[label] += 1
            elif label is None and face.shares is None:
                listing.left_out["neither human label nor soft label"] += 1
            else:
                subsets[face.subset] += 1
                totals += [face.total] if face.shares and abs(face.total - 1) > _ROUNDING else []
                yield Sample(f"{name}/{picture}", split, face.label, face.shares, face.valence, face.arousal)
        if totals:
            between = f"{min(totals):.3g} up to {max(totals):.3g}"
            listing.notes.append(f"{name}/: {len(totals):,} soft labels summed to {between}, not to 1, and are scaled.")
        listing.notes.append(f"{name}/, subsets: {', '.join(f'{key} {subsets[key]:,}' for key in sorted(subsets))}.")


class _Face(NamedTuple):
    label: int | None
    shares: tuple[float, ...] | None
    total: float  # of the shares as given
    subset: str
    valence: float | None
    arousal: float | None


def _read(path: Path) -> _Face:
    problems = (OSError, ValueError, AttributeError, RecursionError)
    with errors_of(path, "cannot be read as a JSON object", *problems):
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        values = _by_key(content)
        if "human-label" not in values and "soft-label" not in values:
            raise EmodetError(f"neither human-label nor soft-label is among its keys ({few(values, 8)})")
        if isinstance(values.get("meta-data"), dict):
            values = {**_by_key(values["meta-data"]), **values}
        valence, arousal = (_number(key, values.get(key), math.nan) for key in ("valence", "arousal"))
        label = _number("human-label", values.get("human-label"), None, range(len(affectnet.CLASS_NAMES)))
        subset = _number("subset", values.get("subset"), None, range(len(_SUBSETS)))
        return _Face(
            None if label is None else int(label),
            *_shares(values.get("soft-label")),
            "not given" if subset is None else _SUBSETS[int(subset)],
            *affectnet.valence_and_arousal(valence, arousal),
        )


def _shares(value: object) -> tuple[tuple[float, ...] | None, float]:
    """The soft label scaled to sum to 1, and what it summed to."""
    if value is None:
        return None, 0.0
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip(" []()"))
    if not isinstance(value, list) or len(value) != len(EMOTIONS):
        raise EmodetError(f"soft-label is not a list of {len(EMOTIONS)} numbers")
    shares = [_number("soft-label", share, math.nan) for share in value]
    total = sum(shares)
    if min(shares) < 0 or not math.isfinite(total):
        raise EmodetError(f"soft-label has shares that are negative or not finite ({few(map(str, shares), 8)})")
    return (tuple(share / total for share in shares), total) if total > 0 else (None, 0.0)


_D = TypeVar("_D", float, None)


def _number(key: str, value: object, default: _D, allowed: range | None = None) -> float | _D:
    """A number, also as text; the default for null."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "nan")):
        return default
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if allowed is None or number in allowed:
                return number
    except (ValueError, OverflowError):
        pass
    raise EmodetError(f"{key}={value!r:.60} is not a number{f' from 0 to {allowed[-1]}' if allowed else ''}")


def _by_key(content: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[\s_]", "-", key.strip().lower()): value for key, value in content.items()}
