"""How a synthetic face is drawn: action units move its points, a pose projects them, OpenCV paints them.

Face coordinates: the origin lies between the eyes, x to the picture's right, y down, z towards the viewer; one unit is
half the width of a face. Everything is painted larger than it is wanted and reduced by area, which smooths the edges.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Identity", "Look", "Pose", "paint"]

UInt8 = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Colour = tuple[float, float, float]
Units = Mapping[int, tuple[float, float]]

_SHIFT = 4
_STEPS = 6
_SIDES = ((0, -1.0), (1, 1.0))
_HEAD = np.array([0.0, 0.15, 0.0])
"""The point about which a head turns."""
_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=np.float64)
_T = np.linspace(0, 1, _STEPS, endpoint=False)
_BASIS = np.stack([np.ones_like(_T), _T, _T**2, _T**3], axis=1) @ _CATMULL_ROM
_U = np.linspace(-1, 1, 15)
_BOW = 1 - _U**2
_ZEROS = np.zeros_like(_U)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What stays the same over all pictures of one person. Lengths in half face widths, colours RGB 0 to 255."""

    cheek: float
    jaw: float
    chin: float
    length: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_y: float
    brow_width: float
    brow_arch: float
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lips: float
    age: float
    freckles: float
    skin: Colour
    lip_colour: Colour
    hair_colour: Colour
    iris: Colour
    cloth: Colour
    hair: str
    beard: str
    glasses: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Angles in radians: `yaw` turns to the picture's right, `pitch` nods down, `roll` tilts clockwise."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the picture adds to the face.

    Attributes:
        light: Direction from which light comes, x to the right, y down; its length is its strength, 0 to 1.
        ground: Two RGB colours between which the background fades.
        ground_angle: Direction of that fade, radians.
        blobs: (n, 6): x, y, radius as fractions of the side, then RGB: what stands about behind the person.
    """

    light: tuple[float, float]
    ground: tuple[Colour, Colour]
    ground_angle: float
    blobs: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """Points (n, 2) in face coordinates; pairs are the picture's left and right."""

    outline: Points
    brows: tuple[Points, Points]
    lids: tuple[tuple[Points, Points], tuple[Points, Points]]
    centres: tuple[Points, Points]
    nose_y: float
    nose_width: float
    lips: tuple[Points, Points, Points, Points]
    opening: float


