"""From the configuration's flat keys to a data module."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from emodet.data.augmentation import Augmentation
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source, default_packs
from emodet.datasets.readers import READERS
from emodet.errors import EmodetError

__all__ = ["SOURCE_KEYS", "build_datamodule"]

SOURCE_KEYS = tuple(field.name for field in fields(Source))
"""Keys of ``data`` that can be set for one data set of a mix."""

# It becomes part of metric names and of keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_DRAWN = "Without it, data=synthetic runs the same on drawn faces"
_HOW_TO_GET = {
    "affectnet": (
        "AffectNet is given to researchers by its authors, who ask for a signed agreement: "
        "https://mohammadmahoor.com/pages/databases/affectnet/. Unpack it and name its folder with "
        f"data.root=/path/to/AffectNet or the environment variable EMODET_AFFECTNET. {_DRAWN}"
    ),
    "ferplus": (
        "FER+ is one Parquet file with the pictures of FER2013 and the votes of FER+ (README, Data sets). Name it with "
        f"data.root=/path/to/ferplus or the environment variable EMODET_FERPLUS. {_DRAWN}"
    ),
}


def build_datamodule(
    preprocessing: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    root: str | None = None,
    sources: Any = None,
    packs: str | None = None,
    reader: str = "auto",
    reader_options: dict[str, Any] | None = None,
    crop: str = "image",
    classes: int = 8,
    labels: str = "hard",
    val_from: str | float = "auto",
    split_seed: int = 0,
    batch_size: int = 32,
    eval_batch_size: int = 256,
    sampling: str = "natural",
    training_faces: int | None = None,
    num_workers: int | None = None,
    processes: int | None = None,
    max_unreadable: float = 0.01,
    corrections: str | None = None,
) -> EmotionDataModule:
    """The data module of the configuration groups ``data``, ``preprocessing`` and ``augmentation``.

    Args:
        preprocessing: Arguments of `Preprocessing`.
        augmentation: Arguments of `Augmentation`.
        seed: Of order and augmentation.
        root: Where the data set lies; None for a mix.
        sources: A mix: settings of each data set by name, which override those below.
        packs: See `Source`.
        reader: See `Source`.
        reader_options: See `Source`.
        crop: See `Source`.
        classes: See `EmotionDataModule`.
        labels: See `Source`.
        val_from: See `Source`.
        split_seed: See `EmotionDataModule`.
        batch_size: See `EmotionDataModule`.
        eval_batch_size: See `EmotionDataModule`.
        sampling: See `EmotionDataModule`.
        training_faces: See `EmotionDataModule`.
        num_workers: See `EmotionDataModule`.
        processes: See `Source`.
        max_unreadable: See `Source`.
        corrections: See `EmotionDataModule`.

    Raises:
        EmodetError: There is no data set, or a value is out of its range.
    """
    shared: dict[str, Any] = {
        "packs": default_packs() if packs is None else packs,
        **{"crop": crop, "labels": labels, "val_from": val_from},
        **{"processes": processes, "max_unreadable": max_unreadable},
    }
    if sources:
        if root is not None:
            raise EmodetError(f"data.root={root} is for one data set; in a mix each has its own in data.sources")
        of: Source | dict[str, Source] = _sources(sources, {**shared, "classes": classes})
    elif root is None:
        raise EmodetError(f"data.root is not set. {_how_to_get(reader)}")
    else:
        of = Source(root, reader, reader_options or {}, **shared)
    return EmotionDataModule(
        of,
        preprocessing=preprocessing,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        num_workers=num_workers,
        augmentation=Augmentation(**(augmentation or {})),
        sampling=sampling,
        classes=classes,
        split_seed=split_seed,
        training_faces=training_faces,
        corrections=corrections,
        seed=seed,
    )


def _sources(given: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]) -> dict[str, Source]:
    found = {}
    for name, values in given.items():
        where = f"data.sources: {name}"
        if not _NAME.fullmatch(name):
            raise EmodetError(f"{where!r}: a name of letters, digits, - and _ was expected")
        unknown = sorted(set(values) - set(SOURCE_KEYS))
        if unknown:
            raise EmodetError(
                f"{where}: {', '.join(unknown)} cannot be set for one data set; there are {', '.join(SOURCE_KEYS)}"
            )
        if values.get("root") is None:
            raise EmodetError(f"{where}: root is not set: data.sources={{{name}: {{root: /path}}}}")
        try:
            found[name] = Source(**{**shared, **values})
        except EmodetError as problem:
            raise EmodetError(f"{where}: {problem}") from None
    return found


def _how_to_get(reader: str) -> str:
    if reader in _HOW_TO_GET:
        return _HOW_TO_GET[reader]
    if reader not in READERS or reader.startswith("affectnet") or reader == "yolo":
        return _HOW_TO_GET["affectnet"]
    return f"Name the folder of {READERS[reader].title} with data.root=/path: {READERS[reader].signs}"
