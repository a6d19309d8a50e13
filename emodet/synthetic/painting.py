"""Drawing of a face: background, skin, eyes, lips, brows, hair, light."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from emodet.arrays import Float64, UInt8
from emodet.synthetic.anatomy import BOW, DATA, SIDES, Colour, Identity, Pose, Projection, Shape, Units, curve, shape_of
from emodet.synthetic.canvas import Canvas, blurred, shade

_DOWN = np.array([0.0, 1.0])


# Closed outlines of hair, hats and clothes by name.
_OUTLINES = {
    **{name: curve(points, closed=True) for name, points in DATA["wholes"].items()},
    **{
        name: curve([top, *right, *([-x, y] for x, y in reversed(right) if x)], closed=True)
        for name, (top, *right) in DATA["halves"].items()
    },
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Light and background of an image."""

    light: tuple[float, float]  # direction to the light (x right, y down); its length is the strength, 0 to 1
    ground: tuple[Colour, Colour]  # colours of the background's gradient
    ground_angle: float  # direction of the gradient in radians
    blobs: Float64  # discs in the background, (n, 6): x, y and radius as fractions of the side, then RGB


def paint(
    person: Identity, units: Units, pose: Pose, look: Look, *, side: int, unit: float, centre: tuple[float, float]
) -> tuple[UInt8, tuple[Float64, Float64]]:
    """Draw one face; returns the image, uint8 (side, side, 3) RGB, and `Shape.landmarks`.

    `unit` is half the width of the face, and `centre` the centre of the head, in pixels.
    """
    shape, at = shape_of(person, units), Projection(pose, unit, centre)
    canvas, rim = Canvas(_background(look, side)), at.rim(shape.outline)
    painter = _Painter(canvas, person, units, shape, at)
    _paint_behind(canvas, person, at)
    painter.skin(rim)
    painter.eyes(pose)
    painter.lips()
    painter.moustache()
    painter.brows()
    _paint_hair(canvas, person, at)
    painter.glasses()
    return _lit(canvas.pixels, look, rim), shape.landmarks(at)


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


