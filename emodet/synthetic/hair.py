"""Hair, hats, and what is behind a drawn face."""

import math
from collections.abc import Mapping

import numpy as np

from emodet.synthetic.anatomy import SIDES, Identity, Points, Projection, curve
from emodet.synthetic.canvas import Canvas, shade


def _outline(*points: tuple[float, float]) -> Points:
    return curve(points, closed=True)


def _symmetric(top: tuple[float, float], *right: tuple[float, float]) -> Points:
    """An outline from its top point, and the right side downwards to the middle or beyond."""
    return _outline(top, *right, *((-x, y) for x, y in reversed(right) if x))


_HAIR_BACK: Mapping[str, Points] = {
    "long": _symmetric((0, -1.62), (0.8, -1.42), (1.2, -0.6), (1.26, 0.4), (1.3, 1.5), (0.6, 1.75)),
    "bob": _symmetric((0, -1.62), (0.8, -1.42), (1.2, -0.6), (1.27, 0.2), (1.16, 0.85), (0.5, 1.0)),
    "scarf": _symmetric((0, -1.6), (0.85, -1.35), (1.2, -0.5), (1.22, 0.5), (1.15, 1.2), (1.5, 1.9)),
}
_HAIR_FRONT: Mapping[str, Points] = {
    "short": _symmetric(
        *((0, -1.56), (0.62, -1.42), (1.0, -0.95), (1.04, -0.25), (0.93, -0.28), (0.86, -0.72), (0.45, -0.93)),
        (0, -0.97),
    ),
    "quiff": _outline(
        *((0.1, -1.85), (0.75, -1.55), (1.02, -0.95), (1.03, -0.35), (0.93, -0.36), (0.84, -0.82), (0.4, -0.9)),
        *((-0.2, -1.05), (-0.6, -0.95), (-0.84, -0.8), (-0.93, -0.36), (-1.03, -0.35), (-1.04, -0.95), (-0.7, -1.6)),
    ),
    "parted": _outline(
        *((0, -1.6), (0.7, -1.42), (1.06, -0.85), (1.06, -0.1), (0.95, -0.2), (0.82, -0.62), (0.35, -0.78)),
        *((-0.35, -1.1), (-0.6, -0.88), (-0.88, -0.6), (-0.96, -0.15), (-1.06, -0.1), (-1.06, -0.85), (-0.7, -1.42)),
    ),
    "fringe": _outline(
        *((0, -1.6), (0.7, -1.44), (1.08, -0.85), (1.1, 0.1), (0.94, 0.0), (0.86, -0.52), (0.5, -0.62), (0.2, -0.6)),
        *((-0.1, -0.66), (-0.5, -0.6), (-0.86, -0.52), (-0.94, 0.0), (-1.1, 0.1), (-1.08, -0.85), (-0.7, -1.44)),
    ),
    "receding": _symmetric(
        *((0, -1.42), (0.55, -1.36), (0.98, -0.9), (1.04, -0.2), (0.94, -0.2), (0.88, -0.75), (0.66, -1.12)),
        *((0.3, -1.17), (0, -1.12)),
    ),
    "scarf": _symmetric((0, -1.6), (0.8, -1.38), (1.16, -0.6), (1.18, 0.5), (0.95, 1.3), (0, 2.1)),
    "beanie": _symmetric((0, -1.82), (0.7, -1.6), (1.05, -1.0), (1.1, -0.62), (0.55, -0.72), (0, -0.76)),
}
_SCARF_OPENING = _symmetric((0, -0.92), (0.55, -0.8), (0.86, -0.35), (0.9, 0.3), (0.66, 0.88), (0, 1.2))


def paint_behind(canvas: Canvas, person: Identity, at: Projection) -> None:
    """Hair behind the head, shoulders, neck and ears."""
    tone = person.cloth if person.hair == "scarf" else person.hair_colour
    back = {"parted": "bob", "fringe": "long"}.get(person.hair, person.hair)
    if back in _HAIR_BACK:
        canvas.fill(at.rim(_HAIR_BACK[back], -0.3), shade(tone, 0.72))
    if person.hair == "bun":
        canvas.disc(at.rim([(0.0, -1.62)], -0.3), 0.36 * at.unit, shade(tone, 0.85))
    if person.hair == "curly":
        for angle in np.linspace(-1.25, 1.25, 11):
            spot = [(1.1 * math.sin(angle) * 1.02, -0.25 - 1.12 * math.cos(angle))]
            canvas.disc(at.rim(spot, -0.2), 0.36 * at.unit, shade(tone, 0.85))
    neck = [(-0.48, 0.7), (0.48, 0.7), (0.5, 1.5), (0.9, 1.8), (-0.9, 1.8), (-0.5, 1.5)]
    canvas.fill(at.rim(neck, -0.35), shade(person.skin, 0.74))
    coat = curve(
        [(-0.52, 1.42), (0, 1.66), (0.52, 1.42), (1.3, 1.62), (1.9, 2.1), (2, 4), (-2, 4), (-1.9, 2.1), (-1.3, 1.62)],
        closed=True,
    )
    canvas.fill(at.rim(coat, -0.4), person.cloth)
    if person.hair != "scarf":
        for _, s in SIDES:
            ear = curve([(s * 0.93, -0.16), (s * 1.12, -0.2), (s * 1.15, 0.02), (s * 1.03, 0.34), (s * 0.9, 0.3)],
                         closed=True)  # fmt: skip
            canvas.fill(at.rim(ear, -0.15), shade(person.skin, 0.86))


def paint_hair(canvas: Canvas, person: Identity, at: Projection) -> None:
    """Hair and hats before the face."""
    u = at.unit
    if person.hair == "bald":
        return
    if person.hair in ("scarf", "beanie"):
        with canvas.inside(at.rim(_HAIR_FRONT[person.hair], 0.1)) as (cloth, mask):
            cloth.pixels[:] = np.clip(person.cloth, 0, 255)
            if person.hair == "scarf":
                Canvas(mask, cloth.origin).fill(at.rim(_SCARF_OPENING, 0.25), 0)
                cloth.line(at.rim(_SCARF_OPENING * 1.06, 0.25), shade(person.cloth, 0.7), 0.03 * u)
            else:
                band = at.rim(curve([(-1.1, -0.82), (0, -0.97), (1.1, -0.82)]), 0.2)
                cloth.line(band, shade(person.cloth, 0.68), 0.04 * u)
        return
    if person.hair == "curly":
        for angle in np.linspace(-1.2, 1.2, 10):
            spot = [(0.86 * math.sin(angle), -0.18 - 0.98 * math.cos(angle))]
            canvas.disc(at.rim(spot, 0.15), 0.25 * u, shade(person.hair_colour, 0.95 + 0.1 * (round(angle * 9) % 2)))
        return
    front = {"long": "parted", "bob": "fringe", "bun": "short"}.get(person.hair, person.hair)
    canvas.fill(at.rim(_HAIR_FRONT[front], 0.12), person.hair_colour)
    for x in () if person.hair == "receding" else (-0.55, -0.2, 0.2, 0.55):
        strand = curve([(x * 0.9, -1.45), (x * 1.1, -1.25), (x * 1.2, -1.06)])
        canvas.line(at.rim(strand, 0.12), shade(person.hair_colour, 1.08), 0.02 * u)
