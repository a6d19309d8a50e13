"""What augmentation does to pixels, for whole batches on any torch device, with parameters of its own for each face.

torchvision's v2 functionals take one parameter for a whole batch, and a call per face would be hundreds of small
kernels where one does. So they stand here where there is no parameter (a flip, grey); all else is torch's own: sampling
on a grid, look-up tables, products of matrices. Each function rounds as albumentations and OpenCV round, so that the
same parameters give the same pixels, within a level or two where interpolation is involved.

Everywhere: crops are uint8 (N, 3, H, W), RGB, on any device; so is what comes back, anew. Parameters are numpy arrays
in the host's memory, one entry per face; they are sent over without waiting for the device.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as V

__all__ = [
    *("Border", "Floats", "Interpolation", "add_noise", "blur", "convolve", "erase", "grey", "light_across"),
    *("light_around", "look_up", "mirror", "resample", "sent", "shift_hsv", "warp"),
]

Floats = npt.NDArray[np.float64]
Border = Literal["replicate", "reflect", "constant"]
Interpolation = Literal["area", "linear", "nearest"]

_PADDING = {"replicate": "border", "reflect": "reflection", "constant": "zeros"}


def sent(values: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """An array on a device; float64 becomes float32, which is what pixels are computed in.

    The host does not wait for a CUDA device as long as the array is small: up to 64 kB are staged at once.
    """
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)


def mirror(crops: torch.Tensor) -> torch.Tensor:
    """Left for right."""
    mirrored: torch.Tensor = V.horizontal_flip(crops)
    return mirrored


def grey(crops: torch.Tensor) -> torch.Tensor:
    """Luma in all three channels."""
    # In floats: torchvision cuts whole numbers off where OpenCV rounds.
    return _whole(V.rgb_to_grayscale(crops.float(), num_output_channels=3))


def warp(
    crops: torch.Tensor, matrices: Floats, border: Border, interpolation: Literal["linear", "nearest"], fill: float
) -> torch.Tensor:
    """Move pixels.

    Args:
        crops: See above; as high as wide.
        matrices: float64 (N, 2, 3): where a pixel (x, y) goes, pixel centres at whole numbers.
        border: What lies outside: the edge repeated, the picture mirrored at its outermost pixels, or `fill`.
        interpolation: Between pixels.
        fill: 0 to 255.
    """
    n, side = len(crops), crops.shape[3]
    back = np.linalg.inv(np.concatenate([matrices, np.tile([[[0.0, 0.0, 1.0]]], (n, 1, 1))], axis=1))[:, :2]
    # In the coordinates of torch's grids, in which the centres of the outermost pixels are -1 and 1.
    shift = back[:, :, :2].sum(axis=2) + back[:, :, 2] * 2 / (side - 1) - 1
    theta = sent(np.concatenate([back[:, :, :2], shift[:, :, None]], axis=2), crops.device)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=True)
    mode = "bilinear" if interpolation == "linear" else "nearest"
    found = F.grid_sample(crops.float() - fill, grid, mode, _PADDING[border], align_corners=True)
    return _whole(found + fill)


def look_up(crops: torch.Tensor, tables: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Replace each pixel value by its entry in its face's table, uint8 (N, 256)."""
    found = sent(tables, crops.device).gather(1, crops.flatten(1).long())
    return found.view(crops.shape)


