"""Geometry of a drawn face: action units move points, a pose projects them to pixels.

Face coordinates: the origin is between the eyes, x points right in the image, y down, z towards the viewer; one unit
is half the width of a face.
"""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emodet.arrays import Float64

Points = Float64
Colour = tuple[float, float, float]

DATA: dict[str, Any] = tomllib.loads(Path(__file__).with_name("faces.toml").read_text(encoding="utf-8"))
"""Expressions, colours, lengths and outlines."""

_STEPS = 6
SIDES = ((0, -1.0), (1, 1.0))
_HEAD = np.array([0.0, 0.15, 0.0])
"""Centre of rotation of the head."""
_CATMULL_ROM = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]], dtype=np.float64)
_T = np.linspace(0, 1, _STEPS, endpoint=False)
_BASIS = np.stack([np.ones_like(_T), _T, _T**2, _T**3], axis=1) @ _CATMULL_ROM
_U = np.linspace(-1, 1, 15)
BOW = 1 - _U**2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Attributes of a person that are the same in all images. Lengths in half face widths, colours RGB, 0 to 255."""

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


class Units(NamedTuple):
    """Strengths of action units by number, 0 to 1; lists, because reading single numbers from an array is slower."""

    sides: list[list[float]]  # left and right side of the image
    mean: list[float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Angles of the head in radians (yaw to the image's right, pitch down, roll clockwise), and gaze, -1 to 1."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Outlines and lines of a face as points (n, 2) in face coordinates; pairs are left and right in the image."""

    outline: Points
    brows: tuple[Points, Points]
    lids: tuple[tuple[Points, Points], tuple[Points, Points]]
    nose_y: float
    nose_width: float
    lips: tuple[Points, Points, Points, Points]
    opening: float

    def landmarks(self, at: "Projection") -> tuple[Points, Points]:
        """Return the five landmarks of a sample, (5, 2), and points of jaw, brows and eyes, (n, 2), both in pixels."""

        def spread(line: Points, count: int) -> Points:
            return np.asarray(line[np.linspace(0, len(line) - 1, count).round().astype(int)])

        low = self.outline[self.outline[:, 1] > -0.1]
        # The jaw is part of the head's outline, which is flat.
        jaw = at.rim(spread(low[np.argsort(np.arctan2(low[:, 0], low[:, 1]))], 17))
        brows = [at(spread(line, 5)) for line in self.brows]
        eyes = [at(np.concatenate([upper[[0, 4, 10, 14]], lower[[10, 4]]])) for upper, lower in self.lids]
        nose, mouth = at([(0.0, self.nose_y)], 0.3), at(self.lips[0][[0, -1]])
        centres = [eye.mean(axis=0) for eye in eyes]
        return np.stack([*centres, *nose, *mouth]), np.concatenate([jaw, *brows, *eyes])


