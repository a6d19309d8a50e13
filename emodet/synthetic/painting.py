"""How a drawn face is painted: background, skin, eyes, lips, brows, hair, light."""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from emodet.synthetic.anatomy import (
    BOW,
    SIDES,
    ZEROS,
    Colour,
    Identity,
    Points,
    Pose,
    Projection,
    Shape,
    Units,
    curve,
    down,
    landmarks_of,
    shape_of,
)
from emodet.synthetic.canvas import Canvas, UInt8, blurred, shade
from emodet.synthetic.hair import paint_behind, paint_hair


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


def paint(
    person: Identity, units: Units, pose: Pose, look: Look, *, side: int, unit: float, centre: tuple[float, float]
) -> tuple[UInt8, Points]:
    """Paint one face: uint8 (side, side, 3) RGB, and 68 landmarks (68, 2) in its pixels (iBUG's order).

    `units` are strengths from 0 to 1 on the picture's left and right; `unit` is half a face's width and `centre` the
    head's middle, in pixels.
    """
    shape = shape_of(person, units)
    at = Projection(pose, unit, centre)
    canvas = Canvas(_background(look, side))
    paint_behind(canvas, person, at)
    rim = at.rim(shape.outline)
    _skin(canvas, person, units, shape, at, rim)
    _eyes(canvas, person, pose, shape, at)
    _lips(canvas, person, units, shape, at)
    if person.beard in ("moustache", "full"):
        _moustache(canvas, person, shape, at)
    for brow in shape.brows:
        _brow(canvas, person, brow, at)
    paint_hair(canvas, person, at)
    if person.glasses != "none":
        _glasses(canvas, person, at)
    image = _lit(canvas.pixels, look, rim)
    points, lift = landmarks_of(shape)
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
        Canvas(tiny).disc(np.array([x, y]) * small, radius * small, colour)
    return np.asarray(cv2.resize(tiny, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


class _Layers(NamedTuple):
    """Soft shadows, creases and redness that are multiplied into the skin."""

    soft: Canvas
    crease: Canvas
    red: Canvas


def _skin(canvas: Canvas, person: Identity, units: Units, shape: Shape, at: Projection, rim: Points) -> None:
    """The face's ground with soft shadows, creases and colour; folds of the action units show here."""
    canvas.fill(rim, person.skin)
    found = canvas.window(rim)
    if found is None:
        return
    face, mask = found
    u = at.unit
    layers = _Layers(*(Canvas(np.zeros_like(mask), face.origin) for _ in range(3)))
    soft, crease, red = layers
    for index, s in SIDES:
        a = {unit: pair[index] for unit, pair in units.items()}
        _hollows(layers, person, a, s, shape, at)
        _mouth_folds(layers, person, a, s, shape, at)
        _eye_and_nose_folds(layers, person, a, index, shape, at)
    _middle_folds(layers, person, units, shape, at)
    if person.beard != "none":
        _beard(face, person, shape, at, soft, rim)
    if person.freckles > 0:
        dots = np.random.default_rng(round(person.freckles * 1e6)).uniform((-0.62, 0.12), (0.62, 0.42), (22, 2))
        for dot in at(dots):
            crease.disc(dot, 0.017 * u, 70)
    dark = cv2.addWeighted(blurred(soft.pixels, 0.06 * u), 1.0, blurred(crease.pixels, 0.014 * u), 1.0, 0)
    blush = cv2.addWeighted(blurred(red.pixels, 0.1 * u), 0.55, dark, 0.95, 0)
    keep = 255 - cv2.merge([cv2.convertScaleAbs(dark, alpha=0.72), blush, blush])
    face.pixels[:] = cv2.multiply(face.pixels, keep, scale=1 / 255)
    canvas.lay(face, mask)
    canvas.line(np.concatenate([rim, rim[:1]]), shade(person.skin, 0.66), 0.022 * u)


def _hollows(layers: _Layers, person: Identity, a: Mapping[int, float], s: float, shape: Shape, at: Projection) -> None:
    """Places that lie deeper than their surroundings, and red cheeks."""
    soft, _, red = layers
    u, ny, nw = at.unit, shape.nose_y, shape.nose_width
    ex = person.eye_x
    socket = [(s * (ex - 0.27), -0.16), (s * ex, -0.25), (s * (ex + 0.24), -0.14), (s * ex, 0.05)]
    soft.fill(at(curve(socket, closed=True)), 26 + 34 * a.get(4, 0.0))
    soft.fill(at([(s * nw * 0.35, 0.0), (s * nw * 0.7, ny), (s * nw * 1.1, ny + 0.1), (s * nw * 0.9, 0.3)], 0.1), 24)
    cheek = np.array([[s * (ex + 0.12), 0.42 - 0.08 * a.get(6, 0.0)]])
    red.disc(at(cheek), (0.24 + 0.05 * a.get(6, 0.0)) * u, 50 + 60 * a.get(6, 0.0))


def _mouth_folds(
    layers: _Layers, person: Identity, a: Mapping[int, float], s: float, shape: Shape, at: Projection
) -> None:
    crease = layers.crease
    u, ny, nw = at.unit, shape.nose_y, shape.nose_width
    mouth_y = float(shape.lips[1][7, 1])
    # Nasolabial furrow: from the nostril round the corner of the mouth; smile, sneer, dimpler and years deepen it.
    corner = shape.lips[1][0 if s < 0 else -1]
    depth = max(0.2 * person.age, 0.85 * a.get(12, 0), 0.5 * a.get(15, 0), a.get(9, 0), a.get(10, 0), a.get(14, 0))
    fold = [
        (s * (nw + 0.03), ny + 0.02 - 0.05 * a.get(9, 0.0)),
        (s * (abs(corner[0]) * 0.75 + 0.16), mouth_y - 0.2),
        (s * (abs(corner[0]) + 0.1), corner[1] - 0.02 + 0.04 * a.get(15, 0.0)),
    ]
    if depth > 0.08:
        crease.line(at(curve(fold)), 105 * depth, 0.03 * u)
    if a.get(14, 0.0) > 0.15:
        dent = [(corner[0] + s * 0.07, corner[1] - 0.09), (corner[0] + s * 0.12, corner[1]),
                (corner[0] + s * 0.06, corner[1] + 0.09)]  # fmt: skip
        crease.line(at(curve(dent)), 140 * a[14], 0.035 * u)
    if a.get(15, 0.0) > 0.15:
        bag = [(corner[0] - s * 0.01, corner[1] + 0.04), (corner[0] + s * 0.04, corner[1] + 0.17)]
        crease.line(at(bag), 90 * a[15], 0.03 * u)


def _eye_and_nose_folds(
    layers: _Layers, person: Identity, a: Mapping[int, float], index: int, shape: Shape, at: Projection
) -> None:
    crease, s = layers.crease, SIDES[index][1]
    u, ny, nw, ex = at.unit, shape.nose_y, shape.nose_width, person.eye_x
    # Cheek raiser: a pouch under the eye, crow's feet beside it. Years do the same, less.
    under = shape.lids[index][1]
    pouch = max(a.get(6, 0.0), 0.6 * a.get(7, 0.0), 0.45 * person.age)
    if pouch > 0.1:
        crease.line(at(under[2:-2] + down(0.07)), 105 * pouch, 0.025 * u + 1)
    feet = max(a.get(6, 0.0) * (0.5 + 0.5 * person.age), 0.35 * person.age)
    if feet > 0.15:
        end = s * (ex + person.eye_width)
        for rise in (-0.08, 0.0, 0.08):
            line = [(end + s * 0.05, rise * 0.6 + 0.01), (end + s * 0.15, rise * 1.5 + 0.02)]
            crease.line(at(line), 85 * feet, 0.02 * u)
    # Upper lid's fold.
    crease.line(at(shape.lids[index][0][1:-1] - down(0.065)), 80, 0.022 * u + 1)
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
    crease.line(at(curve([(s * nw, ny - 0.03), (s * nw * 1.08, ny + 0.06), (s * nw * 0.8, ny + 0.1)]), 0.15), 130,
                0.025 * u + 1)  # fmt: skip
    crease.fill(at(curve([(s * nw * 0.25, ny + 0.115), (s * nw * 0.6, ny + 0.07), (s * nw * 0.75, ny + 0.11)],
                          closed=True), 0.2), 190)  # fmt: skip


def _middle_folds(layers: _Layers, person: Identity, units: Units, shape: Shape, at: Projection) -> None:
    """Shadows and folds of nose, lip, forehead and chin."""

    def both(unit: int) -> float:
        return sum(units.get(unit, (0.0, 0.0))) / 2

    soft, crease, _ = layers
    u, ny, nw = at.unit, shape.nose_y, shape.nose_width
    lower_lip = float(shape.lips[3][7, 1])
    soft.fill(at(curve([(-nw * 0.9, ny + 0.12), (nw * 0.9, ny + 0.12), (0, ny + 0.24)], closed=True)), 52)
    soft.fill(at(curve([(-0.26, lower_lip + 0.02), (0.26, lower_lip + 0.02), (0, lower_lip + 0.13)], closed=True)), 50)
    if person.nose_y > 0:
        crease.line(at(curve([(-nw * 0.45, ny + 0.1), (0, ny + 0.15), (nw * 0.45, ny + 0.1)]), 0.25), 90, 0.02 * u + 1)
    rise = max(0.9 * (both(1) + both(2)) / 2, 0.5 * person.age)
    if rise > 0.12:
        only_inner = both(1) > 2.5 * both(2)
        width = 0.3 if only_inner else 0.55
        for y in (-0.62, -0.73, -0.84):
            ends = y + (0.06 if only_inner else -0.0)
            crease.line(at(curve([(-width, ends), (0, y - 0.02), (width, ends)])), 75 * rise, 0.025 * u)
    if both(17) > 0.12:
        spot = lower_lip + 0.16
        soft.disc(at([(0.0, spot + 0.04)]), 0.09 * u, 60 * both(17))
        crease.line(at(curve([(-0.16, spot), (0, spot - 0.05), (0.16, spot)])), 95 * both(17), 0.025 * u)


def _beard(face: Canvas, person: Identity, shape: Shape, at: Projection, soft: Canvas, rim: Points) -> None:
    top = shape.lips[0]
    low = shape.outline[shape.outline[:, 1] > 0.25]
    low = low[np.argsort(np.arctan2(low[:, 0], low[:, 1]))]
    upper = [(0.72, 0.5), (0.52, 0.62), (top[-1, 0] + 0.1, top[-1, 1] - 0.12), (0.2, shape.nose_y + 0.24),
             (-0.2, shape.nose_y + 0.24), (top[0, 0] - 0.1, top[0, 1] - 0.12), (-0.52, 0.62), (-0.72, 0.5)]  # fmt: skip
    area = np.concatenate([at.rim(low * 1.02), at(curve(upper))])
    if person.beard == "full":
        face.fill(area, shade(person.hair_colour, 0.95))
    elif person.beard == "stubble":
        soft.fill(area, 44)


def _moustache(canvas: Canvas, person: Identity, shape: Shape, at: Projection) -> None:
    a, b = shape.lips[0], shape.lips[1]
    y = shape.nose_y + 0.15
    under = [(x, min(yy + 0.02, ee)) for (x, yy), (_, ee) in zip(a[1:-1:2] * (1.05, 1), b[1:-1:2], strict=True)]
    line = curve([(a[0, 0] - 0.06, a[0, 1] + 0.03), (-0.22, y + 0.03), (0, y + 0.05), (0.22, y + 0.03),
                   (a[-1, 0] + 0.06, a[-1, 1] + 0.03)])  # fmt: skip
    canvas.fill(at(np.concatenate([line, np.asarray(under)[::-1]]), 0.05), person.hair_colour)


def _brow(canvas: Canvas, person: Identity, middle: Points, at: Projection) -> None:
    """A brow, thick at its inner end and thin at its outer one."""
    thick = person.brow_width * np.interp(np.linspace(0, 1, len(middle)), [0, 0.15, 0.55, 1], [0.75, 1.0, 0.85, 0.15])
    up, down = middle.copy(), middle.copy()
    up[:, 1] -= thick
    down[:, 1] += thick
    canvas.fill(at(np.concatenate([up, down[::-1]])), shade(person.hair_colour, 0.8))


def _eyes(canvas: Canvas, person: Identity, pose: Pose, shape: Shape, at: Projection) -> None:
    u = at.unit
    lash = shade(shade(person.skin, 0.45), 0.6)
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
        eye.disc(spot, radius, shade(person.iris, 0.55))
        eye.disc(spot, radius * 0.86, person.iris)
        eye.disc(spot, radius * 0.5, (18, 14, 14))
        eye.disc(spot - np.array([0.35, 0.4]) * radius, radius * 0.26, (255, 255, 255))
        # The lid's shadow on the ball.
        shadow = np.zeros_like(mask)
        Canvas(shadow, eye.origin).line(at(upper), 90, 0.075 * u)
        keep = 255 - blurred(shadow, 0.02 * u)
        eye.pixels[:] = cv2.multiply(eye.pixels, cv2.merge([keep] * 3), scale=1 / 255)
        canvas.lay(eye, mask)
        canvas.line(at(lower[1:-1]), shade(person.skin, 0.6), 0.016 * u)
        canvas.line(at(upper), lash, 0.042 * u)


def _lips(canvas: Canvas, person: Identity, units: Units, shape: Shape, at: Projection) -> None:
    u = at.unit
    a, b, c, d = shape.lips
    canvas.fill(at(np.concatenate([a, c[::-1]]), 0.03), shade(person.lip_colour, 0.92))
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
            teeth = np.concatenate([b - down(0.03), b[::-1] + np.stack([ZEROS, reach * BOW**0.4], axis=1)])
            inside.fill(at(teeth, 0.03), (246, 243, 235))
            if sum(units.get(20, (0, 0))) + sum(units.get(16, (0, 0))) > 0.5:
                under = np.concatenate([c + down(0.03), c[::-1] - np.stack([ZEROS, 0.5 * reach * BOW**0.5], axis=1)])
                inside.fill(at(under, 0.03), (232, 228, 220))
            canvas.lay(inside, mask)
        canvas.line(at(b, 0.03), shade(person.lip_colour, 0.6), 0.018 * u)
        canvas.line(at(c, 0.03), shade(person.lip_colour, 0.7), 0.014 * u)
    else:
        canvas.line(at((b + c) / 2, 0.03), shade(person.lip_colour, 0.45), 0.03 * u)
    shine = d[5:10] * (1, 0.55) + c[5:10] * (0, 0.45)
    canvas.line(at(shine, 0.03), shade(person.lip_colour, 1.22), 0.02 * u)


def _glasses(canvas: Canvas, person: Identity, at: Projection) -> None:
    u, ex = at.unit, person.eye_x
    thin = 0.055 * u if person.glasses == "thick" else 0.03 * u
    tone = (28, 26, 30) if person.glasses != "gold" else (168, 138, 80)
    angle = np.linspace(0, 2 * math.pi, 29)
    for _, s in SIDES:
        power = 1.0 if person.glasses == "gold" else 0.62
        x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
        y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
        canvas.line(at(np.stack([s * ex + 0.31 * x, 0.03 + 0.245 * y], axis=1), 0.12), tone, thin)
        canvas.line(at([(s * (ex + 0.3), -0.03), (s * 0.97, -0.06)], 0.08), tone, thin)
    canvas.line(at(curve([(-ex + 0.3, -0.01), (0, -0.06), (ex - 0.3, -0.01)]), 0.14), tone, thin)


def _lit(pixels: UInt8, look: Look, rim: Points) -> UInt8:
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
