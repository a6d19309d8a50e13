"""The steps of augmentation on a torch device: what each draws, as the albumentations transform of its name draws it.

A step is read from the transform that the configuration made, so both ways have one set of parameters, checked once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from emodet.data.device_jpeg import compress
from emodet.data.device_transforms import (
    Border,
    Floats,
    Interpolation,
    add_noise,
    blur,
    convolve,
    erase,
    grey,
    light_across,
    light_around,
    look_up,
    mirror,
    resample,
    sent,
    shift_hsv,
    warp,
)
from emodet.errors import EmodetError

__all__ = ["DEVICE_STEPS", "Draws", "Step", "device_step", "with_some"]

_BORDERS: dict[int, Border] = {
    cv2.BORDER_REPLICATE: "replicate",
    cv2.BORDER_REFLECT_101: "reflect",
    cv2.BORDER_CONSTANT: "constant",
}
_INTERPOLATIONS: dict[int, Interpolation] = {
    cv2.INTER_AREA: "area",
    cv2.INTER_LINEAR: "linear",
    cv2.INTER_NEAREST: "nearest",
}


class Draws:
    """The random numbers of one batch.

    Parameters are drawn in the host's memory: the same on every device, and known without asking the device. Only
    what differs from pixel to pixel is drawn on the device.

    Attributes:
        host: For parameters.
        pixels: For noise. Its stream differs between kinds of device.
    """

    def __init__(self, seed: int, pixels: torch.Generator) -> None:
        self.host = np.random.default_rng(seed)
        self.pixels = pixels.manual_seed(seed)

    def uniform(self, bounds: Sequence[float], count: int) -> Floats:
        """float64 (count,), evenly from the lower to the upper bound."""
        return self.host.uniform(bounds[0], bounds[1], count)

    def whole(self, bounds: Sequence[int], count: int) -> npt.NDArray[np.int64]:
        """int64 (count,), each whole number from the lower to the upper bound equally often."""
        return self.host.integers(int(bounds[0]), int(bounds[1]), count, endpoint=True)


_Word = TypeVar("_Word", bound=str)

# Changes all of some faces, uint8 (N, 3, H, W), each with a draw of its own.
Step = Callable[[torch.Tensor, Draws], torch.Tensor]


def with_some(faces: torch.Tensor, rows: npt.NDArray[np.int64], step: Step, draws: Draws) -> torch.Tensor:
    """Take a step with some of the faces, which are changed in place.

    Which ones (positions, int64) is known to the host, so nothing waits for the device.
    """
    if len(rows) == len(faces):
        return step(faces, draws)
    if len(rows):
        chosen = sent(rows, faces.device)
        faces.index_copy_(0, chosen, step(faces.index_select(0, chosen), draws))
    return faces


def device_step(transform: Any) -> Step:
    """What an albumentations transform does where it is applied.

    Raises:
        EmodetError: It, or an argument of it, is not made on a device.
    """
    name = type(transform).__name__
    make = DEVICE_STEPS.get(name)
    if make is None:
        raise EmodetError(
            f"augmentation: {name} is not made on a device, there are {', '.join(sorted(DEVICE_STEPS))}; leave it out, "
            "or leave out data.device, so that worker processes make it"
        )
    return make(transform)


def _not_made(transform: Any, what: str, wanted: object) -> EmodetError:
    return EmodetError(
        f"augmentation: {type(transform).__name__} with {what} is not made on a device, only with {wanted}; change it, "
        "or leave out data.device, so that worker processes make it"
    )


def _require(transform: Any, **wanted: Any) -> None:
    for argument, value in wanted.items():
        if getattr(transform, argument) != value:
            raise _not_made(transform, f"{argument}={getattr(transform, argument)}", value)


def _word(transform: Any, argument: str, found: int, words: Mapping[int, _Word], wanted: Sequence[_Word]) -> _Word:
    word = words.get(found)
    if word is None or word not in wanted:
        raise _not_made(transform, f"{argument}={word or found}", " or ".join(wanted))
    return word


def _one_of(transform: Any) -> Step:
    members = [device_step(member) for member in transform.transforms]

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        choice = draws.host.choice(len(members), len(faces), p=transform.transforms_ps)
        # Not in place of what was given: a step may look at its faces after it changed them.
        changed = faces.clone()
        for number, member in enumerate(members):
            changed = with_some(changed, np.flatnonzero(choice == number), member, draws)
        return changed

    return step


def _illumination(transform: Any) -> Step:
    # albumentations makes other gradients at exactly these angles, which no draw from a range hits.
    low, high = transform.angle_range
    if low == high and low in (45, 135, 180, 225, 270, 315):
        raise _not_made(transform, f"angle_range={transform.angle_range}", "a range, or another angle")
    signs = {"brighten": (1, 1), "darken": (-1, -1), "both": (-1, 1)}[transform.effect_type]

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        count, side = len(faces), faces.shape[3]
        intensity = draws.uniform(transform.intensity_range, count) * draws.host.choice(signs, count)
        if transform.mode == "linear":
            angle = np.deg2rad(draws.uniform(transform.angle_range, count))
            return light_across(faces, intensity, np.stack([np.cos(angle), np.sin(angle)], axis=1))
        if transform.mode == "corner":
            corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])[draws.whole((0, 3), count)]
            return light_around(faces, -intensity, corner * (side - 1.0), None)
        centre = np.stack([draws.uniform(transform.center_range, count) for _ in "xy"], axis=1)
        return light_around(faces, intensity, centre * side, side * draws.uniform(transform.sigma_range, count))

    return step


def _affine(transform: Any) -> Step:
    _require(transform, fit_output=False, balanced_scale=False)
    border = _word(transform, "border_mode", transform.border_mode, _BORDERS, list(_BORDERS.values()))
    interpolation = _word(transform, "interpolation", transform.interpolation, _INTERPOLATIONS, ("linear", "nearest"))
    fill = _number(transform, transform.fill)

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        count, side = len(faces), faces.shape[3]
        if transform.translate_px is not None:
            translate = [draws.whole(transform.translate_px[axis], count).astype(float) for axis in "xy"]
        else:
            # Whole pixels, parts cut off.
            translate = [np.trunc(draws.uniform(transform.translate_percent[axis], count) * side) for axis in "xy"]
        shear = [np.tan(np.deg2rad(-draws.uniform(transform.shear[axis], count))) for axis in "xy"]
        scale = [draws.uniform(transform.scale[axis], count) for axis in "xy"]
        if transform.keep_ratio:
            scale[1] = scale[0]
        angle = np.deg2rad(draws.uniform(transform.rotate, count))
        one = np.ones(count)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
        linear = np.array([[one, shear[0]], [shear[1], one]]).transpose(2, 0, 1) @ turn
        linear = linear * np.array(scale).T[:, None, :]
        centre = (side - 1) / 2
        moved = np.array(translate).T + centre - linear.sum(axis=2) * centre
        matrices = np.concatenate([linear, moved[:, :, None]], axis=2)
        return warp(faces, matrices, border, "nearest" if interpolation == "nearest" else "linear", fill)

    return step


def _brightness_contrast(transform: Any) -> Step:
    _require(transform, brightness_by_max=True, ensure_safe_range=False)

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        contrast = 1 + draws.uniform(transform.contrast_limit, len(faces))[:, None]
        brightness = 255 * draws.uniform(transform.brightness_limit, len(faces))[:, None]
        # In float32 and cut off, as albumentations does.
        levels = np.arange(256, dtype=np.float32) * contrast.astype(np.float32) + brightness.astype(np.float32)
        return look_up(faces, np.clip(levels, 0, 255).astype(np.uint8))

    return step


def _gamma(transform: Any) -> Step:
    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        gamma = draws.uniform(transform.gamma_limit, len(faces))[:, None] / 100
        levels = np.arange(256) * (1 / 255)
        return look_up(faces, (levels**gamma * 255).astype(np.uint8))

    return step


def _hue_saturation_value(transform: Any) -> Step:
    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        limits = (transform.hue_shift_limit, transform.sat_shift_limit, transform.val_shift_limit)
        hue, saturation, value = (draws.uniform(limit, len(faces))[:, None] for limit in limits)
        levels = np.arange(256)
        tables = np.stack(
            [
                np.mod(levels + hue, 180).astype(np.uint8),
                # Grey stays grey.
                np.where(levels == 0, 0, _added(levels, saturation)),
                _added(levels, value),
            ],
            axis=1,
        )
        return shift_hsv(faces, tables)

    return step


def _added(levels: npt.NDArray[np.int64], shift: Floats) -> npt.NDArray[np.uint8]:
    """Levels moved by whole levels, parts cut off."""
    return np.clip(levels + np.trunc(shift), 0, 255).astype(np.uint8)


def _to_grey(transform: Any) -> Step:
    _require(transform, num_output_channels=3, method="weighted_average")
    return lambda faces, draws: grey(faces)


def _gaussian_blur(transform: Any) -> Step:
    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        sigma = draws.uniform(transform.sigma_limit, len(faces))
        size = draws.whole(transform.blur_limit, len(faces))
        size = np.where(size == 0, (sigma * 3.5).astype(np.int64) * 2 + 1, size)
        reach = size // 2
        # Beyond a face's own size its kernel is zero.
        far = np.abs(np.arange(-reach.max(), reach.max() + 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            kernels = np.exp(-0.5 * np.square(far / sigma[:, None])) * (far <= reach[:, None])
        kernels = np.where(sigma[:, None] > 0, kernels, far == 0)
        return blur(faces, kernels / kernels.sum(axis=1, keepdims=True))

    return step


def _motion_blur(transform: Any) -> Step:
    low, high = (max(3, limit + (limit % 2 == 0)) for limit in transform.blur_limit)

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        count = len(faces)
        size = low + 2 * draws.whole((0, max(0, (high - low) // 2)), count)
        kernels = _motion_kernels(
            size,
            np.deg2rad(draws.uniform(transform.angle_range, count)),
            draws.uniform(transform.direction_range, count),
            np.stack([draws.uniform((-1, 1), count) * transform.allow_shifted for _ in "xy"]),
        )
        return convolve(faces, kernels)

    return step


def _motion_kernels(size: npt.NDArray[np.int64], angle: Floats, direction: Floats, shift: Floats) -> Floats:
    """float64 (N, largest, largest), sums 1: the pixels on a line of `size` points, which `direction` cuts on one side.

    Args:
        size: Odd.
        angle: In radians.
        direction: -1 to 1; 0 leaves both halves of the line.
        shift: (2, N), -1 to 1: moves the line by so many quarters of `size`, along x and y.
    """
    largest, length = int(size.max()), size // 2
    begin = -length * (1 - np.maximum(direction, 0))
    end = length * (1 + np.minimum(direction, 0))
    kernels = np.zeros((len(size), largest, largest))
    for number in range(largest):
        # Faces with fewer points come to their last one again.
        place = begin + (end - begin) * np.minimum(number / (size - 1), 1)
        along = np.stack([np.cos(angle), np.sin(angle)]) * place + length + shift * length / 2
        x, y = np.clip(np.rint(along), 0, size - 1).astype(np.int64) + largest // 2 - length
        kernels[np.arange(len(size)), y, x] = 1
    return np.asarray(kernels / kernels.sum(axis=(1, 2), keepdims=True))


def _downscale(transform: Any) -> Step:
    pair = transform.interpolation_pair
    down = _word(transform, "downscale", pair["downscale"], _INTERPOLATIONS, list(_INTERPOLATIONS.values()))
    up = _word(transform, "upscale", pair["upscale"], _INTERPOLATIONS, ("linear", "nearest"))

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        scales = draws.uniform(transform.scale_range, len(faces))
        return resample(faces, scales, down, "nearest" if up == "nearest" else "linear")

    return step


def _noise(transform: Any) -> Step:
    _require(transform, noise_scale_factor=1)

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        deviation = 255 * draws.uniform(transform.std_range, len(faces))
        mean = 255 * draws.uniform(transform.mean_range, len(faces))
        return add_noise(faces, deviation, mean, shared=not transform.per_channel, generator=draws.pixels)

    return step


def _compression(transform: Any) -> Step:
    _require(transform, compression_type="jpeg")
    return lambda faces, draws: compress(faces, draws.whole(transform.quality_range, len(faces)))


def _erasing(transform: Any) -> Step:
    fill: Any = transform.fill
    if fill in ("inpaint_telea", "inpaint_ns"):
        _require(transform, fill="random_uniform")

    def step(faces: torch.Tensor, draws: Draws) -> torch.Tensor:
        boxes = _boxes(transform.scale, transform.ratio, faces.shape[3], len(faces), draws)
        if fill == "random":
            return erase(faces, boxes, draws.pixels)
        if fill == "random_uniform":
            return erase(faces, boxes, draws.host.integers(0, 256, (len(faces), 3)).astype(np.uint8))
        return erase(faces, boxes, np.broadcast_to(np.array(fill, np.uint8), (len(faces), 3)))

    return step


def _boxes(
    scale: Sequence[float], ratio: Sequence[float], side: int, count: int, draws: Draws
) -> npt.NDArray[np.int64]:
    """Boxes (x1, y1, x2, y2), int64 (N, 4), that lie within; empty where none of such an area and shape can."""
    area = side * side
    least = area * scale[0]
    most = min(area * scale[1], ratio[0] * area, area / ratio[1])
    if most < least:
        return np.zeros((count, 4), dtype=np.int64)
    areas = draws.uniform((least, most), count)
    narrowest, widest = np.maximum(ratio[0], areas / area), np.minimum(ratio[1], area / areas)
    # Width to height.
    shapes = draws.host.uniform(narrowest, np.maximum(widest, narrowest))
    height, width = np.rint(np.sqrt(areas / shapes)), np.rint(np.sqrt(areas * shapes))
    top = np.floor(draws.host.random(count) * (side - height + 1))
    left = np.floor(draws.host.random(count) * (side - width + 1))
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    boxes[narrowest > widest] = 0
    return boxes.astype(np.int64)


def _number(transform: Any, fill: Any) -> float:
    if not isinstance(fill, int | float):
        raise _not_made(transform, f"fill={fill}", "one number")
    return float(fill)


DEVICE_STEPS: dict[str, Callable[[Any], Step]] = {
    "OneOf": _one_of,
    "HorizontalFlip": lambda transform: lambda faces, draws: mirror(faces),
    "Affine": _affine,
    "Illumination": _illumination,
    "RandomBrightnessContrast": _brightness_contrast,
    "RandomGamma": _gamma,
    "HueSaturationValue": _hue_saturation_value,
    "ToGray": _to_grey,
    "GaussianBlur": _gaussian_blur,
    "MotionBlur": _motion_blur,
    "Downscale": _downscale,
    "GaussNoise": _noise,
    "ImageCompression": _compression,
    "Erasing": _erasing,
}
"""By the name of the albumentations transform: what makes it on a device."""
