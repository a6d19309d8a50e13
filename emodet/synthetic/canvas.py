"""Painting with OpenCV on continuous coordinates. Everything is painted larger than needed, then reduced by area."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from emodet.synthetic.anatomy import Colour, Points

UInt8 = npt.NDArray[np.uint8]

_SHIFT = 4


class Canvas:
    """uint8 pixels with OpenCV's drawing on continuous coordinates: pixel i covers i to i + 1."""

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

    def window(self, points: Points) -> "tuple[Canvas, UInt8] | None":
        """A copy of the part around a polygon to paint on, and the polygon's coverage there, 0 to 255."""
        x1, y1 = np.floor(points.min(axis=0)).astype(int) - 1
        x2, y2 = np.ceil(points.max(axis=0)).astype(int) + 2
        height, width = self.pixels.shape[:2]
        x1, y1, x2, y2 = max(int(x1), 0), max(int(y1), 0), min(int(x2), width), min(int(y2), height)
        if x2 <= x1 or y2 <= y1:
            return None
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        Canvas(mask, (x1, y1)).fill(points, 255)
        return Canvas(self.pixels[y1:y2, x1:x2].copy(), (x1, y1)), mask

    def lay(self, window: "Canvas", mask: UInt8) -> None:
        """Put a painted window back where its mask covers."""
        x, y = window.origin
        height, width = mask.shape
        here = self.pixels[y : y + height, x : x + width]
        share = mask[:, :, None].astype(np.uint16)
        # Division by 256 with a share of 0 to 256 is a shift; half the time of an exact one by 255.
        share += share >> 7
        here[:] = (window.pixels * share + here * (256 - share)) >> 8


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (towards a warm brown) under 1, lighter (towards white) above."""
    if factor <= 1:
        r, g, b = colour
        return (r * factor**0.85, g * factor, b * factor**1.1)
    mix = factor - 1
    return tuple(value + (255 - value) * mix for value in colour)  # type: ignore[return-value]


def blurred(pixels: UInt8, sigma: float) -> UInt8:
    """Blur by two boxes, about a Gaussian of `sigma` pixels."""
    reach = 2 * max(1, round(2 * sigma)) + 1
    return np.asarray(cv2.blur(cv2.blur(pixels, (reach // 2 | 1,) * 2), (reach // 2 | 1,) * 2), dtype=np.uint8)
