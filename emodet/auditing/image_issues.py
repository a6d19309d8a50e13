"""Image issues: blurred, dark, glaring, without contrast, or stored smaller than the crop."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from emodet.auditing.image_stats import ImageStats
from emodet.auditing.options import QualityOptions
from emodet.data.datamodule import EmotionDataModule
from emodet.datasets.samples import Reader

__all__ = ["ISSUES", "ImageIssues", "find_image_issues", "stored_sides"]

ISSUES: Mapping[str, str] = {
    "uniform": "one colour all over",
    "dark": "nearly black",
    "glaring": "nearly white",
    "flat": "hardly any contrast",
    "blurred": "face far less sharp than in the rest of the set",
}
"""Issues by precedence: an image has the first one that applies."""

_MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class ImageIssues:
    """Issues of N images.

    Attributes:
        issue: str (N,), a name in `ISSUES`, empty where there is none.
        sharpness: float32 (N,), robust deviations from the median log sharpness of the set; negative is blurrier.
    """

    issue: npt.NDArray[np.str_]
    sharpness: npt.NDArray[np.float32]

    def counts(self) -> dict[str, int]:
        """Images with each issue, in the order of `ISSUES`."""
        found = Counter(self.issue.tolist())
        return {name: found[name] for name in ISSUES}


def find_image_issues(stats: ImageStats, options: QualityOptions) -> ImageIssues:
    """Name the issue of each image that has one."""
    with np.errstate(divide="ignore"):
        logarithm = np.log(stats.sharpness.astype(np.float64))
    finite = logarithm[np.isfinite(logarithm)]
    median = float(np.median(finite)) if finite.size else 0.0
    spread = _MAD_TO_DEVIATION * float(np.median(np.abs(finite - median))) if finite.size else 0.0
    # Of a set of equally sharp images none is blurred.
    relative = (logarithm - median) / spread if spread > 0 else np.zeros_like(logarithm)
    applies = {
        "uniform": stats.contrast < options.uniform,
        "dark": stats.brightness < options.dark,
        "glaring": stats.brightness > options.glaring,
        "flat": stats.contrast < options.flat,
        "blurred": relative < -options.blurred,
    }
    issue = np.select([applies[name] for name in ISSUES], list(ISSUES), default="")
    return ImageIssues(issue.astype(np.str_), np.maximum(relative, -99.0).astype(np.float32))


def stored_sides(data: EmotionDataModule) -> npt.NDArray[np.float64]:
    """Shorter side of each face in the release, in pixels: float64 (N,), NaN where it is not known.

    That of the box where the pack was cut by boxes, else of the image, whose header is read.
    """
    sides: dict[str, float] = {}
    for name, source in data.sources.items():
        prefix = f"{name}:" if name else ""
        found = _sides(source.open_reader(data.preprocessing), source.crop)
        sides |= {f"{prefix}{key}": side for key, side in found.items()}
    return np.array([sides.get(key, np.nan) for key in data.pack.table.key.tolist()], dtype=np.float64)


def _sides(reader: Reader, crop: str) -> dict[str, float]:
    sides: dict[str, float] = {}
    for sample in reader.read().samples:
        if crop == "box" and sample.box is not None:
            x1, y1, x2, y2 = sample.box
            sides[sample.key] = min(x2 - x1, y2 - y1)
            continue
        try:
            with Image.open(BytesIO(reader.encoded(sample))) as image:
                sides[sample.key] = float(min(image.size))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
            continue  # packing has named it
    return sides
