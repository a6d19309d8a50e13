"""From the configuration's flat keys to a data module."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from emodet.data.sources import Source, default_packs
from emodet.datasets.readers import READERS
from emodet.errors import EmodetError

if TYPE_CHECKING:
    from emodet.data.datamodule import EmotionDataModule

SOURCE_KEYS = tuple(field.name for field in fields(Source))
"""Keys of ``data`` that can be set for one data set of a mix."""

_FOR_EACH_SOURCE = ("crop", "labels", "val_from", "processes", "max_unreadable")
_FOR_ALL = (
    *("classes", "split_seed", "batch_size", "eval_batch_size", "sampling", "training_faces", "num_workers"),
    "corrections",
)

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
        "FER+ is one Parquet file with the pictures of FER2013 and the votes of FER+ (docs/data.md). Name it with "
        f"data.root=/path/to/ferplus or the environment variable EMODET_FERPLUS. {_DRAWN}"
    ),
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Keys of the configuration group ``data``.

    Those that are not described here are the arguments of `Source` and `EmotionDataModule`.

    Attributes:
        root: The data set's folder; None for a mix.
        sources: A mix: settings of each data set by name, which override those here.
        packs: See `Source`; None takes `default_packs`.
    """

    root: str | None = None
    sources: Any = None
    packs: str | None = None
    reader: str = "auto"
    reader_options: dict[str, Any] | None = None
    crop: str = "image"
    labels: str = "hard"
    val_from: str | float = "auto"
    processes: int | None = None
    max_unreadable: float = 0.01
    classes: int | Sequence[str] | None = None
    split_seed: int = 0
    batch_size: int = 32
    eval_batch_size: int = 256
    sampling: str = "natural"
    training_faces: int | None = None
    num_workers: int | None = None
    corrections: str | None = None


def build_datamodule(
    data: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> "EmotionDataModule":
    """The data module of the configuration groups ``data``, ``preprocessing`` and ``augmentation``.

    They hold the keys of `DataSettings` and the arguments of `Preprocessing` and `Augmentation`; `seed` is that of
    order and augmentation.
    """
    # Not at the top of the file: the keys are read, for `--help`, without torch and albumentations.
    from emodet.data.augmentation import Augmentation
    from emodet.data.datamodule import EmotionDataModule

    given = DataSettings(**data)
    shared = {name: getattr(given, name) for name in _FOR_EACH_SOURCE}
    shared["packs"] = default_packs() if given.packs is None else given.packs
    if given.sources:
        if given.root is not None:
            raise EmodetError(f"data.root={given.root} is for one data set; in a mix each has its own in data.sources")
        sources: Source | dict[str, Source] = _sources(given.sources, shared)
    elif given.root is None:
        raise EmodetError(f"data.root is not set. {_how_to_get(given.reader)}")
    else:
        sources = Source(given.root, given.reader, given.reader_options or {}, **shared)
    own = {name: getattr(given, name) for name in _FOR_ALL}
    augmented = Augmentation(**(augmentation or {}))
    return EmotionDataModule(sources, preprocessing, augmentation=augmented, seed=seed, **own)


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
