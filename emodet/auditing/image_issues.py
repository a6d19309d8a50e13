"""Image statistics, image issues (blurred, dark, glaring, low contrast), and crops without a face.

Face detectors are trained on faces with surroundings. Each crop is therefore enlarged and padded by repeating its
border, in two framings; a face must be detected in one of them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm, trange

from emodet.arrays import Float32, Int64, UInt8
from emodet.data.pack import Pack

ISSUES: Mapping[str, str] = {
    "uniform": "one colour all over",
    "dark": "nearly black",
    "glaring": "nearly white",
    "flat": "hardly any contrast",
    "blurred": "face far less sharp than in the rest of the set",
}
"""Issues in order of precedence: an image has the first issue that applies."""

_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_THUMBNAIL = 16
_FACE = 0.6  # share of each side of a crop: eyes to mouth, without hair, headscarf and background
_BLUR = 1.5  # standard deviation in pixels

FRAMINGS: tuple[tuple[int, float], ...] = ((128, 0.25), (240, 0.33))
"""Side of the enlarged crop in pixels, and the border around it as a share of that."""

LONGEST_SIDE = 640
"""Size of the search in pixels; larger than every framing, so that no crop is reduced again."""

MIN_SCORE = 0.3
"""Detection threshold; lower than for photographs, because each crop should contain a face."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageStats:
    """Statistics of N crops, in grey."""

    hashes: npt.NDArray[np.uint64]  # (2, N), pHash of crop and mirror image: similar images differ in few bits
    thumbnails: UInt8  # (N, 16, 16)
    sharpness: Float32  # (N,), see `sharpness_of`
    brightness: Float32  # (N,), mean, 0 to 255
    contrast: Float32  # (N,), standard deviation, 0 to 127.5


def measure_images(pack: Pack) -> ImageStats:
    """Measure every image of a pack."""
    import imagehash

    count = len(pack)
    hashes = np.empty((2, count), dtype=np.uint64)
    thumbnails = np.empty((count, _THUMBNAIL, _THUMBNAIL), dtype=np.uint8)
    values = np.empty((3, count), dtype=np.float32)
    for row in trange(count, unit="face", desc="measuring images", disable=None):
        grey = np.asarray(cv2.cvtColor(pack.images([row])[0], cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        for side, image in enumerate((grey, grey[:, ::-1])):
            bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(image))).hash
            hashes[side, row] = np.packbits(bits.reshape(-1)).view(">u8")[0]
        thumbnails[row] = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        values[:, row] = sharpness_of(grey), grey.mean(), grey.std()
    return ImageStats(hashes, thumbnails, *values)


def sharpness_of(grey: UInt8) -> float:
    """Return the relative loss of gradient energy in the middle of a grey crop after a slight blur: 0 or more.

    A blurred image loses little (the principle of Crete et al. 2007). The ratio does not depend on the face's contrast,
    and therefore not on exposure and hardly on skin tone. It is 0 for an image of one colour.
    """
    height, width = grey.shape
    top, left = round(height * (1 - _FACE) / 2), round(width * (1 - _FACE) / 2)

    def energy(image: npt.NDArray[Any]) -> float:
        gradients = (cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1))
        middle = (each[top : height - top, left : width - left] for each in gradients)
        return float(sum(np.square(each, dtype=np.float64).mean() for each in middle))

    image = grey.astype(np.float32)
    before, after = energy(image), energy(cv2.GaussianBlur(image, (0, 0), _BLUR))
    return max(0.0, before / after - 1) if after > 1e-6 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ImageIssues:
    """Issues of N images."""

    issue: npt.NDArray[np.str_]  # (N,), a name in `ISSUES`, or empty
    sharpness: Float32  # (N,), robust deviations from the median log sharpness of the set; negative is blurrier

    def counts(self) -> dict[str, int]:
        """Return the number of images by issue, in the order of `ISSUES`."""
        counts = Counter(self.issue.tolist())
        return {name: counts[name] for name in ISSUES}


def find_image_issues(stats: ImageStats) -> ImageIssues:
    """Find the issue of each image.

    An image is blurred if its log sharpness is three robust deviations below the median of the set. The threshold is
    relative, because sharpness depends on the size of the images before packing.
    """
    with np.errstate(divide="ignore"):
        logarithm = np.log(stats.sharpness.astype(np.float64))
    finite = logarithm[np.isfinite(logarithm)]
    median = float(np.median(finite)) if finite.size else 0.0
    spread = _MAD_TO_DEVIATION * float(np.median(np.abs(finite - median))) if finite.size else 0.0
    # In a set of equally sharp images none is blurred.
    relative = (logarithm - median) / spread if spread > 0 else np.zeros_like(logarithm)
    applies = {
        "uniform": stats.contrast < 2,
        "dark": stats.brightness < 20,
        "glaring": stats.brightness > 240,
        "flat": stats.contrast < 12,
        "blurred": relative < -3,
    }
    issue = np.select([applies[name] for name in ISSUES], list(ISSUES), default="")
    return ImageIssues(issue.astype(np.str_), np.maximum(relative, -99.0).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class UndetectedFaces:
    """Result of a face detector."""

    detector: str
    searched: int  # number of checked faces
    missing: Int64  # row indices of the faces that were not detected


def detect_faces(
    pack: Pack, detect: Callable[[UInt8], bool], name: str, most: int | None, seed: int
) -> UndetectedFaces:
    """Run a detector on the crops, or on `most` randomly drawn ones.

    `detect` returns whether there is a face in an image, uint8 (H, W, 3) RGB.
    """
    rows = np.arange(len(pack), dtype=np.int64)
    if most is not None and most < len(rows):
        rows = np.sort(np.random.default_rng([seed, 0xFACE]).choice(rows, most, replace=False))
    missing = []
    for row in tqdm(rows.tolist(), unit="face", desc="detecting faces", disable=None):
        crop = pack.images([row])[0]
        if not any(detect(framed(crop, *framing)) for framing in FRAMINGS):
            missing.append(row)
    return UndetectedFaces(name, len(rows), np.array(missing, dtype=np.int64))


def framed(crop: UInt8, side: int, border: float) -> UInt8:
    """Resize a crop to `side` pixels and pad it by `border` × `side` pixels that repeat its edge."""
    method = cv2.INTER_CUBIC if side > crop.shape[0] else cv2.INTER_AREA
    large = cv2.resize(crop, (side, side), interpolation=method)
    around = round(border * side)
    return np.asarray(cv2.copyMakeBorder(large, around, around, around, around, cv2.BORDER_REPLICATE), dtype=np.uint8)
