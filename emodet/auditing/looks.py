"""One pass over a pack's pixels: for each picture what is small enough to hold of all of them at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.data.pack import Pack
from emodet.errors import EmodetError

__all__ = ["THUMBNAIL", "Looks", "look_at"]

THUMBNAIL = 16
_AT_ONCE = 1024

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What N crops look like; 288 bytes for each.

    Attributes:
        perceptual_hash: uint64 (N,), pHash over the grey crop: similar pictures differ in few bits.
        mirrored_hash: uint64 (N,), that of the picture mirrored left to right.
        thumbnail: uint8 (N, 256), the grey crop reduced to 16×16.
        sharpness: float32 (N,), variance of the Laplacian of the grey crop (Pech-Pacheco et al. 2000).
        brightness: float32 (N,), mean of the grey crop, 0 to 255.
        contrast: float32 (N,), standard deviation of the grey crop, 0 to 127.5.
    """

    perceptual_hash: npt.NDArray[np.uint64]
    mirrored_hash: npt.NDArray[np.uint64]
    thumbnail: UInt8
    sharpness: npt.NDArray[np.float32]
    brightness: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sharpness)


def look_at(pack: Pack, *, progress: bool = True) -> Looks:
    """Look at every picture of a pack once.

    Raises:
        EmodetError: The package imagehash is not installed.
    """
    try:
        import imagehash
    except ModuleNotFoundError:
        raise EmodetError("perceptual hashes need imagehash: pip install 'emodet[audit]'") from None
    from PIL import Image

    count = len(pack)
    hashes = np.empty((2, count), dtype=np.uint64)
    thumbnails = np.empty((count, THUMBNAIL * THUMBNAIL), dtype=np.uint8)
    figures = np.empty((3, count), dtype=np.float32)
    with tqdm(total=count, unit="face", desc="looking at pictures", disable=not progress) as bar:
        for row, grey in _grey_crops(pack):
            for place, picture in enumerate((grey, np.ascontiguousarray(grey[:, ::-1]))):
                bits = imagehash.phash(Image.fromarray(picture)).hash
                hashes[place, row] = np.packbits(bits.reshape(-1)).view(">u8")[0]
            small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
            thumbnails[row] = np.asarray(small, dtype=np.uint8).reshape(-1)
            figures[:, row] = cv2.Laplacian(grey, cv2.CV_32F).var(), grey.mean(), grey.std()
            bar.update()
    return Looks(hashes[0], hashes[1], thumbnails, *figures)


def _grey_crops(pack: Pack) -> Iterator[tuple[int, UInt8]]:
    for start in range(0, len(pack), _AT_ONCE):
        crops = pack.images(np.arange(start, min(start + _AT_ONCE, len(pack))))
        for row, crop in enumerate(crops, start=start):
            yield row, np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