def _curve(points: Any, *, closed: bool = False) -> Points:
    """A smooth line through points (Catmull and Rom 1974)."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)
    line = np.einsum("sk,nkd->nsd", _BASIS, windows).reshape(-1, 2)
    return line if closed else np.concatenate([line, knots[-1:]])


def _shape(person: Identity, units: Units) -> _Shape:
    """Where everything is once the action units have moved it."""

    def both(unit: int) -> float:
        return sum(units.get(unit, (0.0, 0.0))) / 2

    jaw_drop = both(26)
    half = [
        (0.0, -1.28), (0.58, -1.14), (0.92, -0.66), (person.cheek * 0.99, -0.05),
        (person.cheek * (0.93 + 0.03 * both(12)), 0.42), (person.jaw * 0.74, 0.86), (person.chin * 0.36, 1.14),
    ]  # fmt: skip
    right = [(x, y * person.length + (0.17 * jaw_drop * min(1.0, max(0.0, y - 0.4) / 0.6))) for x, y in half]
    bottom = (0.0, 1.23 * person.length + 0.17 * jaw_drop - 0.02 * both(17))
    outline = _curve([*right, bottom, *[(-x, y) for x, y in reversed(right[1:])]], closed=True)

    brows, lids, centres = [], [], []
    for index, s in _SIDES:
        a = {unit: pair[index] for unit, pair in units.items()}

        def of(unit: int, a: Mapping[int, float] = a) -> float:
            return a.get(unit, 0.0)

        # Lowering yields to raising at the inner end (1+4 makes the oblique brows of sadness and fear).
        frown = of(4) * (1 - 0.95 * of(1)) + 0.6 * of(9) * (1 - of(1))
        inner = person.brow_y - 0.20 * of(1) + 0.15 * frown
        middle = person.brow_y - person.brow_arch - 0.09 * of(1) * (1 - 0.6 * of(4)) - 0.14 * of(2) + 0.10 * frown
        outer = person.brow_y + 0.05 - 0.15 * of(2) + 0.06 * of(4) * of(1) - 0.05 * frown
        pull = 0.07 * of(4) + 0.03 * of(9)
        ex = person.eye_x
        brows.append(
            _curve([(s * (ex - 0.26 - pull), inner), (s * (ex - 0.03 - pull), middle), (s * (ex + 0.30), outer)])
        )
        up = 1 + 0.55 * of(5) - 0.22 * of(7) - 0.16 * of(6) - 0.30 * of(9) - 0.20 * of(4) * (1 - of(5)) - 0.9 * of(43)
        low = 0.72 + 0.14 * of(5) - 0.50 * of(7) - 0.72 * of(6) - 0.40 * of(9) - 0.4 * of(43)
        # Sad lids hang at the outer end, frowning ones at the inner.
        slant = 0.05 * of(1) * of(4) - 0.05 * frown
        x = s * ex + person.eye_width * _U
        tilt = -s * _U * person.eye_tilt
        heights = max(0.1, up) * person.eye_height, max(-0.25, low) * person.eye_height
        upper = tilt - heights[0] * _BOW**0.75 + slant * s * _U * _BOW
        lower = np.maximum(tilt + heights[1] * _BOW**0.85, upper + 0.012 * _BOW)
        lids.append((np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)))
        centres.append(np.array([[s * ex, 0.0]]))

    return _Shape(
        outline, (brows[0], brows[1]), (lids[0], lids[1]), (centres[0], centres[1]),
        person.nose_y - 0.06 * both(9), person.nose_width * (1 + 0.16 * both(9) + 0.06 * both(12)),
        *_mouth(person, units),
    )  # fmt: skip


def _mouth(person: Identity, units: Units) -> tuple[tuple[Points, Points, Points, Points], float]:
    """Outer upper, inner upper, inner lower and outer lower line of the lips, left to right, and the opening."""

    def both(unit: int) -> float:
        return sum(units.get(unit, (0.0, 0.0))) / 2

    half, lift = [], []
    for index, _ in _SIDES:
        a = {unit: pair[index] for unit, pair in units.items()}
        smile, down, dimple = a.get(12, 0.0), a.get(15, 0.0), a.get(14, 0.0)
        wide = 0.15 * smile + 0.03 * down + 0.06 * dimple + 0.17 * a.get(20, 0.0) - 0.03 * a.get(23, 0.0)
        half.append(person.mouth_width + wide - 0.09 * both(26) * (1 - both(20)) - 0.06 * both(18))
        lift.append(0.20 * smile + 0.02 * dimple - 0.17 * down - 0.10 * a.get(20, 0.0))
    opening = 0.11 * both(25) + 0.36 * both(26) + 0.05 * both(16) + 0.05 * both(10) + 0.04 * both(9)
    opening += 0.10 * both(12) * both(25)
    opening *= 1 - 0.85 * max(both(23), both(24), both(17) * 0.7)
    thin = person.lips * (1 - 0.6 * max(both(23), both(24)) - 0.25 * both(12) - 0.2 * both(20))
    centre = person.mouth_y * person.length + 0.03 * both(12) - 0.04 * both(9) - 0.03 * both(17) + 0.02 * both(26)
    x = np.where(_U < 0, half[0], half[1]) * _U
    ends = np.where(_U < 0, lift[0], lift[1]) * np.abs(_U) ** 1.7
    middle = centre - ends
    # A dropped jaw takes the corners half of the way along, a smile holds them.
    drop = 0.4 * opening * both(26) * (1 - both(12))
    middle = middle + drop
    # The stretched mouth is a rectangle, the dropped jaw an oval, the smile a bowl.
    bow = _BOW ** (0.8 - 0.45 * both(20) - 0.3 * both(26) * (1 - both(12)) - 0.15 * both(25) * both(12))
    raised = 0.06 * both(10) + 0.06 * both(9)
    inner_upper = middle - bow * (drop + 0.2 * opening * (1 - both(12)) + 0.4 * raised)
    inner_lower = middle + bow * (0.8 * opening - drop)
    cupid = 1 - 0.28 * np.exp(-((_U / 0.16) ** 2))
    outer_upper = inner_upper - (0.085 * thin * cupid + 0.5 * raised) * _BOW**0.7
    pout = 1 + 0.45 * both(17) + 0.5 * both(16)
    outer_lower = inner_lower + 0.115 * thin * pout * _BOW**0.7 - 0.03 * both(17) * _BOW
    lines = [np.stack([x, y], axis=1) for y in (outer_upper, inner_upper, inner_lower, outer_lower)]
    return (lines[0], lines[1], lines[2], lines[3]), opening


def _down(y: float) -> Points:
    return np.array([0.0, y])


def _landmarks(shape: _Shape) -> tuple[Points, npt.NDArray[np.float64]]:
    """The 68 points of the iBUG order in face coordinates, and their extra depth."""
    ring = shape.outline
    low = ring[ring[:, 1] > -0.1]
    jaw = low[np.argsort(np.arctan2(low[:, 0], low[:, 1]))]
    jaw = jaw[np.linspace(0, len(jaw) - 1, 17).round().astype(int)]
    left_brow, right_brow = (line[np.linspace(0, len(line) - 1, 5).round().astype(int)] for line in shape.brows)
    y, w = shape.nose_y, shape.nose_width
    bridge = [(0.0, -0.02 + (y + 0.02) * k / 3) for k in range(4)]
    base = [(w * k, y + 0.13 - 0.02 * abs(k) - 0.03 * (abs(k) == 1)) for k in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    eyes = []
    for upper, lower in shape.lids:
        third = (len(_U) - 1) // 3
        eyes.append(np.stack([upper[0], upper[third], upper[-1 - third], upper[-1], lower[-1 - third], lower[third]]))
    a, b, c, d = shape.lips
    at = np.linspace(0, len(_U) - 1, 7).round().astype(int)
    inside = at[[1, 3, 5]]
    mouth = np.concatenate([a[at], d[at[1:-1]][::-1], b[:1], b[inside], b[-1:], c[inside][::-1]])
    points = np.concatenate([jaw, left_brow[::-1], right_brow, bridge, base, *eyes, mouth])
    lift = np.zeros(68)
    lift[28:31], lift[31:36] = (0.12, 0.2, 0.3), 0.15
    return points, lift


class _Projection:
    """Face coordinates to pixels of the picture that is painted."""

    def __init__(self, pose: Pose, unit: float, centre: tuple[float, float]) -> None:
        cy, sy = math.cos(pose.yaw), math.sin(pose.yaw)
        cx, sx = math.cos(pose.pitch), math.sin(pose.pitch)
        cr, sr = math.cos(pose.roll), math.sin(pose.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.unit = unit
        matrix = (unit * (roll @ pitch @ yaw))[:2].T
        self._flat, self._deep = matrix[:2], matrix[2]
        self._origin = np.asarray(centre) - _HEAD @ matrix

    def __call__(self, points: Any, lift: Any = 0.0) -> Points:
        """Points (n, 2) on the face's surface, an egg, or `lift` above it."""
        flat = np.asarray(points, dtype=np.float64)
        x, y = flat[:, 0], flat[:, 1]
        squared = x * x / 1.17 + (y - 0.1) ** 2 / 2.25
        depth = 0.9 * np.sqrt(np.maximum(0.02, 1 - squared)) + lift
        seen: Points = flat @ self._flat + depth[:, None] * self._deep + self._origin
        return seen

    def rim(self, points: Any, depth: float = 0.0) -> Points:
        """Points (n, 2) in a plane at one depth: the head's outline, hair, clothes."""
        flat = np.asarray(points, dtype=np.float64)
        seen: Points = flat @ self._flat + (depth * self._deep + self._origin)
        return seen


