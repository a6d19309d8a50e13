"""One pass over a pack's pixels: hashes, thumbnails and image statistics of every crop."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.data.pack import Pack

__all__ = ["ImageStats", "measure_images", "sharpness_of"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

_THUMBNAIL = 16
_FACE = 0.6  # share of each side of a crop: eyes to mouth, without hair, headscarf and background
_BLUR = 1.5  # standard deviation in pixels
_XY = ((1, 0), (0, 1))  # orders of the derivative
_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class ImageStats:
    """Statistics of N crops.

    Attributes:
        hashes: uint64 (2, N), pHash of the grey crop and of its mirror image: similar images differ in few bits.
        thumbnails: uint8 (N, 16, 16), the grey crop reduced.
        sharpness: float32 (N,), see `sharpness_of`.
        brightness: float32 (N,), mean of the grey crop, 0 to 255.
        contrast: float32 (N,), standard deviation of the grey crop, 0 to 127.5.
    """

    hashes: npt.NDArray[np.uint64]
    thumbnails: UInt8
    sharpness: Float32
    brightness: Float32
    contrast: Float32


def measure_images(pack: Pack, *, progress: bool = True) -> ImageStats:
    """Measure every image of a pack."""
    import imagehash
    from PIL import Image

    count = len(pack)
    hashes = np.empty((2, count), dtype=np.uint64)
    thumbnails = np.empty((count, _THUMBNAIL, _THUMBNAIL), dtype=np.uint8)
    values = np.empty((3, count), dtype=np.float32)
    with tqdm(total=count, unit="face", desc="measuring images", disable=not progress) as bar:
        for start in range(0, count, _BLOCK):
            crops = pack.images(np.arange(start, min(start + _BLOCK, count)))
            for row, crop in enumerate(crops, start=start):
                grey = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
                for side, image in enumerate((grey, grey[:, ::-1])):
                    bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(image))).hash
                    hashes[side, row] = np.packbits(bits.reshape(-1)).view(">u8")[0]
                thumbnails[row] = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
                values[:, row] = sharpness_of(grey), grey.mean(), grey.std()
            bar.update(len(crops))
    return ImageStats(hashes, thumbnails, *values)


def sharpness_of(grey: UInt8) -> float:
    """How much gradient energy a slight blur takes from the middle of the crop: 0 or more, 0 for one colour.

    A blurred image loses little (the principle of Crete et al. 2007). Being a ratio, it is independent of the face's
    contrast, so of exposure and, largely, of skin tone.

    Args:
        grey: uint8 (H, W).
    """
    height, width = grey.shape
    top, left = round(height * (1 - _FACE) / 2), round(width * (1 - _FACE) / 2)

    def energy(image: npt.NDArray[Any]) -> float:
        gradients = (cv2.Sobel(image, cv2.CV_32F, *order)[top : height - top, left : width - left] for order in _XY)
        return float(sum(np.square(each, dtype=np.float64).mean() for each in gradients))

    image = grey.astype(np.float32)
    before, after = energy(image), energy(cv2.GaussianBlur(image, (0, 0), _BLUR))
    return max(0.0, before / after - 1) if after > 1e-6 else 0.0
