"""Drawing with OpenCV in continuous coordinates. Images are drawn larger than needed, then reduced by averaging."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import UInt8
from emodet.synthetic.anatomy import Colour, Points

_SHIFT = 4


class Canvas:
    """A uint8 image with OpenCV's drawing functions in continuous coordinates: pixel i covers i to i + 1."""

    def __init__(self, pixels: UInt8, origin: tuple[int, int] = (0, 0)) -> None:
        self.pixels = pixels
        self.origin = origin

    def _fixed(self, points: Points) -> npt.NDArray[np.int32]:
        return np.rint((points - self.origin - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def fill(self, points: Points, colour: Any) -> None:
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: Points, colour: Any, width: float) -> None:
        thick = max(1, round(width))
        cv2.polylines(self.pixels, [self._fixed(points)], False, colour, thick, cv2.LINE_AA, _SHIFT)

    def disc(self, centre: Points, radius: float, colour: Any) -> None:
        x, y = self._fixed(centre.reshape(1, 2))[0]
        cv2.circle(self.pixels, (int(x), int(y)), max(1, round(radius * 16)), colour, -1, cv2.LINE_AA, _SHIFT)

    @contextmanager
    def inside(self, points: Points) -> "Iterator[tuple[Canvas, UInt8]]":
        """Yield a copy of the region around a polygon, and the polygon's coverage of it, uint8, 0 to 255.

        Afterwards the copy is blended into the image by its coverage.
        """
        height, width = self.pixels.shape[:2]
        x1, y1 = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, (width - 1, height - 1)).tolist()
        x2, y2 = np.clip(np.ceil(points.max(axis=0)).astype(int) + 2, (x1 + 1, y1 + 1), (width, height)).tolist()
        here, mask = self.pixels[y1:y2, x1:x2], np.zeros((y2 - y1, x2 - x1), np.uint8)
        Canvas(mask, (x1, y1)).fill(points, 255)
        copy = Canvas(here.copy(), (x1, y1))
        yield copy, mask
        share = mask[:, :, None].astype(np.uint16)
        # Dividing by 256, with shares from 0 to 256, takes half the time of dividing by 255.
        share += share >> 7
        here[:] = (copy.pixels * share + here * (256 - share)) >> 8


def shade(colour: Colour, factor: float) -> Colour:
    """Darken a colour (towards brown) by a factor below 1, or lighten it (towards white) by one above 1."""
    if factor <= 1:
        r, g, b = colour
        return (r * factor**0.85, g * factor, b * factor**1.1)
    mix = factor - 1
    return tuple(value + (255 - value) * mix for value in colour)  # type: ignore[return-value]


def blurred(pixels: UInt8, sigma: float) -> UInt8:
    """Blur with two box filters, which approximate a Gaussian of `sigma` pixels."""
    reach = 2 * max(1, round(2 * sigma)) + 1
    return np.asarray(cv2.blur(cv2.blur(pixels, (reach // 2 | 1,) * 2), (reach // 2 | 1,) * 2), dtype=np.uint8)