class _Canvas:
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

    def window(self, points: Points) -> "tuple[_Canvas, UInt8] | None":
        """A copy of the part around a polygon to paint on, and the polygon's coverage there, 0 to 255."""
        x1, y1 = np.floor(points.min(axis=0)).astype(int) - 1
        x2, y2 = np.ceil(points.max(axis=0)).astype(int) + 2
        height, width = self.pixels.shape[:2]
        x1, y1, x2, y2 = max(int(x1), 0), max(int(y1), 0), min(int(x2), width), min(int(y2), height)
        if x2 <= x1 or y2 <= y1:
            return None
        mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
        _Canvas(mask, (x1, y1)).fill(points, 255)
        return _Canvas(self.pixels[y1:y2, x1:x2].copy(), (x1, y1)), mask

    def lay(self, window: "_Canvas", mask: UInt8) -> None:
        """Put a painted window back where its mask covers."""
        x, y = window.origin
        height, width = mask.shape
        here = self.pixels[y : y + height, x : x + width]
        share = mask[:, :, None].astype(np.uint16)
        # Division by 256 with a share of 0 to 256 is a shift; half the time of an exact one by 255.
        share += share >> 7
        here[:] = (window.pixels * share + here * (256 - share)) >> 8


def _shade(colour: Colour, factor: float) -> Colour:
    """Darker (towards a warm brown) under 1, lighter (towards white) above."""
    if factor <= 1:
        r, g, b = colour
        return (r * factor**0.85, g * factor, b * factor**1.1)
    mix = factor - 1
    return tuple(value + (255 - value) * mix for value in colour)  # type: ignore[return-value]


def paint(
    person: Identity, units: Units, pose: Pose, look: Look, *, side: int, unit: float, centre: tuple[float, float]
) -> tuple[UInt8, Points]:
    """Paint one face.

    Args:
        person: Who.
        units: Strength 0 to 1 of each action unit on the picture's left and right; missing ones rest.
        pose: Where the head and the eyes turn.
        look: Light and background.
        side: Of the square picture, in pixels.
        unit: Pixels to half a face's width.
        centre: Where in the picture the head's middle lies, pixels.

    Returns:
        uint8 (side, side, 3) RGB, and 68 landmarks (68, 2) in its pixels (iBUG's order).
    """
    shape = _shape(person, units)
    at = _Projection(pose, unit, centre)
    canvas = _Canvas(_background(look, side))
    _behind(canvas, person, at)
    rim = at.rim(shape.outline)
    _skin(canvas, person, units, shape, at, rim)
    _eyes(canvas, person, units, pose, shape, at)
    _lips(canvas, person, units, shape, at)
    if person.beard in ("moustache", "full"):
        _moustache(canvas, person, shape, at)
    for brow in shape.brows:
        _brow(canvas, person, brow, at)
    _hair(canvas, person, at)
    if person.glasses != "none":
        _glasses(canvas, person, at)
    image = _lit(canvas.pixels, look, at, rim)
    points, lift = _landmarks(shape)
    # The jaw line is the head's rim, which has no depth of its own.
    return image, np.concatenate([at.rim(points[:17]), at(points[17:], lift[17:])])


