"""AffectNet+: pictures with one JSON file each, which holds a person's label, soft labels and a difficulty."""

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from emodet.datasets import affectnet
from emodet.datasets.folders import few, names_in, some_names
from emodet.datasets.listed_pictures import map_in_threads, pair_by_stem, split_part
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["AffectNetPlus"]

_HUMAN, _NO_HUMAN = "human_annotated", "no_human_annotated"
_FOLDERS: Mapping[str, tuple[str, ...]] = {"train": ("train_set",), "val": ("validation_set", "val_set", "valid_set")}
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
            name.lower().endswith(".json") for part in parts for name in some_names(folder / part / "annotations")
        )

    @classmethod
    def base_of(cls, root: Path, *, named: bool = False) -> Path | None:
        # The root may also be one of the two parts.
        if root.name in (_HUMAN, _NO_HUMAN) and cls.matches(root.parent):
            return root.parent
        return super().base_of(root, named=named)

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        for split, names in _FOLDERS.items():
            folder = split_part(listing, self.base / _HUMAN, names, "annotations", split)
            if folder is not None:
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
        files = names_in(folder / "annotations")
        stems = sorted({file.rpartition(".")[0] for file in files if file.lower().endswith(".json")})
        pairs = pair_by_stem(listing, folder, "annotations", stems, "an annotation")
        affectnet.compare_totals(listing, {name: len(pairs)}, {name: published})
        faces = map_in_threads(functools.partial(_read, folder / "annotations"), [stem for stem, _ in pairs])
        totals, subsets = [], Counter[str]()
        for (_, picture), face in zip(pairs, faces, strict=True):
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
                key = f"{name}/images/{picture}"
                yield Sample(key, split, face.label, face.shares, face.valence, face.arousal)
        if totals:
            between = f"{min(totals):.3g} up to {max(totals):.3g}"
            listing.notes.append(f"{name}/: {len(totals):,} soft labels summed to {between}, not to 1, and are scaled.")
        listing.notes.append(f"{name}/, subsets: {', '.join(f'{key} {subsets[key]:,}' for key in sorted(subsets))}.")


class _Face(NamedTuple):
    label: int | None
    shares: tuple[float, ...] | None
    total: float
    subset: str
    valence: float | None
    arousal: float | None


def _read(folder: Path, stem: str) -> _Face:
    path = folder / f"{stem}.json"
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return _face(_by_key(content))
    except (OSError, ValueError, RecursionError) as problem:
        raise EmodetError(f"{path}: cannot be read as JSON ({problem})") from None
    except EmodetError as problem:
        raise EmodetError(f"{path}: {problem}") from None


def _face(content: Mapping[str, Any]) -> _Face:
    if "human-label" not in content and "soft-label" not in content:
        raise EmodetError(f"neither human-label nor soft-label is among its keys ({few(content, 8)})")
    meta = content.get("meta-data")
    values = {**_by_key(meta), **content} if isinstance(meta, dict) else content
    numbers = (math.nan if values.get(key) is None else _number(key, values[key]) for key in ("valence", "arousal"))
    subset = _index("subset", content.get("subset"), len(_SUBSETS))
    return _Face(
        _index("human-label", content.get("human-label"), len(affectnet.CLASS_NAMES)),
        *_shares(content.get("soft-label")),
        "not given" if subset is None else _SUBSETS[subset],
        *affectnet.valence_and_arousal(*numbers),
    )


def _shares(value: object) -> tuple[tuple[float, ...] | None, float]:
    """The soft label scaled to sum to 1, and what it summed to."""
    if value is None:
        return None, 0.0
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip(" []()"))
    if not isinstance(value, list) or len(value) != len(EMOTIONS):
        raise EmodetError(f"soft-label is not a list of {len(EMOTIONS)} numbers")
    shares = [_number("soft-label", share) for share in value]
    total = sum(shares)
    if min(shares) < 0 or not math.isfinite(total):
        raise EmodetError(f"soft-label has shares that are negative or not finite ({few(map(str, shares), 8)})")
    return (tuple(share / total for share in shares), total) if total > 0 else (None, 0.0)


def _index(key: str, value: object, count: int) -> int | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "nan")):
        return None
    number = _number(key, value)
    if number not in range(count):
        raise EmodetError(f"{key}={value!r} is not a number from 0 to {count - 1}")
    return int(number)


def _number(key: str, value: object) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise EmodetError(f"{key} has {str(value)[:40]!r} where a number was expected")


def _by_key(content: Mapping[str, Any]) -> dict[str, Any]:
    return {re.sub(r"[\s_]", "-", key.strip().lower()): value for key, value in content.items()}