class _Painter:
    """Draws the parts of one face.

    `soft`, `crease` and `red` are maps of shadows, folds and redness, with which `skin` darkens and tints the face.
    """

    def __init__(self, canvas: Canvas, person: Identity, units: Units, shape: Shape, at: Projection) -> None:
        self.canvas, self.person, self.units, self.shape, self.at = canvas, person, units, shape, at
        self.u = at.unit

    def skin(self, rim: Float64) -> None:
        """Draw the skin with shadows, folds of the action units, beard and freckles."""
        person, u = self.person, self.u
        self.canvas.fill(rim, person.skin)
        with self.canvas.inside(rim) as (face, mask):
            self.soft, self.crease, self.red = (Canvas(np.zeros_like(mask), face.origin) for _ in range(3))
            for index, s in SIDES:
                self._side(s, self.units.sides[index], *self.shape.lids[index])
            self._middle(self.units.mean)
            self._beard(face)
            if person.freckles > 0:
                dots = np.random.default_rng(round(person.freckles * 1e6)).uniform((-0.62, 0.12), (0.62, 0.42), (22, 2))
                for dot in self.at(dots):
                    self.crease.disc(dot, 0.017 * u, 70)
            soft, crease = blurred(self.soft.pixels, 0.06 * u), blurred(self.crease.pixels, 0.014 * u)
            dark = cv2.addWeighted(soft, 1.0, crease, 1.0, 0)
            blush = cv2.addWeighted(blurred(self.red.pixels, 0.1 * u), 0.55, dark, 0.95, 0)
            keep = 255 - cv2.merge([cv2.convertScaleAbs(dark, alpha=0.72), blush, blush])
            face.pixels[:] = cv2.multiply(face.pixels, keep, scale=1 / 255)
        self.canvas.line(np.concatenate([rim, rim[:1]]), shade(person.skin, 0.66), 0.022 * u)

    def _fold(
        self, points: Any, strength: float, width: float, amount: float = 1, least: float = 0, *, lift: float = 0
    ) -> None:
        """Draw a fold if `amount`, of an action unit or of age, exceeds `least`."""
        if amount > least:
            self.crease.line(self.at(points, lift), strength * amount, width)

    def _side(self, s: float, a: Sequence[float], upper: Float64, lower: Float64) -> None:
        """Draw shadows, cheek and folds of one side."""
        at, u, person, line = self.at, self.u, self.person, self.shape.lips[1]
        age, ex, ny, nw = person.age, person.eye_x, self.shape.nose_y, self.shape.nose_width
        socket = [(s * (ex - 0.27), -0.16), (s * ex, -0.25), (s * (ex + 0.24), -0.14), (s * ex, 0.05)]
        self.soft.fill(at(curve(socket, closed=True)), 26 + 34 * a[4])
        flank = [(s * nw * 0.35, 0.0), (s * nw * 0.7, ny), (s * nw * 1.1, ny + 0.1), (s * nw * 0.9, 0.3)]
        self.soft.fill(at(flank, 0.1), 24)
        self.red.disc(at([(s * (ex + 0.12), 0.42 - 0.08 * a[6])]), (0.24 + 0.05 * a[6]) * u, 50 + 60 * a[6])
        x, y = line[0 if s < 0 else -1]
        # Nasolabial fold, from the nostril to the corner of the mouth; deepened by smile, sneer, dimpler and age.
        depth = max(0.2 * age, 0.85 * a[12], 0.5 * a[15], a[9], a[10], a[14])
        middle = (s * (abs(x) * 0.75 + 0.16), float(line[7, 1]) - 0.2)
        furrow = [(s * (nw + 0.03), ny + 0.02 - 0.05 * a[9]), middle, (s * (abs(x) + 0.1), y - 0.02 + 0.04 * a[15])]
        self._fold(curve(furrow), 105, 0.03 * u, depth, 0.08)
        dent = [(x + s * 0.07, y - 0.09), (x + s * 0.12, y), (x + s * 0.06, y + 0.09)]
        self._fold(curve(dent), 140, 0.035 * u, a[14], 0.15)
        self._fold([(x - s * 0.01, y + 0.04), (x + s * 0.04, y + 0.17)], 90, 0.03 * u, a[15], 0.15)
        # Cheek raiser: a fold below the eye, and crow's feet; also with age, but weaker.
        self._fold(lower[2:-2] + 0.07 * _DOWN, 105, 0.025 * u + 1, max(a[6], 0.6 * a[7], 0.45 * age), 0.1)
        feet, end = max(a[6] * (0.5 + 0.5 * age), 0.35 * age), s * (ex + person.eye_width)
        for rise in (-0.08, 0.0, 0.08):
            foot = [(end + s * 0.05, rise * 0.6 + 0.01), (end + s * 0.15, rise * 1.5 + 0.02)]
            self._fold(foot, 85, 0.02 * u, feet, 0.15)
        self._fold(upper[1:-1] - 0.065 * _DOWN, 80, 0.022 * u + 1)  # upper lid
        for k in range(3):  # nose wrinkler
            wrinkle = [(s * 0.03, 0.0 + 0.07 * k), (s * (0.13 + 0.02 * k), -0.06 + 0.075 * k)]
            self._fold(wrinkle, 105, 0.025 * u, a[9], 0.12, lift=0.12)
        # Brow lowerer: vertical folds between the brows.
        self._fold([(s * 0.065, -0.22), (s * 0.075, -0.38 - 0.06 * a[1])], 125, 0.028 * u, a[4], 0.12)
        nostril = [(s * nw, ny - 0.03), (s * nw * 1.08, ny + 0.06), (s * nw * 0.8, ny + 0.1)]
        self._fold(curve(nostril), 130, 0.025 * u + 1, lift=0.15)
        hole = [(s * nw * 0.25, ny + 0.115), (s * nw * 0.6, ny + 0.07), (s * nw * 0.75, ny + 0.11)]
        self.crease.fill(at(curve(hole, closed=True), 0.2), 190)

    def _middle(self, m: Sequence[float]) -> None:
        """Draw shadows and folds of nose, lip, forehead and chin."""
        at, u, ny, nw = self.at, self.u, self.shape.nose_y, self.shape.nose_width
        lip = float(self.shape.lips[3][7, 1])
        for x, y, deep, strength in ((nw * 0.9, ny + 0.12, ny + 0.24, 52), (0.26, lip + 0.02, lip + 0.13, 50)):
            self.soft.fill(at(curve([(-x, y), (x, y), (0, deep)], closed=True)), strength)
        self._fold(curve([(-nw * 0.45, ny + 0.1), (0, ny + 0.15), (nw * 0.45, ny + 0.1)]), 90, 0.02 * u + 1, lift=0.25)
        rise = max(0.9 * (m[1] + m[2]) / 2, 0.5 * self.person.age)
        width, drop = (0.3, 0.06) if m[1] > 2.5 * m[2] else (0.55, -0.0)
        for y in (-0.62, -0.73, -0.84):
            self._fold(curve([(-width, y + drop), (0, y - 0.02), (width, y + drop)]), 75, 0.025 * u, rise, 0.12)
        if m[17] > 0.12:
            spot = lip + 0.16
            self.soft.disc(at([(0.0, spot + 0.04)]), 0.09 * u, 60 * m[17])
            self._fold(curve([(-0.16, spot), (0, spot - 0.05), (0.16, spot)]), 95, 0.025 * u, m[17])

    def _beard(self, face: Canvas) -> None:
        top, y, low = self.shape.lips[0], self.shape.nose_y, self.shape.outline[self.shape.outline[:, 1] > 0.25]
        low = low[np.argsort(np.arctan2(low[:, 0], low[:, 1]))]
        upper = [(0.72, 0.5), (0.52, 0.62), (top[-1, 0] + 0.1, top[-1, 1] - 0.12), (0.2, y + 0.24),
                 (-0.2, y + 0.24), (top[0, 0] - 0.1, top[0, 1] - 0.12), (-0.52, 0.62), (-0.72, 0.5)]  # fmt: skip
        area = np.concatenate([self.at.rim(low * 1.02), self.at(curve(upper))])
        if self.person.beard == "full":
            face.fill(area, shade(self.person.hair_colour, 0.95))
        elif self.person.beard == "stubble":
            self.soft.fill(area, 44)

    def moustache(self) -> None:
        if self.person.beard not in ("moustache", "full"):
            return
        a, b, y = self.shape.lips[0], self.shape.lips[1], self.shape.nose_y + 0.15
        under = [(x, min(yy + 0.02, ee)) for (x, yy), (_, ee) in zip(a[1:-1:2] * (1.05, 1), b[1:-1:2], strict=True)]
        line = curve([(a[0, 0] - 0.06, a[0, 1] + 0.03), (-0.22, y + 0.03), (0, y + 0.05), (0.22, y + 0.03),
                       (a[-1, 0] + 0.06, a[-1, 1] + 0.03)])  # fmt: skip
        self.canvas.fill(self.at(np.concatenate([line, np.asarray(under)[::-1]]), 0.05), self.person.hair_colour)

    def brows(self) -> None:
        """Draw the brows, thick at the inner end and thin at the outer one."""
        for line in self.shape.brows:
            share = np.interp(np.linspace(0, 1, len(line)), [0, 0.15, 0.55, 1], [0.75, 1.0, 0.85, 0.15])
            thick = np.stack([np.zeros(len(line)), self.person.brow_width * share], axis=1)
            brow = np.concatenate([line - thick, (line + thick)[::-1]])
            self.canvas.fill(self.at(brow), shade(self.person.hair_colour, 0.8))

    def eyes(self, pose: Pose) -> None:
        u, at, person = self.u, self.at, self.person
        radius = 0.125 * u
        for upper, lower in self.shape.lids:
            with self.canvas.inside(at(np.concatenate([upper, lower[::-1]]))) as (eye, mask):
                eye.pixels[:] = (244, 241, 236)
                spot = at([(upper[:, 0].mean() + 0.07 * pose.gaze_x, 0.012 + 0.05 * pose.gaze_y)])
                eye.disc(spot, radius, shade(person.iris, 0.55))
                eye.disc(spot, radius * 0.86, person.iris)
                eye.disc(spot, radius * 0.5, (18, 14, 14))
                eye.disc(spot - np.array([0.35, 0.4]) * radius, radius * 0.26, (255, 255, 255))
                # Shadow of the lid on the eye.
                shadow = np.zeros_like(mask)
                Canvas(shadow, eye.origin).line(at(upper), 90, 0.075 * u)
                keep = 255 - blurred(shadow, 0.02 * u)
                eye.pixels[:] = cv2.multiply(eye.pixels, cv2.merge([keep] * 3), scale=1 / 255)
            self.canvas.line(at(lower[1:-1]), shade(person.skin, 0.6), 0.016 * u)
            self.canvas.line(at(upper), shade(shade(person.skin, 0.45), 0.6), 0.042 * u)

    def lips(self) -> None:
        canvas, at, u, colour, opening = self.canvas, self.at, self.u, self.person.lip_colour, self.shape.opening
        a, b, c, d = self.shape.lips
        m = self.units.mean
        canvas.fill(at(np.concatenate([a, c[::-1]]), 0.03), shade(colour, 0.92))
        canvas.fill(at(np.concatenate([b, d[::-1]]), 0.03), colour)
        if opening > 0.025:
            with canvas.inside(at(np.concatenate([b, c[::-1]]), 0.03)) as (inside, _):
                inside.pixels[:] = (62, 18, 24)
                inside.disc(at([(0.0, c[7, 1] + 0.02)]), 0.17 * u, (190, 84, 88))
                reach = min(0.11, 0.62 * opening)
                teeth = np.concatenate([b - 0.03 * _DOWN, b[::-1] + np.outer(reach * BOW**0.4, _DOWN)])
                inside.fill(at(teeth, 0.03), (246, 243, 235))
                if 2 * m[20] + 2 * m[16] > 0.5:
                    edge = np.outer(0.5 * reach * BOW**0.5, _DOWN)
                    inside.fill(at(np.concatenate([c + 0.03 * _DOWN, c[::-1] - edge]), 0.03), (232, 228, 220))
            canvas.line(at(b, 0.03), shade(colour, 0.6), 0.018 * u)
            canvas.line(at(c, 0.03), shade(colour, 0.7), 0.014 * u)
        else:
            canvas.line(at((b + c) / 2, 0.03), shade(colour, 0.45), 0.03 * u)
        shine = d[5:10] * (1, 0.55) + c[5:10] * (0, 0.45)
        canvas.line(at(shine, 0.03), shade(colour, 1.22), 0.02 * u)

    def glasses(self) -> None:
        if self.person.glasses == "none":
            return
        canvas, at, ex, gold = self.canvas, self.at, self.person.eye_x, self.person.glasses == "gold"
        thin = 0.055 * self.u if self.person.glasses == "thick" else 0.03 * self.u
        tone, power = ((168, 138, 80), 1.0) if gold else ((28, 26, 30), 0.62)
        angle = np.linspace(0, 2 * math.pi, 29)
        x, y = (np.sign(way) * np.abs(way) ** power for way in (np.cos(angle), np.sin(angle)))
        for _, s in SIDES:
            canvas.line(at(np.stack([s * ex + 0.31 * x, 0.03 + 0.245 * y], axis=1), 0.12), tone, thin)
            canvas.line(at([(s * (ex + 0.3), -0.03), (s * 0.97, -0.06)], 0.08), tone, thin)
        canvas.line(at(curve([(-ex + 0.3, -0.01), (0, -0.06), (ex - 0.3, -0.01)]), 0.14), tone, thin)


