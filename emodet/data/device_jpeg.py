"""What JPEG does to a picture, for whole batches on any torch device.

torchvision's JPEG transform (`v2.functional.jpeg`) takes tensors in the host's memory only, one picture after the
other; fetching faces from a GPU for it would make every batch wait. So the lossy part is computed here, where the faces
lie: what baseline JPEG as libjpeg writes it rounds away (ITU-T T.81; chroma halved in both directions, the tables of
its annex K scaled by the quality as libjpeg does). Its entropy coding loses nothing and is left out.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

__all__ = ["compress"]

# ITU-T T.81, annex K, tables K.1 (luminance) and K.2 (chrominance).
_TABLES = np.array(
    [
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ],
        [
            [17, 18, 24, 47, 99, 99, 99, 99],
            [18, 21, 26, 66, 99, 99, 99, 99],
            [24, 26, 56, 99, 99, 99, 99, 99],
            [47, 66, 99, 99, 99, 99, 99, 99],
            *([[99] * 8] * 4),
        ],
    ],
    dtype=np.int64,
)
_COSINES = np.array(
    [[math.cos((2 * x + 1) * u * math.pi / 16) / (2 if u else math.sqrt(8)) for x in range(8)] for u in range(8)]
)


def compress(crops: torch.Tensor, quality: npt.NDArray[np.int64]) -> torch.Tensor:
    """What is left of pictures after JPEG.

    Args:
        crops: uint8 (N, 3, H, W). The first channel is taken for blue and the last for red, as albumentations lets
            OpenCV take an RGB picture.
        quality: int64 (N,), 1 to 100, in the host's memory.

    Returns:
        uint8 (N, 3, H, W), anew.
    """
    device, (height, width) = crops.device, crops.shape[2:]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None, None]
    tables = torch.from_numpy(np.clip((_TABLES * scale + 50) // 100, 1, 255).astype(np.float32))
    tables = tables.to(device, non_blocking=True)[:, :, None, None]
    cosines = torch.from_numpy(_COSINES.astype(np.float32)).to(device, non_blocking=True)
    blue, green, red = crops.float().unbind(1)
    luma = torch.round(0.299 * red + 0.587 * green + 0.114 * blue)
    chroma = torch.stack(
        [
            torch.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128),
            torch.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128),
        ],
        dim=1,
    )
    luma = _rounded_away(luma[:, None], tables[:, 0], cosines)[:, 0, :height, :width]
    halved = _halved(chroma)
    chroma = _rounded_away(halved, tables[:, 1], cosines)[..., : halved.shape[2], : halved.shape[3]]
    blueness, redness = (_doubled(chroma)[..., :height, :width] - 128).unbind(1)
    red = luma + torch.round(1.402 * redness)
    green = luma + torch.round(-0.344136286 * blueness - 0.714136286 * redness)
    blue = luma + torch.round(1.772 * blueness)
    return torch.stack([blue, green, red], dim=1).clamp_(0, 255).to(torch.uint8)


def _rounded_away(planes: torch.Tensor, tables: torch.Tensor, cosines: torch.Tensor) -> torch.Tensor:
    """Planes (N, C, H, W) of whole numbers after quantisation in blocks of eight, sides padded to whole blocks."""
    planes = _padded(planes, 8)
    n, c, height, width = planes.shape
    blocks = (planes - 128).view(n, c, height // 8, 8, width // 8, 8).transpose(3, 4).flatten(1, 2)
    tables = tables if c == 1 else tables.expand(n, 1, 1, 8, 8)
    waves = torch.round(cosines @ blocks @ cosines.T / tables) * tables
    blocks = torch.round(cosines.T @ waves @ cosines + 128).clamp_(0, 255)
    return blocks.view(n, c, height // 8, width // 8, 8, 8).transpose(3, 4).reshape(n, c, height, width)


def _halved(planes: torch.Tensor) -> torch.Tensor:
    """Means of 2 × 2 pixels, halves rounded down and up in turns along a row, as libjpeg does."""
    planes = _padded(planes, 2)
    sums = F.avg_pool2d(planes, 2) * 4
    turns = torch.arange(sums.shape[3], device=planes.device) % 2 + 1
    return torch.floor((sums + turns) / 4)


def _doubled(planes: torch.Tensor) -> torch.Tensor:
    """Enlarge as libjpeg does ("fancy"): three parts of the nearer and one of the farther pixel, in each direction."""
    n, c, height, width = planes.shape
    above = torch.cat([planes[:, :, :1], planes[:, :, :-1]], dim=2)
    below = torch.cat([planes[:, :, 1:], planes[:, :, -1:]], dim=2)
    tall = torch.stack([3 * planes + above, 3 * planes + below], dim=3).view(n, c, 2 * height, width)
    left = torch.cat([tall[..., :1], tall[..., :-1]], dim=3)
    right = torch.cat([tall[..., 1:], tall[..., -1:]], dim=3)
    wide = torch.stack([torch.floor((3 * tall + left + 8) / 16), torch.floor((3 * tall + right + 7) / 16)], dim=4)
    return wide.view(n, c, 2 * height, 2 * width)


def _padded(planes: torch.Tensor, multiple: int) -> torch.Tensor:
    down, right = -planes.shape[2] % multiple, -planes.shape[3] % multiple
    return F.pad(planes, (0, right, 0, down), mode="replicate") if down or right else planes
