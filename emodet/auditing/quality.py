"""Pictures that show little: blurred, dark, glaring, without contrast, or smaller than the crop that they fill."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from emodet.auditing.looks import Looks
from emodet.datasets.samples import Reader

__all__ = ["FAULTS", "Quality", "QualityRules", "judge", "stored_sides"]

FAULTS: Mapping[str, str] = {
    "uniform": "one colour all over",
    "dark": "nearly black",
    "glaring": "nearly white",
    "flat": "hardly any contrast",
    "blurred": "far less sharp than the rest",
}
"""Faults in the order in which they are asked for: a picture has the first one that fits."""

_MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class QualityRules:
    """From where on a picture has a fault. Grey values from 0 to 255.

    Attributes:
        uniform: Standard deviation below which a picture is one colour.
        dark: Mean below which it is nearly black.
        glaring: Mean above which it is nearly white.
        flat: Standard deviation below which it has hardly any contrast.
        blurred: Deviations below the median sharpness (logarithms, median absolute deviation) from which on it is
            blurred: relative to the set, because sharpness depends on how large pictures were before they were packed.
    """

    uniform: float = 2.0
    dark: float = 20.0
    glaring: float = 240.0
    flat: float = 12.0
    blurred: float = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Quality:
    """What is wrong with N pictures.

    Attributes:
        fault: str (N,), a name in `FAULTS`, empty where there is none.
        sharpness: float32 (N,), in deviations above (below: negative) the set's median, see `QualityRules.blurred`.
    """

    fault: npt.NDArray[np.str_]
    sharpness: npt.NDArray[np.float32]

    def counts(self) -> dict[str, int]:
        """Pictures with each fault, in the order of `FAULTS`."""
        found = Counter(self.fault[self.fault != ""].tolist())
        return {name: found[name] for name in FAULTS}


def judge(looks: Looks, rules: QualityRules) -> Quality:
    """Name the fault of each picture that has one."""
    with np.errstate(divide="ignore"):
        logarithm = np.log(looks.sharpness.astype(np.float64))
    finite = logarithm[np.isfinite(logarithm)]
    middle = float(np.median(finite)) if finite.size else 0.0
    spread = _MAD_TO_DEVIATION * float(np.median(np.abs(finite - middle))) if finite.size else 0.0
    # Of a set of equally sharp pictures none is blurred.
    relative = (logarithm - middle) / spread if spread > 0 else np.zeros_like(logarithm)
    fits = {
        "uniform": looks.contrast < rules.uniform,
        "dark": looks.brightness < rules.dark,
        "glaring": looks.brightness > rules.glaring,
        "flat": looks.contrast < rules.flat,
        "blurred": relative < -rules.blurred,
    }
    fault = np.select([fits[name] for name in FAULTS], list(FAULTS), default="")
    return Quality(fault.astype(np.str_), np.maximum(relative, -99.0).astype(np.float32))


def stored_sides(reader: Reader, crop: str) -> dict[str, float]:
    """How many pixels each face has where it is stored, by key: the shorter side of its picture, or of its box.

    Reads every picture's file but decodes none. Unreadable ones are left out; packing has named them.

    Args:
        reader: The release.
        crop: ``image`` or ``box``, as the pack was made.
    """
    sides: dict[str, float] = {}
    for record in reader.read().samples:
        if crop == "box" and record.box is not None:
            x1, y1, x2, y2 = record.box
            sides[record.key] = min(x2 - x1, y2 - y1)
            continue
        try:
            with Image.open(BytesIO(reader.encoded(record))) as picture:
                sides[record.key] = float(min(picture.size))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
            continue
    return sides