def _paint_behind(canvas: Canvas, person: Identity, at: Projection) -> None:
    """Draw hair behind the head, shoulders, neck and ears."""
    tone = person.cloth if person.hair == "scarf" else person.hair_colour
    if back := DATA["styles"][person.hair].get("back"):
        canvas.fill(at.rim(_OUTLINES[back], -0.3), shade(tone, 0.72))
    if person.hair == "bun":
        canvas.disc(at.rim([(0.0, -1.62)], -0.3), 0.36 * at.unit, shade(tone, 0.85))
    if person.hair == "curly":
        for angle in np.linspace(-1.25, 1.25, 11):
            spot = [(1.1 * math.sin(angle) * 1.02, -0.25 - 1.12 * math.cos(angle))]
            canvas.disc(at.rim(spot, -0.2), 0.36 * at.unit, shade(tone, 0.85))
    neck = [(-0.48, 0.7), (0.48, 0.7), (0.5, 1.5), (0.9, 1.8), (-0.9, 1.8), (-0.5, 1.5)]
    canvas.fill(at.rim(neck, -0.35), shade(person.skin, 0.74))
    canvas.fill(at.rim(_OUTLINES["coat"], -0.4), person.cloth)
    for _, s in SIDES if person.hair != "scarf" else ():
        canvas.fill(at.rim(_OUTLINES["right_ear"] * (s, 1), -0.15), shade(person.skin, 0.86))


