"""Augmentation of face crops with albumentations, from a plain list in the configuration to a seeded function."""

import os
import warnings
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
        self._compose = A.Compose(_chain(steps))
        self.steps = [dict(step) for step in steps]

    @property
    def transforms(self) -> list[Any]:
        """The steps as albumentations made them: their parameters, checked and complete."""
        return list(self._compose.transforms)

    def __call__(self, crops: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
        """Augment a batch.

        Args:
            crops: uint8 (N, H, W, 3), RGB.
            seed: The same seed and crops give the same result, in whichever process.

        Returns:
            uint8 (N, H, W, 3), RGB; a new array.

        Raises:
            EmodetError: A step changes the crops' size or type.
        """
        if not self.steps:
            return crops.copy()
        # Seeding makes one generator per transform: cheap for a batch, half of the work for a single face.
        self._compose.set_random_seed(seed)
        found = np.empty_like(crops)
        for place, crop in enumerate(crops):
            image = self._compose(image=crop)["image"]
            if getattr(image, "shape", None) != crop.shape or image.dtype != np.uint8:
                raise EmodetError(
                    f"augmentation: {', '.join(str(step['name']) for step in self.steps)} made {type(image).__name__} "
                    f"of shape {tuple(image.shape)} and type {image.dtype} out of uint8 {crop.shape}; "
                    "leave out the step that changes size or type"
                )
            found[place] = image
        return found


def _chain(steps: object) -> list[Any]:
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not all(isinstance(it, Mapping) for it in steps):
        raise EmodetError(f"augmentation: steps or transforms {steps!r}: expected a list of {{name: TRANSFORM, …}}")
    return [_transform(step) for step in steps]


def _transform(step: Mapping[str, Any]) -> Any:
    arguments = dict(step)
    name = arguments.pop("name", None)
    kind = getattr(A, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose)):
        raise EmodetError(f"augmentation: name={name!r} is not a transform of albumentations {A.__version__}")
    if "transforms" in arguments:
        arguments["transforms"] = _chain(arguments["transforms"])
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
        with warnings.catch_warnings():
            # An argument that it does not know only makes it warn; below it is refused.
            warnings.filterwarnings("ignore", message="Argument")
            transform = kind(**arguments)
    except (TypeError, ValueError) as problem:
        raise EmodetError(f"augmentation: {name} does not take {arguments} ({problem})") from None
    _refuse_unknown(transform, name, arguments)
    return transform


def _refuse_unknown(transform: Any, name: str, arguments: Mapping[str, Any]) -> None:
    known: set[str] = {"p", "transforms"}
    for kind in type(transform).__mro__:
        function = getattr(kind.__dict__.get("__init__"), "__wrapped__", kind.__dict__.get("__init__"))
        code = getattr(function, "__code__", None)
        if code is not None:
            known.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
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
