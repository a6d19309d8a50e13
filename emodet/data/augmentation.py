"""Augmentation of face crops with albumentations 2.0.8, which is no longer developed; only this module uses it."""

import os
import pkgutil
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from emodet.arrays import UInt8
from emodet.errors import EmodetError, require

# Otherwise albumentations checks the network for a newer version when imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_WORDS = {
    "border_mode": {
        "replicate": cv2.BORDER_REPLICATE,
        "reflect": cv2.BORDER_REFLECT_101,
        "constant": cv2.BORDER_CONSTANT,
    },
    "interpolation": {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST},
}


class Augmentation:
    """Seeded chains of albumentations transforms on uint8 RGB crops that keep their size.

    Args:
        steps: One mapping per transform: ``name`` of a class in albumentations, or ``_target_`` with the path of your
            own class (``mylab.MyTransform``), and its arguments. Groups (``OneOf``, ``SomeOf``, ``Sequential``) list
            their members as ``transforms``. ``border_mode``, ``interpolation`` and the ``interpolation_pair`` of
            ``Downscale`` are names.
        mix: Instead of `steps`: different steps for parts of a batch, ``[{share: 0.5, steps: […]}, …]``; the shares
            sum to 1.

    Attributes:
        parts: Share of a batch and steps of each part.

    Raises:
        EmodetError: A transform or one of its arguments is unknown, or the shares do not sum to 1.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]] = (), mix: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.parts = [(1.0, _checked_list(steps, "steps"))]
        if mix:
            if steps:
                raise EmodetError("augmentation: steps and mix exclude each other; move the steps into a part of mix")
            for part in (checked := _checked_list(mix, "mix")):
                if set(part) != {"share", "steps"} or not isinstance(part["share"], int | float) or part["share"] <= 0:
                    raise EmodetError(f"augmentation.mix: expected {{share: above 0, steps: […]}}, not {part}")
            self.parts = [(float(part["share"]), _checked_list(part["steps"], "steps")) for part in checked]
            total = sum(share for share, _ in self.parts)
            require(abs(total - 1) <= 1e-6, "augmentation.mix: sum of the shares", round(total, 6), "1")
        import albumentations as A  # deferred: slow to import, not needed for reading the configuration

        self._composed = [A.Compose([_transform(step) for step in own]) if own else None for _, own in self.parts]

    def __call__(self, crops: UInt8, seed: int) -> UInt8:
        """Augment a batch, uint8 (N, H, W, 3) RGB; returns a new array, equal for equal seed and crops.

        Raises:
            EmodetError: A step changes the size or type of the crops.
        """
        found = crops.copy()
        # Batches are in random order, so consecutive rows are a random subset.
        ends = np.rint(np.cumsum([share for share, _ in self.parts]) * len(crops)).astype(int).tolist()
        start = 0
        for number, (compose, end) in enumerate(zip(self._composed, ends, strict=True)):
            if compose is not None:
                # Seeding makes one generator per transform: cheap for a batch, half of the work for a single face.
                compose.set_random_seed(seed + number)
                for row in range(start, end):
                    found[row] = self._augmented(compose, crops[row], number)
            start = end
        return found

    def _augmented(self, compose: Any, crop: UInt8, number: int) -> UInt8:
        image = compose(image=crop)["image"]
        if getattr(image, "shape", None) != crop.shape or image.dtype != np.uint8:
            names = ", ".join(str(step.get("name", step.get("_target_"))) for step in self.parts[number][1])
            raise EmodetError(
                f"augmentation: {names} made {type(image).__name__} of shape {tuple(image.shape)} and type "
                f"{image.dtype} out of uint8 {crop.shape}; leave out the step that changes size or type"
            )
        return np.asarray(image)


def _checked_list(steps: object, key: str) -> list[dict[str, Any]]:
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not all(isinstance(it, Mapping) for it in steps):
        raise EmodetError(f"augmentation: {key}={steps!r}: expected a list of {{name: TRANSFORM, …}}")
    return [dict(step) for step in steps]


def _transform(step: Mapping[str, Any]) -> Any:
    import albumentations as A

    arguments = dict(step)
    if "_target_" in arguments:
        name = str(arguments.pop("_target_"))
        try:
            kind = pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError) as problem:
            raise EmodetError(f"augmentation: _target_={name}: cannot be imported ({problem})") from None
    else:
        name = str(arguments.pop("name", None))
        kind = getattr(A, name, None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform | A.BaseCompose)):
        raise EmodetError(f"augmentation: {name!r} is not a transform of albumentations {A.__version__}")
    if "transforms" in arguments:
        members = _checked_list(arguments["transforms"], "transforms")
        arguments["transforms"] = [_transform(member) for member in members]
    for key, value in arguments.items():
        if key in _WORDS:
            arguments[key] = _word(name, key, value)
        elif key == "interpolation_pair":
            arguments[key] = {way: _word(name, "interpolation", word) for way, word in value.items()}
        elif isinstance(value, list) and key != "transforms":
            arguments[key] = tuple(value)
    try:
        with warnings.catch_warnings():
            # albumentations only warns about unknown arguments.
            warnings.filterwarnings("error", message="Argument")
            return kind(**arguments)
    except (TypeError, ValueError, UserWarning) as problem:
        raise EmodetError(f"augmentation: {name} does not accept {arguments} ({problem})") from None


def _word(name: str, key: str, value: Any) -> int:
    known = isinstance(value, str) and value in _WORDS[key]
    require(known, f"augmentation: {name}.{key}", value, ", ".join(_WORDS[key]))
    return _WORDS[key][value]
