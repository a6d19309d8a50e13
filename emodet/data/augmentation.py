"""Augmentation of face crops with albumentations, from a plain list in the configuration to a seeded function."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# albumentations asks the network for a newer version of itself at import unless it is told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from emodet.errors import EmodetError

__all__ = ["Augmentation"]

_BORDERS = {
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "constant": cv2.BORDER_CONSTANT,
}
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


class Augmentation:
    """A chain of albumentations transforms on uint8 RGB crops that keep their size.

    Args:
        steps: One mapping per transform: ``name`` is the class in albumentations, the rest its arguments. Groups
            (``OneOf``, ``SomeOf``, ``Sequential``) hold their members under ``transforms``. ``border_mode``,
            ``interpolation`` and a downscale's ``interpolation_pair`` are written in words.

    Raises:
        EmodetError: A transform is not known, or does not take an argument that was given.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]]) -> None:
        self.steps = [dict(step) for step in steps]
        self._compose = A.Compose([_transform(step) for step in self.steps])

    def __call__(self, crops: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
        """Augment a batch.

        Args:
            crops: uint8 (N, H, W, 3), RGB.
            seed: The same seed and crops give the same result, in whichever process.

        Returns:
            uint8 (N, H, W, 3), RGB; a new array.
        """
        if not self.steps:
            return crops.copy()
        # Seeding makes one generator per transform: cheap for a batch, half of the work for a single face.
        self._compose.set_random_seed(seed)
        return np.stack([self._compose(image=crop)["image"] for crop in crops])


def _transform(step: Mapping[str, Any]) -> Any:
    arguments = dict(step)
    name = arguments.pop("name", None)
    kind = getattr(A, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose)):
        raise EmodetError(f"augmentation: name={name!r} is not a transform of albumentations {A.__version__}")
    if "transforms" in arguments:
        arguments["transforms"] = [_transform(member) for member in arguments["transforms"]]
    for key, value in arguments.items():
        if key == "border_mode":
            arguments[key] = _word(_BORDERS, name, key, value)
        elif key == "interpolation":
            arguments[key] = _word(_INTERPOLATIONS, name, key, value)
        elif key == "interpolation_pair":
            arguments[key] = {way: _word(_INTERPOLATIONS, name, key, word) for way, word in value.items()}
        elif isinstance(value, list) and key != "transforms":
            arguments[key] = tuple(value)
    try:
        transform = kind(**arguments)
    except (TypeError, ValueError) as problem:
        raise EmodetError(f"augmentation: {name} does not take {arguments} ({problem})") from None
    _refuse_unknown(transform, name, arguments)
    return transform


def _refuse_unknown(transform: Any, name: str, arguments: Mapping[str, Any]) -> None:
    # albumentations only warns of an argument that it does not know, and goes on without it.
    known: set[str] = {"p", "transforms"}
    for kind in type(transform).__mro__:
        code = getattr(kind.__dict__.get("__init__"), "__wrapped__", kind.__dict__.get("__init__"))
        known.update(getattr(getattr(code, "__code__", None), "co_varnames", ()))
        schema = kind.__dict__.get("InitSchema")
        known.update(getattr(schema, "model_fields", {}))
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise EmodetError(f"augmentation: {name} has no argument {', '.join(unknown)}")


def _word(words: Mapping[str, int], name: str, key: str, value: Any) -> int:
    try:
        return words[value]
    except (KeyError, TypeError):
        raise EmodetError(f"augmentation: {name}.{key}={value!r}: there are {', '.join(words)}") from None