def curve(points: Any, *, closed: bool = False) -> Points:
    """Return a smooth curve through points (Catmull and Rom 1974)."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)
    line = np.einsum("sk,nkd->nsd", _BASIS, windows).reshape(-1, 2)
    return line if closed else np.concatenate([line, knots[-1:]])


def shape_of(person: Identity, units: Units) -> Shape:
    """Return the shape of a face with these action units."""
    m = units.mean
    half = [
        (0.0, -1.28), (0.58, -1.14), (0.92, -0.66), (person.cheek * 0.99, -0.05),
        (person.cheek * (0.93 + 0.03 * m[12]), 0.42), (person.jaw * 0.74, 0.86), (person.chin * 0.36, 1.14),
    ]  # fmt: skip
    right = [(x, y * person.length + (0.17 * m[26] * min(1.0, max(0.0, y - 0.4) / 0.6))) for x, y in half]
    bottom = (0.0, 1.23 * person.length + 0.17 * m[26] - 0.02 * m[17])
    outline = curve([*right, bottom, *[(-x, y) for x, y in reversed(right[1:])]], closed=True)

    brows, lids, ex = [], [], person.eye_x
    for index, s in SIDES:
        a = units.sides[index]
        # Raising dominates at the inner end: units 1 and 4 together give the oblique brows of sadness and fear.
        frown = a[4] * (1 - 0.95 * a[1]) + 0.6 * a[9] * (1 - a[1])
        inner = person.brow_y - 0.20 * a[1] + 0.15 * frown
        middle = person.brow_y - person.brow_arch - 0.09 * a[1] * (1 - 0.6 * a[4]) - 0.14 * a[2] + 0.10 * frown
        outer = person.brow_y + 0.05 - 0.15 * a[2] + 0.06 * a[4] * a[1] - 0.05 * frown
        pull = 0.07 * a[4] + 0.03 * a[9]
        brow = [(s * (ex - 0.26 - pull), inner), (s * (ex - 0.03 - pull), middle), (s * (ex + 0.30), outer)]
        brows.append(curve(brow))
        up = 1 + 0.55 * a[5] - 0.22 * a[7] - 0.16 * a[6] - 0.30 * a[9] - 0.20 * a[4] * (1 - a[5]) - 0.9 * a[43]
        low = 0.72 + 0.14 * a[5] - 0.50 * a[7] - 0.72 * a[6] - 0.40 * a[9] - 0.4 * a[43]
        # The lids droop at the outer end in sadness, and at the inner end in a frown.
        slant = 0.05 * a[1] * a[4] - 0.05 * frown
        x = s * ex + person.eye_width * _U
        tilt = -s * _U * person.eye_tilt
        heights = max(0.1, up) * person.eye_height, max(-0.25, low) * person.eye_height
        upper = tilt - heights[0] * BOW**0.75 + slant * s * _U * BOW
        lower = np.maximum(tilt + heights[1] * BOW**0.85, upper + 0.012 * BOW)
        lids.append((np.stack([x, upper], axis=1), np.stack([x, lower], axis=1)))

    return Shape(
        outline, (brows[0], brows[1]), (lids[0], lids[1]),
        person.nose_y - 0.06 * m[9], person.nose_width * (1 + 0.16 * m[9] + 0.06 * m[12]), *_mouth(person, units),
    )  # fmt: skip


def _mouth(person: Identity, units: Units) -> tuple[tuple[Points, Points, Points, Points], float]:
    """Return the lines of the lips (outer upper, inner upper, inner lower, outer lower), and the opening."""
    m, half, lift = units.mean, [], []
    for a in units.sides:
        wide = 0.15 * a[12] + 0.03 * a[15] + 0.06 * a[14] + 0.17 * a[20] - 0.03 * a[23]
        half.append(person.mouth_width + wide - 0.09 * m[26] * (1 - m[20]))
        lift.append(0.20 * a[12] + 0.02 * a[14] - 0.17 * a[15] - 0.10 * a[20])
    opening = 0.11 * m[25] + 0.36 * m[26] + 0.05 * m[16] + 0.05 * m[10] + 0.04 * m[9]
    opening += 0.10 * m[12] * m[25]
    opening *= 1 - 0.85 * max(m[23], m[24], m[17] * 0.7)
    thin = person.lips * (1 - 0.6 * max(m[23], m[24]) - 0.25 * m[12] - 0.2 * m[20])
    centre = person.mouth_y * person.length + 0.03 * m[12] - 0.04 * m[9] - 0.03 * m[17] + 0.02 * m[26]
    x = np.where(_U < 0, half[0], half[1]) * _U
    ends = np.where(_U < 0, lift[0], lift[1]) * np.abs(_U) ** 1.7
    # A dropped jaw moves the corners by half as much, except in a smile.
    drop = 0.4 * opening * m[26] * (1 - m[12])
    middle = centre - ends + drop
    # A stretched mouth is rectangular, one with a dropped jaw oval, a smile flat on top.
    bow = BOW ** (0.8 - 0.45 * m[20] - 0.3 * m[26] * (1 - m[12]) - 0.15 * m[25] * m[12])
    raised = 0.06 * m[10] + 0.06 * m[9]
    inner_upper = middle - bow * (drop + 0.2 * opening * (1 - m[12]) + 0.4 * raised)
    inner_lower = middle + bow * (0.8 * opening - drop)
    cupid = 1 - 0.28 * np.exp(-((_U / 0.16) ** 2))
    outer_upper = inner_upper - (0.085 * thin * cupid + 0.5 * raised) * BOW**0.7
    pout = 1 + 0.45 * m[17] + 0.5 * m[16]
    outer_lower = inner_lower + 0.115 * thin * pout * BOW**0.7 - 0.03 * m[17] * BOW
    lines = [np.stack([x, y], axis=1) for y in (outer_upper, inner_upper, inner_lower, outer_lower)]
    return (lines[0], lines[1], lines[2], lines[3]), opening


def rgb(values: npt.NDArray[Any]) -> Colour:
    """Convert three numbers to a colour."""
    red, green, blue = values.astype(float).tolist()
    return red, green, blue


class Projection:
    """Projects face coordinates to pixels of the drawn image."""

    def __init__(self, pose: Pose, unit: float, centre: tuple[float, float]) -> None:
        (cy, sy), (cx, sx), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (pose.yaw, pose.pitch, pose.roll))
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.unit = unit
        matrix = (unit * (roll @ pitch @ yaw))[:2].T
        self._flat, self._deep = matrix[:2], matrix[2]
        self._origin = np.asarray(centre) - _HEAD @ matrix

    def __call__(self, points: Any, lift: Any = 0.0) -> Points:
        """Project points (n, 2) on the surface of the face, an ellipsoid, or `lift` above it."""
        flat = np.asarray(points, dtype=np.float64)
        x, y = flat[:, 0], flat[:, 1]
        squared = x * x / 1.17 + (y - 0.1) ** 2 / 2.25
        depth = 0.9 * np.sqrt(np.maximum(0.02, 1 - squared)) + lift
        return np.asarray(flat @ self._flat + depth[:, None] * self._deep + self._origin)

    def rim(self, points: Any, depth: float = 0.0) -> Points:
        """Project points (n, 2) in a plane at this depth: outline of the head, hair, clothes."""
        return np.asarray(np.asarray(points, dtype=np.float64) @ self._flat + (depth * self._deep + self._origin))