def shift_hsv(crops: torch.Tensor, tables: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Look hue (0 to 179, two degrees each), saturation and value (0 to 255) up in tables, uint8 (N, 3, 256).

    The way there and back is OpenCV's for eight bits: whole numbers there (12 bits of fraction), floats back.
    """
    levels = np.maximum(np.arange(256.0), 1)
    per_value, per_range = (sent(np.rint((most << 12) / levels).astype(np.int32), crops.device) for most in (255, 30))
    pixels = crops.to(torch.int32)
    red, green, blue = pixels.unbind(1)
    value = pixels.amax(1)
    span = value - pixels.amin(1)
    saturation = (span * per_value[value] + 2048) >> 12
    turned = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * span, red - green + 4 * span),
    )
    hue = (turned * per_range[span] + 2048) >> 12
    hue = torch.where(hue < 0, hue + 180, hue)
    planes = torch.stack([hue, saturation, value], dim=1).flatten(2).long()
    hue, saturation, value = sent(tables, crops.device).gather(2, planes).view(crops.shape).float().unbind(1)
    sixth = (hue / 30)[:, None] + torch.tensor([5.0, 3.0, 1.0]).to(crops.device, non_blocking=True).view(1, 3, 1, 1)
    sixth = torch.remainder(sixth, 6)
    share = torch.minimum(sixth, 4 - sixth).clamp_(0, 1)
    # Parts of levels are cut off on the way back; what is a whole level but for rounding stays one.
    return (value[:, None] * (1 - saturation[:, None] / 255 * share) + 1e-4).to(torch.uint8)


def light_across(crops: torch.Tensor, intensity: Floats, direction: Floats) -> torch.Tensor:
    """Multiply by 1 - i to 1 + i along a direction, (N, 2) as x and y; negative i the other way round.

    The gradient is x · direction in pictures of side 1, as albumentations has it, so below 0 for some directions.
    """
    place = torch.linspace(0, 1, crops.shape[3], device=crops.device)
    along = sent(direction, crops.device)[:, :, None, None]
    gradient = along[:, 0] * place + along[:, 1] * place[:, None]
    i = sent(intensity, crops.device)[:, None, None]
    gradient = torch.where(i < 0, 1 - gradient, gradient) * (2 * i.abs()) + (1 - i.abs())
    return _whole(crops * gradient[:, None])


def light_around(crops: torch.Tensor, intensity: Floats, centre: Floats, sigma: Floats | None) -> torch.Tensor:
    """Multiply by 1 + i · f of the distance to a centre, (N, 2) as x and y in pixels; parts of levels are cut off.

    f is a bell curve of deviation `sigma` in pixels, (N,), or, where that is None, the distance in diagonals.
    """
    side = crops.shape[3]
    place = torch.arange(side, device=crops.device, dtype=torch.float32)
    x, y = sent(centre, crops.device)[:, :, None, None].unbind(1)
    squared = (place - x) ** 2 + (place[:, None] - y) ** 2
    if sigma is None:
        falling = torch.sqrt(squared / (2 * side * side))
    else:
        falling = torch.exp(-squared / (2 * sent(sigma, crops.device)[:, None, None] ** 2))
    light = 1 + sent(intensity, crops.device)[:, None, None] * falling
    return (crops * light[:, None]).clamp_(0, 255).to(torch.uint8)


def blur(crops: torch.Tensor, kernels: Floats) -> torch.Tensor:
    """Weigh each pixel with its neighbours along both axes; kernels float64 (N, odd), edges mirrored."""
    reach = kernels.shape[1] // 2
    height, width = crops.shape[2:]
    weights = sent(kernels, crops.device)[:, :, None, None, None]
    x = F.pad(crops.float(), (reach,) * 4, mode="reflect")
    x = _sum(weights[:, j] * x[..., j : j + width] for j in range(kernels.shape[1]))
    x = _sum(weights[:, j] * x[..., j : j + height, :] for j in range(kernels.shape[1]))
    return _whole(x)


def convolve(crops: torch.Tensor, kernels: Floats) -> torch.Tensor:
    """Weigh each pixel with its neighbours; kernels float64 (N, odd, odd), not turned round, edges mirrored."""
    reach = kernels.shape[1] // 2
    height, width = crops.shape[2:]
    weights = sent(kernels, crops.device)[:, :, :, None, None, None]
    x = F.pad(crops.float(), (reach,) * 4, mode="reflect")
    used = np.argwhere((kernels != 0).any(axis=0)).tolist()
    return _whole(_sum(weights[:, i, j] * x[..., i : i + height, j : j + width] for i, j in used))


def resample(
    crops: torch.Tensor, scales: Floats, down: Interpolation, up: Literal["linear", "nearest"]
) -> torch.Tensor:
    """Reduce to a share of the side, above 0 to 1, and enlarge again: of all sizes in one batch."""
    side = crops.shape[3]
    small = np.maximum(np.rint(side * scales), 1)
    step, ends = sent(1 / scales, crops.device)[:, None], sent(small, crops.device)[:, None]
    place = torch.arange(side, device=crops.device, dtype=torch.float32)
    x = crops.float()
    if down == "area":
        weights = _areas(place, step, ends, side)
        x = torch.round(weights @ x @ weights.transpose(2, 3)).clamp_(0, 255)
    elif down == "linear":
        x = _between(x, ((place + 0.5) * step - 0.5).clamp(0, side - 1))
    else:
        x = _at(_at(x, (place * step).long().clamp_max(side - 1), 3), (place * step).long().clamp_max(side - 1), 2)
    # Of what was reduced only the first `small` rows and columns are the picture.
    if up == "linear":
        return _between(x, torch.minimum(((place + 0.5) * ends / side - 0.5).clamp_min(0), ends - 1)).to(torch.uint8)
    nearest = (place * ends / side).long()
    return _at(_at(x, nearest, 3), nearest, 2).to(torch.uint8)


def _areas(place: torch.Tensor, step: torch.Tensor, ends: torch.Tensor, side: int) -> torch.Tensor:
    """Weights by which pixels make fewer, float32 (N, 1, side, side); rows from `ends` on are zero."""
    begin = (place * step)[:, :, None]
    end = ((place + 1) * step)[:, :, None].clamp_max(side)
    covered = (torch.minimum(end, place + 1) - torch.maximum(begin, place)).clamp_min_(0)
    weights = covered / (end - begin).clamp_min(1e-3)
    return (weights * (place < ends)[:, :, None])[:, None]


def _between(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows and columns at places between pixels, float32 (N, M): whole levels, cut off where OpenCV cuts off.

    It weighs with eleven bits, and keeps two bits of each of the two products of the second axis: on average an eighth
    of a level less.
    """
    low = torch.floor(places)
    weight = torch.round((places - low) * 2048)
    low = low.long()
    high = (low + 1).clamp_max(x.shape[2] - 1)
    across, along = weight[:, None, None, :], weight[:, None, :, None]
    x = _at(x, low, 3) * (2048 - across) + _at(x, high, 3) * across
    x = torch.floor(x / 16)
    above = torch.floor(_at(x, low, 2) * (2048 - along) / 65536)
    below = torch.floor(_at(x, high, 2) * along / 65536)
    return torch.floor((above + below + 2) / 4).clamp_(0, 255)


def _at(x: torch.Tensor, places: torch.Tensor, axis: int) -> torch.Tensor:
    """Rows (axis 2) or columns (axis 3) of (N, C, H, W) by number, int64 (N, M), of each face its own."""
    n, channels, height, width = x.shape
    if axis == 2:
        return x.gather(2, places[:, None, :, None].expand(n, channels, places.shape[1], width))
    return x.gather(3, places[:, None, None, :].expand(n, channels, height, places.shape[1]))


def add_noise(
    crops: torch.Tensor, deviation: Floats, mean: Floats, *, shared: bool, generator: torch.Generator
) -> torch.Tensor:
    """Add normal noise, in whole levels (parts are cut off), the same to all channels where `shared`."""
    n, channels, height, width = crops.shape
    noise = torch.randn(
        (n, 1 if shared else channels, height, width), generator=generator, device=crops.device, dtype=torch.float32
    )
    noise = noise * sent(deviation, crops.device)[:, None, None, None] + sent(mean, crops.device)[:, None, None, None]
    return noise.trunc_().add(crops).clamp_(0, 255).to(torch.uint8)


def erase(
    crops: torch.Tensor, boxes: npt.NDArray[np.int64], fill: npt.NDArray[np.uint8] | torch.Generator
) -> torch.Tensor:
    """Cover boxes (x1, y1, x2, y2), int64 (N, 4), with a colour per face, uint8 (N, 3), or with random pixels."""
    row, column = (torch.arange(side, device=crops.device) for side in crops.shape[2:])
    x1, y1, x2, y2 = sent(boxes, crops.device)[:, :, None].unbind(1)
    inside = ((row >= y1) & (row < y2))[:, None, :, None] & ((column >= x1) & (column < x2))[:, None, None, :]
    if isinstance(fill, torch.Generator):
        cover = torch.randint(0, 256, crops.shape, generator=fill, device=crops.device, dtype=torch.uint8)
    else:
        cover = sent(fill, crops.device)[:, :, None, None]
    return torch.where(inside, cover, crops)


def _whole(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp_(0, 255).to(torch.uint8)


def _sum(parts: Any) -> torch.Tensor:
    total: torch.Tensor | None = None
    for part in parts:
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
