"""Image corruptions similar to Hendrycks and Dietterich 2019, and the accuracy on corrupted images.

Levels do not depend on the size of crops: lengths are shares of the crop's side. Corruptions apply to stored pixels,
before the net's preprocessing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import UInt8
from emodet.evaluation.plots import INK, draw_share, share_axes, styled_figure, to_png
from emodet.evaluation.scores import Evaluation, Score
from emodet.files import csv_text

Pixels = npt.NDArray[np.generic]


class Corruption(NamedTuple):
    """One corruption with levels from weak to strong; `unit` is the text of a level, with ``{}`` for its value."""

    name: str
    levels: tuple[float, ...]
    unit: str
    apply: Callable[[UInt8, float, np.random.Generator], Pixels]

    def label(self, level: float) -> str:
        """Return a level as text."""
        return self.unit.format(f"{level:g}")


def _blur(crop: UInt8, share: float, _random: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), share / 100 * crop.shape[0], borderType=cv2.BORDER_REPLICATE))


def _noise(crop: UInt8, deviation: float, random: np.random.Generator) -> Pixels:
    # The same noise in all channels; colour noise would cancel out in a net with grey input.
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


def corrupt(crops: UInt8, index: npt.NDArray[np.integer], corruption: Corruption, level: float) -> UInt8:
    """Corrupt a batch of crops, uint8 (N, H, W, 3) RGB, at a level in the corruption's unit; returns a new array.

    `index` (N,) is a number per face that determines noise, direction and position, independent of the batch size.
    """
    found = np.empty_like(crops)
    for place, (crop, number) in enumerate(zip(crops, index.tolist(), strict=True)):
        random = np.random.default_rng([0, number])
        found[place] = np.clip(np.rint(corruption.apply(crop, level, random)), 0, 255).astype(np.uint8)
    return found


Robustness = Mapping[tuple[str, float], Evaluation]
"""Scores by name and level of `CORRUPTIONS`, weak to strong, with the temperature of the clean faces."""


def mean_accuracy(robustness: Robustness) -> Score:
    """Return the mean accuracy over all corruptions and levels."""
    scores = [found["accuracy"] for found in robustness.values()]
    return Score("accuracy", float(np.mean([score.value for score in scores])), n=scores[0].n)


def robustness_csv(clean: Evaluation, robustness: Robustness) -> str:
    """Format the scores as CSV with a header, clean faces first."""
    rows = [["corruption", "level", "label", "accuracy", "low", "high", "macro_f1", "calibration_error"]]
    every = [(["none", "", "clean"], clean)]
    every += [([name, f"{x:g}", CORRUPTIONS[name].label(x)], found) for (name, x), found in robustness.items()]
    for words, found in every:
        accuracy = found["accuracy"]
        values = (accuracy.value, accuracy.low, accuracy.high, found["macro_f1"].value, found["ece"].value)
        rows.append([*words, *("" if value is None else f"{value:.6f}" for value in values)])
    return csv_text(rows)


def plot_robustness(clean: Evaluation, robustness: Robustness) -> bytes:
    """Plot accuracy per corruption and level with 95 % intervals, as PNG; the dashed line is the clean accuracy."""
    names = list(dict.fromkeys(name for name, _ in robustness))
    with styled_figure(4.8, 1.25 + 0.62 * len(names)) as figure:
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            levels = [level for each, level in robustness if each == name]
            height = 0.8 / len(levels)
            for step, level in enumerate(levels):
                y = place + (step - (len(levels) - 1) / 2) * height
                accuracy, label = robustness[name, level]["accuracy"], CORRUPTIONS[name].label(level)
                draw_share(axes, y, 0.86 * height, accuracy, label, 6.5, color="C0", alpha=1 - 0.27 * step)
        axes.axvline(clean["accuracy"].value or 0.0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        share_axes(axes, names)
        axes.set_xlim(0, 1.32)
        return to_png(figure, "Accuracy by corruption, mild to harsh", f"{clean.title}; dashed: clean images")
