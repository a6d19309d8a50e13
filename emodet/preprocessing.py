"""Face crops: geometry, colour, size and normalisation, defined once.

Data preparation, training, the model file and recognition all crop with `Preprocessing.crop`, and the model file
contains its values. numpy and OpenCV only: it runs without torch.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Float32, UInt8
from emodet.errors import EmodetError

_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}
_MAX_SQUARE = 16_384

MIN_DEVIATION = 2.0
"""Lower bound of the divisor for ``contrast="crop"``, in pixel values: smaller deviations are rounding noise."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Definition of a face crop, from image and box to the net's input. All fields are plain values.

    Attributes:
        size: Side of the crop in pixels.
        margin: Fraction of the box side added on each side: 0.1 makes the crop 1.2 box sides wide.
        alignment: ``eyes`` rotates the face upright by the line through its eyes if landmarks are given; ``none`` does
            not rotate.
        colour: ``rgb``, or ``grey``: luma (ITU-R BT.601) in all three channels.
        detail: Number of pixels to which a larger face is reduced first, to match the detail of the training images.
            None skips this step.
        interpolation: Method for enlarging a face smaller than `size`. Larger faces are reduced by area averaging.
        mean: Mean of each channel, for pixel values scaled to 0..1, in RGB order.
        std: Standard deviation of each channel, for pixel values scaled to 0..1, in RGB order.
        contrast: ``fixed`` normalises with `mean` and `std`. ``crop`` uses each crop's own mean and standard deviation,
            over all pixels and channels, instead; this removes brightness and contrast.
    """

    size: int = 96
    margin: float = 0.0
    alignment: Literal["none", "eyes"] = "none"
    colour: Literal["rgb", "grey"] = "rgb"
    detail: int | None = None
    interpolation: Literal["linear", "cubic", "nearest"] = "linear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    contrast: Literal["fixed", "crop"] = "fixed"

    def __post_init__(self) -> None:
        _require(_is_int(self.size) and 8 <= self.size <= 1024, "size", self.size, "whole pixels, 8 to 1024")
        _require(is_number(self.margin) and -0.4 <= self.margin <= 2, "margin", self.margin, "a fraction, -0.4 to 2")
        _require(self.alignment in ("none", "eyes"), "alignment", self.alignment, "none or eyes")
        _require(self.colour in ("rgb", "grey"), "colour", self.colour, "rgb or grey")
        detail_fits = self.detail is None or (_is_int(self.detail) and 8 <= self.detail <= self.size)
        _require(detail_fits, "detail", self.detail, f"empty, or whole pixels from 8 to size ({self.size})")
        known = ", ".join(_INTERPOLATION)
        _require(self.interpolation in tuple(_INTERPOLATION), "interpolation", self.interpolation, known)
        # 0 and 0.0 are the same margin and must have the same fingerprint.
        object.__setattr__(self, "margin", float(self.margin))
        for field in ("mean", "std"):
            value = getattr(self, field)
            fits = isinstance(value, Sequence) and len(value) == 3 and all(map(is_number, value))
            _require(fits, field, value, "three numbers, for R, G and B")
            object.__setattr__(self, field, tuple(float(number) for number in value))
        _require(min(self.std) > 0, "std", self.std, "three numbers above 0")
        _require(self.contrast in ("fixed", "crop"), "contrast", self.contrast, "fixed or crop")

    def crop(
        self,
        image_rgb: UInt8,
        box: Sequence[float] | None = None,
        landmarks: Sequence[Sequence[float]] | npt.NDArray[np.floating[Any]] | None = None,
    ) -> UInt8:
        """Crop a face.

        The crop is a square around the box's centre, `1 + 2 * margin` times its longer side wide. Outside the image the
        edge pixels are repeated. Without a box the whole image is the face: the square has the image's longer side, and
        margin and alignment do not apply.

        Args:
            image_rgb: uint8, (H, W, 3), RGB.
            box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive. It can extend outside the image.
            landmarks: (2, 2) or more points in pixels, first the eye that is left in the upright crop, then the right
                one. Only ``alignment="eyes"`` uses them.

        Returns:
            uint8, (size, size, 3), RGB. Never a view of `image_rgb`.

        Raises:
            EmodetError: The image is not uint8 (H, W, 3), or the box is empty, not finite, or makes a square wider than
                16,384 pixels.
        """
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or not image_rgb.size:
            raise EmodetError(
                f"image has shape {image_rgb.shape} and dtype {image_rgb.dtype}: expected uint8 RGB (H, W, 3)"
            )
        height, width = image_rgb.shape[:2]
        if box is None:
            centre, side, angle = (width / 2, height / 2), float(max(width, height)), 0.0
        else:
            x1, y1, x2, y2 = _corners(box)
            centre = ((x1 + x2) / 2, (y1 + y2) / 2)
            side = max(x2 - x1, y2 - y1) * (1 + 2 * self.margin)
            angle = _roll(landmarks) if self.alignment == "eyes" and landmarks is not None else 0.0
            if side > _MAX_SQUARE:
                raise EmodetError(
                    f"box {tuple(box)}: with margin {self.margin:g} the crop would be {side:.0f} pixels wide, "
                    f"more than {_MAX_SQUARE}; reduce the image first if the box is right"
                )
        square = _rotated_square(image_rgb, centre, side, angle) if angle else _square(image_rgb, centre, side)
        crop = self._resize(square)
        if self.colour == "grey":
            crop = np.asarray(cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), dtype=np.uint8)
        return crop

    def normalise(self, crops: UInt8) -> Float32:
        """Pixels to net input: uint8 (N, H, W, 3) RGB to float32 (N, 3, H, W), ``(x / 255 - mean) / std``.

        With ``contrast="crop"`` it is ``(x - m) / max(s, MIN_DEVIATION)`` with each crop's mean m and deviation s.
        """
        scaled: Float32 = crops.astype(np.float32)
        if self.contrast == "crop":
            scaled -= scaled.mean(axis=(1, 2, 3), keepdims=True)
            deviation = np.sqrt(np.square(scaled).mean(axis=(1, 2, 3), keepdims=True))
            scaled /= np.maximum(deviation, np.float32(MIN_DEVIATION))
        else:
            scaled = scaled / np.float32(255) - np.array(self.mean, np.float32)
            scaled /= np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types; the inverse of `from_dict`."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; raises `EmodetError` if a key is unknown or a value is out of its range."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise EmodetError(f"preprocessing: unknown {', '.join(unknown)}; expected {', '.join(sorted(known))}")
        plain: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**plain)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the values that change the crops: all except mean, std and contrast."""
        values = {key: value for key, value in self.to_dict().items() if key not in ("mean", "std", "contrast")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _resize(self, square: UInt8) -> UInt8:
        if self.detail is not None and len(square) > self.detail:
            square = np.asarray(cv2.resize(square, (self.detail,) * 2, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if len(square) == self.size:
            return square.copy()
        method = cv2.INTER_AREA if len(square) > self.size else _INTERPOLATION[self.interpolation]
        return np.asarray(cv2.resize(square, (self.size, self.size), interpolation=method), dtype=np.uint8)


def _require(holds: bool, field: str, value: object, wanted: str) -> None:
    if not holds:
        raise EmodetError(f"preprocessing.{field}={value!r}: expected {wanted}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a finite number and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    values = tuple(float(value) for value in box)
    if len(values) != 4 or not all(map(math.isfinite, values)) or values[2] <= values[0] or values[3] <= values[1]:
        raise EmodetError(f"box {values}: expected x1, y1, x2, y2 with x2 > x1 and y2 > y1")
    return values


def _whole(value: float) -> int:
    """Round halves up; `round` rounds them to even numbers, so the crop of a moving box would jump."""
    return math.floor(value + 0.5)


def _roll(landmarks: Sequence[Sequence[float]] | npt.NDArray[np.floating[Any]]) -> float:
    """Return the angle of the line through the eyes in degrees, clockwise positive; 0 if the eyes coincide."""
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] != 2 or not np.isfinite(points[:2]).all():
        raise EmodetError(f"landmarks of shape {points.shape}: expected finite points (n, 2), the two eyes first")
    dx, dy = points[1] - points[0]
    return math.degrees(math.atan2(dy, dx)) if dx or dy else 0.0


def _square(image: UInt8, centre: tuple[float, float], side: float) -> UInt8:
    """Cut an upright square at whole pixels; edges are repeated outside the image."""
    pixels = max(1, _whole(side))
    return _cut(image, _whole(centre[0] - pixels / 2), _whole(centre[1] - pixels / 2), pixels)


def _cut(image: UInt8, left: int, top: int, pixels: int) -> UInt8:
    """Return the pixels [left, left + pixels) × [top, top + pixels), perhaps a view; edges are repeated outside."""
    height, width = image.shape[:2]
    if top >= 0 and left >= 0 and top + pixels <= height and left + pixels <= width:
        return image[top : top + pixels, left : left + pixels]
    inside = image[max(0, top) : max(0, top + pixels), max(0, left) : max(0, left + pixels)]
    if inside.size:
        borders = max(0, -top), max(0, top + pixels - height), max(0, -left), max(0, left + pixels - width)
        return np.asarray(cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REPLICATE), dtype=np.uint8)
    rows = np.clip(np.arange(top, top + pixels), 0, height - 1)
    columns = np.clip(np.arange(left, left + pixels), 0, width - 1)
    return image[rows[:, None], columns[None, :]]


def _rotated_square(image: UInt8, centre: tuple[float, float], side: float, angle: float) -> UInt8:
    """Cut a square that is rotated by `angle` degrees about its centre, and turn it upright."""
    # Cut the upright square that contains the rotated one, so that cost and OpenCV's limit of 32,767 pixels depend on
    # the face and not on the image.
    reach = math.ceil(side * math.sqrt(2)) + 4
    left, top = _whole(centre[0] - reach / 2), _whole(centre[1] - reach / 2)
    around = _cut(image, left, top, reach)
    x, y = centre[0] - left, centre[1] - top
    # Rotate at full size; the later reduction by averaging then skips no pixel.
    pixels = max(1, _whole(side))
    # Pixel centres have integer coordinates in `warpAffine`, but half-integer ones in boxes.
    x, y = x - 0.5, y - 0.5
    matrix = np.array(cv2.getRotationMatrix2D((x, y), angle, pixels / side), dtype=np.float64)
    matrix[:, 2] += (pixels - 1) / 2 - np.array([x, y])
    turned = cv2.warpAffine(around, matrix, (pixels, pixels), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, dtype=np.uint8)
