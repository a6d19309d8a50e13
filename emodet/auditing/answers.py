"""What a model file says of crops of any size, for a look at the class order."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.modelfile import ModelFile

__all__ = ["answered_classes", "some_of_each_class"]

_AT_ONCE = 256


def some_of_each_class(
    emotion: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], most: int, seed: int
) -> npt.NDArray[np.int64]:
    """At most `most` of `rows` for each emotion, drawn at random: int64, rising."""
    generator = np.random.default_rng([seed, 0xA5C])
    parts = []
    for number in np.unique(emotion[rows]):
        fitting = rows[emotion[rows] == number]
        parts.append(fitting if len(fitting) <= most else generator.choice(fitting, most, replace=False))
    return np.sort(np.concatenate(parts)) if parts else rows[:0]


def answered_classes(
    model: ModelFile, pack: Pack, rows: npt.NDArray[np.int64], class_names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """The most probable of `class_names` for each face: int64 (len(rows),).

    Raises:
        EmodetError: The file does not know one of the classes.
    """
    names = model.info.class_names
    lacking = [name for name in class_names if name not in names]
    if lacking:
        raise EmodetError(f"{model.name} does not know {', '.join(lacking)}; it has {', '.join(names)}")
    columns = [names.index(name) for name in class_names]
    parts = []
    for start in range(0, len(rows), _AT_ONCE):
        crops = [model.info.preprocessing.crop(crop) for crop in pack.images(rows[start : start + _AT_ONCE])]
        parts.append(model.probabilities(np.stack(crops))[:, columns].argmax(axis=1))
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
