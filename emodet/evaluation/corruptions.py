"""Image corruptions in the manner of Hendrycks and Dietterich 2019: blur, noise, JPEG, low light, low resolution,
rotation, occlusion.

Levels mean the same for crops of any size: lengths are shares of the crop's side. Pixels are changed as they are
stored, before the net's preprocessing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.generic]


class Corruption(NamedTuple):
    """One corruption: levels from mild to harsh; `unit` is a level in words, with ``{}`` for its value."""

    name: str
    levels: tuple[float, ...]
    unit: str
    apply: Callable[[UInt8, float, np.random.Generator], Pixels]

    def label(self, level: float) -> str:
        """A level in words."""
        return self.unit.format(f"{level:g}")


def _blur(crop: UInt8, share: float, _random: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), share / 100 * crop.shape[0], borderType=cv2.BORDER_REPLICATE))


def _noise(crop: UInt8, deviation: float, random: np.random.Generator) -> Pixels:
    # The same in all channels: colour noise would average out in a net with grey input.
    return crop + random.normal(0, deviation, (*crop.shape[:2], 1))


def _jpeg(crop: UInt8, quality: float, _random: np.random.Generator) -> Pixels:
    _, data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]


def _low_light(crop: UInt8, percent: float, random: np.random.Generator) -> Pixels:
    # The remaining light, and photon noise at 2 photons per grey level.
    light = crop * (percent / 100)
    photons = random.poisson(2 * light.mean(axis=2, keepdims=True) + 1e-9)
    return np.asarray(light + photons / 2 - light.mean(axis=2, keepdims=True))


def _small(crop: UInt8, pixels: float, _random: np.random.Generator) -> Pixels:
    side = crop.shape[0]
    if pixels >= side:
        return crop
    few = cv2.resize(crop, (int(pixels), int(pixels)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (side, side), interpolation=cv2.INTER_LINEAR))


def _tilt(crop: UInt8, degrees: float, random: np.random.Generator) -> Pixels:
    side = crop.shape[0]
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees * random.choice([-1, 1]), 1.0)
    return np.asarray(cv2.warpAffine(crop, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _cover(crop: UInt8, percent: float, random: np.random.Generator) -> Pixels:
    side = crop.shape[0]
    height = int(np.clip(round(side * np.sqrt(percent / 100) * random.uniform(0.75, 1.33)), 1, side))
    width = int(np.clip(round(side * side * percent / 100 / height), 1, side))
    top, left = random.integers(0, side - height + 1), random.integers(0, side - width + 1)
    covered = crop.copy()
    covered[top : top + height, left : left + width] = random.integers(0, 256)
    return covered


CORRUPTIONS: Mapping[str, Corruption] = {
    each.name: each
    for each in (
        Corruption("blur", (1, 2, 4), "σ {} % of the side", _blur),
        Corruption("noise", (8, 16, 32), "σ {} of 255", _noise),
        Corruption("JPEG", (50, 25, 10), "quality {}", _jpeg),
        Corruption("low light", (50, 25, 10), "{} % of the light", _low_light),
        Corruption("down-scaling", (32, 24, 16), "{} pixels", _small),
        Corruption("rotation", (10, 20, 30), "± {}°", _tilt),
        Corruption("occlusion", (10, 20, 30), "{} % of the area", _cover),
    )
}


def corrupt(crops: UInt8, index: npt.NDArray[np.integer], corruption: Corruption, level: float, seed: int = 0) -> UInt8:
    """Corrupt a batch of crops.

    Args:
        crops: uint8 (N, H, W, 3), RGB.
        index: (N,), a number per face; with `seed` it determines the random numbers, whatever the batch size.
        corruption: One of `CORRUPTIONS`.
        level: One of its levels, or any other of that unit.
        seed: Of noise, direction and place.

    Returns:
        uint8 (N, H, W, 3), RGB; a new array.
    """
    found = np.empty_like(crops)
    for place, (crop, number) in enumerate(zip(crops, index.tolist(), strict=True)):
        random = np.random.default_rng([seed, number])
        found[place] = np.clip(np.rint(corruption.apply(crop, level, random)), 0, 255).astype(np.uint8)
    return found