def _background(look: Look, side: int) -> UInt8:
    small = 40
    ramp = np.linspace(-1, 1, small)
    along = ramp[None, :] * math.cos(look.ground_angle) + ramp[:, None] * math.sin(look.ground_angle)
    share = (np.clip(along, -1, 1) * 0.5 + 0.5)[:, :, None]
    first, second = (np.asarray(colour) for colour in look.ground)
    tiny = np.ascontiguousarray((first * (1 - share) + second * share).astype(np.uint8))
    for x, y, radius, *colour in look.blobs:
        _Canvas(tiny).disc(np.array([x, y]) * small, radius * small, colour)
    return np.asarray(cv2.resize(tiny, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _outlines(knots: Mapping[str, Any]) -> dict[str, Points]:
    return {name: _curve(points, closed=True) for name, points in knots.items()}


_HAIR_BACK: Mapping[str, Points] = _outlines({
    "long": [
        (0, -1.62), (0.8, -1.42), (1.2, -0.6), (1.26, 0.4), (1.3, 1.5), (0.6, 1.75), (-0.6, 1.75), (-1.3, 1.5),
        (-1.26, 0.4), (-1.2, -0.6), (-0.8, -1.42),
    ],
    "bob": [
        (0, -1.62), (0.8, -1.42), (1.2, -0.6), (1.27, 0.2), (1.16, 0.85), (0.5, 1.0), (-0.5, 1.0), (-1.16, 0.85),
        (-1.27, 0.2), (-1.2, -0.6), (-0.8, -1.42),
    ],
    "scarf": [
        (0, -1.6), (0.85, -1.35), (1.2, -0.5), (1.22, 0.5), (1.15, 1.2), (1.5, 1.9), (-1.5, 1.9), (-1.15, 1.2),
        (-1.22, 0.5), (-1.2, -0.5), (-0.85, -1.35),
    ],
})  # fmt: skip
_HAIR_FRONT: Mapping[str, Points] = _outlines({
    "short": [
        (0, -1.56), (0.62, -1.42), (1.0, -0.95), (1.04, -0.25), (0.93, -0.28), (0.86, -0.72), (0.45, -0.93),
        (0, -0.97), (-0.45, -0.93), (-0.86, -0.72), (-0.93, -0.28), (-1.04, -0.25), (-1.0, -0.95), (-0.62, -1.42),
    ],
    "quiff": [
        (0.1, -1.85), (0.75, -1.55), (1.02, -0.95), (1.03, -0.35), (0.93, -0.36), (0.84, -0.82), (0.4, -0.9),
        (-0.2, -1.05), (-0.6, -0.95), (-0.84, -0.8), (-0.93, -0.36), (-1.03, -0.35), (-1.04, -0.95), (-0.7, -1.6),
    ],
    "parted": [
        (0, -1.6), (0.7, -1.42), (1.06, -0.85), (1.06, -0.1), (0.95, -0.2), (0.82, -0.62), (0.35, -0.78),
        (-0.35, -1.1), (-0.6, -0.88), (-0.88, -0.6), (-0.96, -0.15), (-1.06, -0.1), (-1.06, -0.85), (-0.7, -1.42),
    ],
    "fringe": [
        (0, -1.6), (0.7, -1.44), (1.08, -0.85), (1.1, 0.1), (0.94, 0.0), (0.86, -0.52), (0.5, -0.62), (0.2, -0.6),
        (-0.1, -0.66), (-0.5, -0.6), (-0.86, -0.52), (-0.94, 0.0), (-1.1, 0.1), (-1.08, -0.85), (-0.7, -1.44),
    ],
    "receding": [
        (0, -1.42), (0.55, -1.36), (0.98, -0.9), (1.04, -0.2), (0.94, -0.2), (0.88, -0.75), (0.66, -1.12),
        (0.3, -1.17), (0, -1.12), (-0.3, -1.17), (-0.66, -1.12), (-0.88, -0.75), (-0.94, -0.2), (-1.04, -0.2),
        (-0.98, -0.9), (-0.55, -1.36),
    ],
    "scarf": [
        (0, -1.6), (0.8, -1.38), (1.16, -0.6), (1.18, 0.5), (0.95, 1.3), (0, 2.1), (-0.95, 1.3), (-1.18, 0.5),
        (-1.16, -0.6), (-0.8, -1.38),
    ],
    "beanie": [
        (0, -1.82), (0.7, -1.6), (1.05, -1.0), (1.1, -0.62), (0.55, -0.72), (0, -0.76), (-0.55, -0.72),
        (-1.1, -0.62), (-1.05, -1.0), (-0.7, -1.6),
    ],
})  # fmt: skip
_SCARF_OPENING = _curve([
    (0, -0.92), (0.55, -0.8), (0.86, -0.35), (0.9, 0.3), (0.66, 0.88), (0, 1.2),
    (-0.66, 0.88), (-0.9, 0.3), (-0.86, -0.35), (-0.55, -0.8),
], closed=True)  # fmt: skip


def _behind(canvas: _Canvas, person: Identity, at: _Projection) -> None:
    """Hair behind the head, shoulders, neck and ears."""
    tone = person.cloth if person.hair == "scarf" else person.hair_colour
    back = {"parted": "bob", "fringe": "long"}.get(person.hair, person.hair)
    if back in _HAIR_BACK:
        canvas.fill(at.rim(_HAIR_BACK[back], -0.3), _shade(tone, 0.72))
    if person.hair == "bun":
        canvas.disc(at.rim([(0.0, -1.62)], -0.3), 0.36 * at.unit, _shade(tone, 0.85))
    if person.hair == "curly":
        for angle in np.linspace(-1.25, 1.25, 11):
            spot = [(1.1 * math.sin(angle) * 1.02, -0.25 - 1.12 * math.cos(angle))]
            canvas.disc(at.rim(spot, -0.2), 0.36 * at.unit, _shade(tone, 0.85))
    neck = [(-0.48, 0.7), (0.48, 0.7), (0.5, 1.5), (0.9, 1.8), (-0.9, 1.8), (-0.5, 1.5)]
    canvas.fill(at.rim(neck, -0.35), _shade(person.skin, 0.74))
    coat = _curve(
        [(-0.52, 1.42), (0, 1.66), (0.52, 1.42), (1.3, 1.62), (1.9, 2.1), (2, 4), (-2, 4), (-1.9, 2.1), (-1.3, 1.62)],
        closed=True,
    )
    canvas.fill(at.rim(coat, -0.4), person.cloth)
    if person.hair != "scarf":
        for _, s in _SIDES:
            ear = _curve([(s * 0.93, -0.16), (s * 1.12, -0.2), (s * 1.15, 0.02), (s * 1.03, 0.34), (s * 0.9, 0.3)],
                         closed=True)  # fmt: skip
            canvas.fill(at.rim(ear, -0.15), _shade(person.skin, 0.86))


def _skin(canvas: _Canvas, person: Identity, units: Units, shape: _Shape, at: _Projection, rim: Points) -> None:
    """The face's ground with soft shadows, creases and colour; what action units fold shows here."""
    canvas.fill(rim, person.skin)
    found = canvas.window(rim)
    if found is None:
        return
    face, mask = found
    u = at.unit
    soft, crease, red = (_Canvas(np.zeros_like(mask), face.origin) for _ in range(3))
    mouth_y = float(shape.lips[1][7, 1])
    ny, nw = shape.nose_y, shape.nose_width
    lower_lip = float(shape.lips[3][7, 1])

    def both(unit: int) -> float:
        return sum(units.get(unit, (0.0, 0.0))) / 2

    # The places that lie deeper than their surroundings.
    for index, s in _SIDES:
        a = {unit: pair[index] for unit, pair in units.items()}
        ex = person.eye_x
        socket = [(s * (ex - 0.27), -0.16), (s * ex, -0.25), (s * (ex + 0.24), -0.14), (s * ex, 0.05)]
        soft.fill(at(_curve(socket, closed=True)), 26 + 34 * a.get(4, 0.0))
        soft.fill(
            at([(s * nw * 0.35, 0.0), (s * nw * 0.7, ny), (s * nw * 1.1, ny + 0.1), (s * nw * 0.9, 0.3)], 0.1), 24
        )
        cheek = np.array([[s * (ex + 0.12), 0.42 - 0.08 * a.get(6, 0.0)]])
        red.disc(at(cheek), (0.24 + 0.05 * a.get(6, 0.0)) * u, 50 + 60 * a.get(6, 0.0))
        # Nasolabial furrow: from the nostril round the corner of the mouth; smile, sneer, dimpler and years deepen it.
        corner = shape.lips[1][0 if s < 0 else -1]
        depth = max(0.2 * person.age, 0.85 * a.get(12, 0), 0.5 * a.get(15, 0), a.get(9, 0), a.get(10, 0), a.get(14, 0))
        fold = [
            (s * (nw + 0.03), ny + 0.02 - 0.05 * a.get(9, 0.0)),
            (s * (abs(corner[0]) * 0.75 + 0.16), mouth_y - 0.2),
            (s * (abs(corner[0]) + 0.1), corner[1] - 0.02 + 0.04 * a.get(15, 0.0)),
        ]
        if depth > 0.08:
            crease.line(at(_curve(fold)), 105 * depth, 0.03 * u)
        if a.get(14, 0.0) > 0.15:
            dent = [(corner[0] + s * 0.07, corner[1] - 0.09), (corner[0] + s * 0.12, corner[1]),
                    (corner[0] + s * 0.06, corner[1] + 0.09)]  # fmt: skip
            crease.line(at(_curve(dent)), 140 * a[14], 0.035 * u)
        if a.get(15, 0.0) > 0.15:
            bag = [(corner[0] - s * 0.01, corner[1] + 0.04), (corner[0] + s * 0.04, corner[1] + 0.17)]
            crease.line(at(bag), 90 * a[15], 0.03 * u)
        # Cheek raiser: a pouch under the eye, crow's feet beside it. Years do the same, less.
        under = shape.lids[index][1]
        pouch = max(a.get(6, 0.0), 0.6 * a.get(7, 0.0), 0.45 * person.age)
        if pouch > 0.1:
            crease.line(at(under[2:-2] + _down(0.07)), 105 * pouch, 0.025 * u + 1)
        feet = max(a.get(6, 0.0) * (0.5 + 0.5 * person.age), 0.35 * person.age)
        if feet > 0.15:
            end = s * (ex + person.eye_width)
            for rise in (-0.08, 0.0, 0.08):
                line = [(end + s * 0.05, rise * 0.6 + 0.01), (end + s * 0.15, rise * 1.5 + 0.02)]
                crease.line(at(line), 85 * feet, 0.02 * u)
        # Upper lid's fold.
        crease.line(at(shape.lids[index][0][1:-1] - _down(0.065)), 80, 0.022 * u + 1)
        # Nose wrinkler.
        if a.get(9, 0.0) > 0.12:
            for k in range(3):
                line = [(s * 0.03, 0.0 + 0.07 * k), (s * (0.13 + 0.02 * k), -0.06 + 0.075 * k)]
                crease.line(at(line, 0.12), 105 * a[9], 0.025 * u)
        # Brow lowerer: upright furrows between the brows.
        if a.get(4, 0.0) > 0.12:
            line = [(s * 0.065, -0.22), (s * 0.075, -0.38 - 0.06 * a.get(1, 0.0))]
            crease.line(at(line), 125 * a[4], 0.028 * u)
        # Nostrils.
        crease.line(at(_curve([(s * nw, ny - 0.03), (s * nw * 1.08, ny + 0.06), (s * nw * 0.8, ny + 0.1)]), 0.15), 130,
                    0.025 * u + 1)  # fmt: skip
        crease.fill(at(_curve([(s * nw * 0.25, ny + 0.115), (s * nw * 0.6, ny + 0.07), (s * nw * 0.75, ny + 0.11)],
                              closed=True), 0.2), 190)  # fmt: skip
    soft.fill(at(_curve([(-nw * 0.9, ny + 0.12), (nw * 0.9, ny + 0.12), (0, ny + 0.24)], closed=True)), 52)
    soft.fill(at(_curve([(-0.26, lower_lip + 0.02), (0.26, lower_lip + 0.02), (0, lower_lip + 0.13)], closed=True)), 50)
    if person.nose_y > 0:
        crease.line(at(_curve([(-nw * 0.45, ny + 0.1), (0, ny + 0.15), (nw * 0.45, ny + 0.1)]), 0.25), 90, 0.02 * u + 1)
    rise = max(0.9 * (both(1) + both(2)) / 2, 0.5 * person.age)
    if rise > 0.12:
        only_inner = both(1) > 2.5 * both(2)
        width = 0.3 if only_inner else 0.55
        for y in (-0.62, -0.73, -0.84):
            ends = y + (0.06 if only_inner else -0.0)
            crease.line(at(_curve([(-width, ends), (0, y - 0.02), (width, ends)])), 75 * rise, 0.025 * u)
    if both(17) > 0.12:
        spot = lower_lip + 0.16
        soft.disc(at([(0.0, spot + 0.04)]), 0.09 * u, 60 * both(17))
        crease.line(at(_curve([(-0.16, spot), (0, spot - 0.05), (0.16, spot)])), 95 * both(17), 0.025 * u)
    if person.beard != "none":
        _beard(face, person, shape, at, soft, rim)
    if person.freckles > 0:
        dots = np.random.default_rng(round(person.freckles * 1e6)).uniform((-0.62, 0.12), (0.62, 0.42), (22, 2))
        for dot in at(dots):
            crease.disc(dot, 0.017 * u, 70)
    dark = cv2.addWeighted(_blurred(soft.pixels, 0.06 * u), 1.0, _blurred(crease.pixels, 0.014 * u), 1.0, 0)
    blush = cv2.addWeighted(_blurred(red.pixels, 0.1 * u), 0.55, dark, 0.95, 0)
    keep = 255 - cv2.merge([cv2.convertScaleAbs(dark, alpha=0.72), blush, blush])
    face.pixels[:] = cv2.multiply(face.pixels, keep, scale=1 / 255)
    canvas.lay(face, mask)
    canvas.line(np.concatenate([rim, rim[:1]]), _shade(person.skin, 0.66), 0.022 * u)


def _blurred(pixels: UInt8, sigma: float) -> UInt8:
    reach = 2 * max(1, round(2 * sigma)) + 1
    return np.asarray(cv2.blur(cv2.blur(pixels, (reach // 2 | 1,) * 2), (reach // 2 | 1,) * 2), dtype=np.uint8)


def _beard(face: _Canvas, person: Identity, shape: _Shape, at: _Projection, soft: _Canvas, rim: Points) -> None:
    top = shape.lips[0]
    low = shape.outline[shape.outline[:, 1] > 0.25]
    low = low[np.argsort(np.arctan2(low[:, 0], low[:, 1]))]
    upper = [(0.72, 0.5), (0.52, 0.62), (top[-1, 0] + 0.1, top[-1, 1] - 0.12), (0.2, shape.nose_y + 0.24),
             (-0.2, shape.nose_y + 0.24), (top[0, 0] - 0.1, top[0, 1] - 0.12), (-0.52, 0.62), (-0.72, 0.5)]  # fmt: skip
    area = np.concatenate([at.rim(low * 1.02), at(_curve(upper))])
    if person.beard == "full":
        face.fill(area, _shade(person.hair_colour, 0.95))
    elif person.beard == "stubble":
        soft.fill(area, 44)


def _moustache(canvas: _Canvas, person: Identity, shape: _Shape, at: _Projection) -> None:
    a, b = shape.lips[0], shape.lips[1]
    y = shape.nose_y + 0.15
    under = [(x, min(yy + 0.02, ee)) for (x, yy), (_, ee) in zip(a[1:-1:2] * (1.05, 1), b[1:-1:2], strict=True)]
    line = _curve([(a[0, 0] - 0.06, a[0, 1] + 0.03), (-0.22, y + 0.03), (0, y + 0.05), (0.22, y + 0.03),
                   (a[-1, 0] + 0.06, a[-1, 1] + 0.03)])  # fmt: skip
    canvas.fill(at(np.concatenate([line, np.asarray(under)[::-1]]), 0.05), person.hair_colour)


def _brow(canvas: _Canvas, person: Identity, middle: Points, at: _Projection) -> None:
    """A brow, thick at its inner end and thin at its outer one."""
    thick = person.brow_width * np.interp(np.linspace(0, 1, len(middle)), [0, 0.15, 0.55, 1], [0.75, 1.0, 0.85, 0.15])
    up, down = middle.copy(), middle.copy()
    up[:, 1] -= thick
    down[:, 1] += thick
    canvas.fill(at(np.concatenate([up, down[::-1]])), _shade(person.hair_colour, 0.8))


def _eyes(canvas: _Canvas, person: Identity, units: Units, pose: Pose, shape: _Shape, at: _Projection) -> None:
    u = at.unit
    lash = _shade(_shade(person.skin, 0.45), 0.6)
    for upper, lower in shape.lids:
        opening = at(np.concatenate([upper, lower[::-1]]))
        found = canvas.window(opening)
        if found is None:
            continue
        eye, mask = found
        eye.pixels[:] = (244, 241, 236)
        middle = np.array([[upper[:, 0].mean() + 0.07 * pose.gaze_x, 0.012 + 0.05 * pose.gaze_y]])
        spot = at(middle)
        radius = 0.125 * u
        eye.disc(spot, radius, _shade(person.iris, 0.55))
        eye.disc(spot, radius * 0.86, person.iris)
        eye.disc(spot, radius * 0.5, (18, 14, 14))
        eye.disc(spot - np.array([0.35, 0.4]) * radius, radius * 0.26, (255, 255, 255))
        # The lid's shadow on the ball.
        shade = np.zeros_like(mask)
        _Canvas(shade, eye.origin).line(at(upper), 90, 0.075 * u)
        keep = 255 - _blurred(shade, 0.02 * u)
        eye.pixels[:] = cv2.multiply(eye.pixels, cv2.merge([keep] * 3), scale=1 / 255)
        canvas.lay(eye, mask)
        canvas.line(at(lower[1:-1]), _shade(person.skin, 0.6), 0.016 * u)
        canvas.line(at(upper), lash, 0.042 * u)


def _lips(canvas: _Canvas, person: Identity, units: Units, shape: _Shape, at: _Projection) -> None:
    u = at.unit
    a, b, c, d = shape.lips
    canvas.fill(at(np.concatenate([a, c[::-1]]), 0.03), _shade(person.lip_colour, 0.92))
    canvas.fill(at(np.concatenate([b, d[::-1]]), 0.03), person.lip_colour)
    if shape.opening > 0.025:
        hole = at(np.concatenate([b, c[::-1]]), 0.03)
        found = canvas.window(hole)
        if found is not None:
            inside, mask = found
            inside.pixels[:] = (62, 18, 24)
            tongue = at([(0.0, c[7, 1] + 0.02)])
            inside.disc(tongue, 0.17 * u, (190, 84, 88))
            reach = min(0.11, 0.62 * shape.opening)
            teeth = np.concatenate([b - _down(0.03), b[::-1] + np.stack([_ZEROS, reach * _BOW**0.4], axis=1)])
            inside.fill(at(teeth, 0.03), (246, 243, 235))
            if sum(units.get(20, (0, 0))) + sum(units.get(16, (0, 0))) > 0.5:
                under = np.concatenate([c + _down(0.03), c[::-1] - np.stack([_ZEROS, 0.5 * reach * _BOW**0.5], axis=1)])
                inside.fill(at(under, 0.03), (232, 228, 220))
            canvas.lay(inside, mask)
        canvas.line(at(b, 0.03), _shade(person.lip_colour, 0.6), 0.018 * u)
        canvas.line(at(c, 0.03), _shade(person.lip_colour, 0.7), 0.014 * u)
    else:
        canvas.line(at((b + c) / 2, 0.03), _shade(person.lip_colour, 0.45), 0.03 * u)
    shine = d[5:10] * (1, 0.55) + c[5:10] * (0, 0.45)
    canvas.line(at(shine, 0.03), _shade(person.lip_colour, 1.22), 0.02 * u)


def _hair(canvas: _Canvas, person: Identity, at: _Projection) -> None:
    u = at.unit
    if person.hair == "bald":
        return
    if person.hair in ("scarf", "beanie"):
        outer = at.rim(_HAIR_FRONT[person.hair], 0.1)
        found = canvas.window(outer)
        if found is None:
            return
        cloth, mask = found
        cloth.pixels[:] = np.clip(person.cloth, 0, 255)
        if person.hair == "scarf":
            _Canvas(mask, cloth.origin).fill(at.rim(_SCARF_OPENING, 0.25), 0)
            cloth.line(at.rim(_SCARF_OPENING * 1.06, 0.25), _shade(person.cloth, 0.7), 0.03 * u)
        else:
            band = at.rim(_curve([(-1.1, -0.82), (0, -0.97), (1.1, -0.82)]), 0.2)
            cloth.line(band, _shade(person.cloth, 0.68), 0.04 * u)
        canvas.lay(cloth, mask)
        return
    if person.hair == "curly":
        for angle in np.linspace(-1.2, 1.2, 10):
            spot = [(0.86 * math.sin(angle), -0.18 - 0.98 * math.cos(angle))]
            canvas.disc(at.rim(spot, 0.15), 0.25 * u, _shade(person.hair_colour, 0.95 + 0.1 * (round(angle * 9) % 2)))
        return
    front = {"long": "parted", "bob": "fringe", "bun": "short"}.get(person.hair, person.hair)
    canvas.fill(at.rim(_HAIR_FRONT[front], 0.12), person.hair_colour)
    for x in () if person.hair == "receding" else (-0.55, -0.2, 0.2, 0.55):
        strand = _curve([(x * 0.9, -1.45), (x * 1.1, -1.25), (x * 1.2, -1.06)])
        canvas.line(at.rim(strand, 0.12), _shade(person.hair_colour, 1.08), 0.02 * u)


def _glasses(canvas: _Canvas, person: Identity, at: _Projection) -> None:
    u, ex = at.unit, person.eye_x
    thin = 0.055 * u if person.glasses == "thick" else 0.03 * u
    tone = (28, 26, 30) if person.glasses != "gold" else (168, 138, 80)
    angle = np.linspace(0, 2 * math.pi, 29)
    for _, s in _SIDES:
        power = 1.0 if person.glasses == "gold" else 0.62
        x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
        y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
        canvas.line(at(np.stack([s * ex + 0.31 * x, 0.03 + 0.245 * y], axis=1), 0.12), tone, thin)
        canvas.line(at([(s * (ex + 0.3), -0.03), (s * 0.97, -0.06)], 0.08), tone, thin)
    canvas.line(at(_curve([(-ex + 0.3, -0.01), (0, -0.06), (ex - 0.3, -0.01)]), 0.14), tone, thin)


def _lit(pixels: UInt8, look: Look, at: _Projection, rim: Points) -> UInt8:
    """Light from one side: brightness follows the slope of an egg under the head (Lambert), from a small map."""
    side = pixels.shape[0]
    small = 32
    centre, half = rim.mean(axis=0) / side * small, np.ptp(rim, axis=0) / 2 / side * small
    grid = np.arange(small) + 0.5
    nx = np.tanh((grid[None, :] - centre[0]) / (1.2 * half[0]))
    ny = np.tanh((grid[:, None] - centre[1]) / (1.2 * half[1]))
    slope = look.light[0] * nx + look.light[1] * ny
    factor = np.clip(128 * (1.04 + 0.5 * slope - 0.1 * (nx**2 + ny**2)), 30, 200).astype(np.uint8)
    wide = cv2.resize(factor, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(pixels, cv2.merge([wide] * 3), scale=1 / 128), dtype=np.uint8)