def _paint_hair(canvas: Canvas, person: Identity, at: Projection) -> None:
    """Draw hair and hats in front of the face."""
    u = at.unit
    if person.hair == "bald":
        return
    if person.hair in ("scarf", "beanie"):
        with canvas.inside(at.rim(_OUTLINES[person.hair], 0.1)) as (cloth, mask):
            cloth.pixels[:] = np.clip(person.cloth, 0, 255)
            if person.hair == "scarf":
                opening = _OUTLINES["scarf_opening"]
                Canvas(mask, cloth.origin).fill(at.rim(opening, 0.25), 0)
                cloth.line(at.rim(opening * 1.06, 0.25), shade(person.cloth, 0.7), 0.03 * u)
            else:
                band = at.rim(curve([(-1.1, -0.82), (0, -0.97), (1.1, -0.82)]), 0.2)
                cloth.line(band, shade(person.cloth, 0.68), 0.04 * u)
        return
    if person.hair == "curly":
        for angle in np.linspace(-1.2, 1.2, 10):
            spot = [(0.86 * math.sin(angle), -0.18 - 0.98 * math.cos(angle))]
            canvas.disc(at.rim(spot, 0.15), 0.25 * u, shade(person.hair_colour, 0.95 + 0.1 * (round(angle * 9) % 2)))
        return
    canvas.fill(at.rim(_OUTLINES[DATA["styles"][person.hair]["front"]], 0.12), person.hair_colour)
    for x in () if person.hair == "receding" else (-0.55, -0.2, 0.2, 0.55):
        strand = curve([(x * 0.9, -1.45), (x * 1.1, -1.25), (x * 1.2, -1.06)])
        canvas.line(at.rim(strand, 0.12), shade(person.hair_colour, 1.08), 0.02 * u)


def _lit(pixels: UInt8, look: Look, rim: Float64) -> UInt8:
    """Apply light from one side: Lambertian shading of an ellipsoid, computed on a small map and enlarged."""
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
