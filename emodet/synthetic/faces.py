"""Drawn faces that show the eight emotions: a data set without photographs, for trials and tests.

A face is an `Identity` (shape, skin, hair, …), a set of facial action units with their strengths,
a pose and a light. The emotion shows in the action units alone: see `EXPRESSIONS`.

Sources: the action units are those of Ekman and Friesen (1978) and Ekman, Friesen and Hager (2002), *Facial Action
Coding System*; which of them make an emotion follows Friesen and Ekman (1983), *EMFACS-7*, and the prototypes of the
FACS Investigator's Guide (2002). How far a unit moves which point is our own drawing, not a measurement.
"""

import dataclasses
import math
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Float64, UInt8
from emodet.datasets.affectnet import five_points
from emodet.emotions import EMOTIONS, emotion_id
from emodet.errors import EmodetError
from emodet.synthetic.anatomy import Colour, Identity, Pose, Units, rgb
from emodet.synthetic.painting import Look, paint

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 43)
"""The units that are drawn, by their number in the Facial Action Coding System: inner and outer brow raiser, brow
lowerer, upper lid raiser, cheek raiser, lid tightener, nose wrinkler, upper lip raiser, lip corner puller, dimpler, lip
corner depressor, lower lip depressor, chin raiser, lip stretcher, lip tightener, lip pressor, lips part, jaw drop, eyes
closed."""

EXPRESSIONS: Mapping[str, tuple[Mapping[int, float], ...]] = {
    "neutral": ({},),
    "happiness": ({6: 0.9, 12: 1.0, 25: 0.8}, {6: 0.8, 12: 0.9}, {6: 0.9, 12: 1.0, 25: 0.6, 26: 0.5}),
    "sadness": ({1: 0.9, 4: 0.7, 15: 0.9}, {1: 0.9, 4: 0.7, 15: 0.8, 17: 0.7}, {1: 0.9, 4: 0.5, 15: 0.9, 43: 0.4}),
    "surprise": ({1: 0.9, 2: 0.9, 5: 0.8, 26: 0.9}, {1: 0.8, 2: 0.8, 5: 0.7, 25: 0.5, 26: 0.6}),
    "fear": (
        {1: 0.9, 2: 0.5, 4: 0.8, 5: 1.0, 7: 0.3, 20: 0.9, 25: 0.4, 26: 0.5},
        {1: 0.9, 2: 0.6, 4: 0.7, 5: 0.9, 7: 0.3, 20: 0.8, 25: 0.8},
    ),
    "disgust": ({9: 1.0, 15: 0.6, 16: 0.6, 25: 0.4}, {9: 0.9, 17: 0.7, 15: 0.5}, {9: 0.8, 10: 0.8, 16: 0.5, 25: 0.5}),
    "anger": (
        {4: 1.0, 5: 0.6, 7: 0.7, 23: 0.9},
        {4: 1.0, 5: 0.5, 7: 0.6, 17: 0.5, 24: 0.9},
        {4: 1.0, 5: 0.7, 7: 0.6, 10: 0.6, 16: 0.5, 25: 0.7},
    ),
    "contempt": ({12: 0.8, 14: 0.9},),
}
"""Prototypes of each emotion: action unit to its strength, 0 to 1 (1 is intensity E), in a fully shown emotion."""

_SKIN = np.array(
    [(255, 226, 205), (246, 206, 176), (229, 178, 140), (198, 140, 102), (152, 100, 70), (112, 72, 52), (84, 54, 42)]
)
_HAIR = np.array(
    [(30, 24, 24), (58, 38, 28), (92, 58, 36), (140, 88, 48), (196, 152, 88), (148, 62, 34), (150, 146, 144)]
)
_IRIS = np.array([(74, 46, 26), (96, 62, 32), (84, 108, 66), (74, 116, 150), (104, 130, 140)])
_RANGES = {
    **{"cheek": (0.93, 1.03), "jaw": (0.84, 1.14), "chin": (0.75, 1.3), "length": (0.95, 1.08)},
    **{"eye_x": (0.40, 0.48), "eye_width": (0.20, 0.255), "eye_height": (0.115, 0.165), "eye_tilt": (-0.03, 0.05)},
    **{"brow_y": (-0.40, -0.31), "brow_width": (0.022, 0.062), "brow_arch": (0.0, 0.09), "nose_y": (0.30, 0.40)},
    **{"nose_width": (0.13, 0.22), "mouth_y": (0.70, 0.77), "mouth_width": (0.30, 0.40), "lips": (0.6, 1.4)},
}
"""Lengths of `Identity` and their ends."""
_STYLES = ("short", "quiff", "parted", "fringe", "receding", "long", "bob", "bun", "curly", "scarf", "beanie", "bald")
_STYLE_SHARES = (0.16, 0.09, 0.09, 0.08, 0.07, 0.13, 0.09, 0.06, 0.09, 0.05, 0.05, 0.04)

_LEAST_RENDER_PX = 144
"""Smaller pictures are painted at least this large: thin lines then fade instead of vanishing."""


@dataclasses.dataclass(frozen=True, slots=True)
class SyntheticFace:
    """One drawn face and all that is known about it.

    Attributes:
        image: uint8, (size, size, 3), RGB.
        emotion: Id 0 to 7 (`emodet.emotions.EMOTIONS`).
        box: (x1, y1, x2, y2) in pixels: from above the brows to the chin, ear to ear. May reach outside.
        landmarks: (x, y) of the eye on the picture's left, the right one, the nose tip, the mouth corners.
        points: 68 (x, y) in iBUG's order, from which `landmarks` are taken.
    """

    image: UInt8
    emotion: int
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    points: tuple[tuple[float, float], ...]


def draw_identity(rng: np.random.Generator) -> Identity:
    """A person: shape of face and features, skin from light to dark, hair, beard, age, glasses."""

    def vary(low: float, high: float) -> float:
        # Triangular: middling faces are commoner than extreme ones.
        return float(low + (high - low) * (rng.random() + rng.random()) / 2)

    def between(palette: npt.NDArray[np.int_], place: float) -> Colour:
        index = min(int(place), len(palette) - 2)
        return rgb(palette[index] + (palette[index + 1] - palette[index]) * (place - index))

    tone = rng.random() * (len(_SKIN) - 1)
    skin = between(_SKIN, tone)
    age = float(rng.random() ** 1.6)
    # Dark skin goes with dark hair and eyes mostly, as in people.
    light_hair = rng.random() < 0.75 - 0.2 * tone
    hair = _HAIR[int(rng.integers(2, 6)) if light_hair else int(rng.integers(0, 3 if tone < 3 else 2))]
    if age > 0.75 and rng.random() < 0.7:
        hair = _HAIR[6] + int(rng.integers(-30, 60))
    style = str(rng.choice(_STYLES, p=_STYLE_SHARES))
    may_have_beard = style in ("short", "quiff", "receding", "bald", "curly", "beanie")
    beards = ("none", "stubble", "full", "moustache")
    shares = (0.5, 0.22, 0.18, 0.1) if may_have_beard else (1, 0, 0, 0)
    rosy = rng.uniform(0.12, 0.5)
    lip = (1 - rosy) * np.array(skin) * 0.8 + rosy * np.array((196, 52, 70))
    hsv = [[[rng.uniform(0, 180), rng.uniform(40, 190), rng.uniform(60, 220)]]]
    cloth = cv2.cvtColor(np.array(hsv, dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return Identity(
        **{name: vary(*ends) for name, ends in _RANGES.items()},
        age=age,
        freckles=float(rng.random()) if tone < 2 and rng.random() < 0.25 else 0.0,
        skin=skin,
        lip_colour=rgb(lip),
        hair_colour=rgb(hair),
        iris=between(_IRIS, rng.random() * (1.2 if tone > 3 else len(_IRIS) - 1)),
        cloth=rgb(cloth),
        hair=style,
        beard=str(rng.choice(beards, p=shares)),
        glasses=str(rng.choice(("none", "thin", "thick", "gold"), p=(0.78, 0.08, 0.07, 0.07))),
    )


def draw_action_units(
    emotion: int, rng: np.random.Generator, intensity: float, *, clean: bool = False
) -> dict[int, tuple[float, float]]:
    """One showing of an emotion: unit to its strength on the picture's left and right side, 0 to 1.

    Chance decides the variant, each unit's share and small movements that mean nothing; `clean` takes the first
    prototype as it stands, but for the side of a one-sided emotion.
    """
    name = EMOTIONS[emotion]
    variants = EXPRESSIONS[name]
    variant = variants[0] if clean else variants[int(rng.integers(len(variants)))]
    side = int(rng.integers(2))
    units: dict[int, tuple[float, float]] = {}
    for unit, strength in variant.items():
        shares = np.ones(2) if clean else rng.uniform(0.7, 1.15) * rng.uniform(0.9, 1.1, 2)
        if name == "contempt":  # on one side of the face: EMFACS codes it as R12A + R14A or L12A + L14A
            shares[side] *= 0.05
        left, right = np.clip(strength * intensity * shares, 0, 1).tolist()
        units[unit] = (left, right)
    if clean:
        return units
    # Faces move without meaning anything; a neutral one most visibly, since nothing else happens in it.
    rate, most = (0.25, 0.3) if name == "neutral" else (0.10, 0.25)
    for unit in ACTION_UNITS:
        if unit not in (9, 26) and rng.random() < rate:
            extra = float(rng.uniform(0, most))
            left, right = units.get(unit, (0.0, 0.0))
            units[unit] = (min(1.0, left + extra), min(1.0, right + extra))
    if rng.random() < 0.03:
        units[43] = (1.0, 1.0)
    return units


def draw_face(
    emotion: int | str,
    seed: int | tuple[int, ...] | np.random.Generator,
    size: int = 96,
    *,
    identity: Identity | None = None,
    intensity: float | None = None,
    framing: tuple[float, float] = (0.66, 0.86),
    clean: bool = False,
) -> SyntheticFace:
    """Draw one face. The same arguments give the same pixels.

    Args:
        emotion: Id 0 to 7, or a name, see `emodet.emotions`.
        seed: What numpy's `default_rng` takes, such as ``(seed, index)``, or a generator to draw from.
        size: Side of the picture in pixels.
        identity: Who; a new person without it.
        intensity: 0 to 1; without it 0.45 to 1.
        framing: Least and greatest side of the face's box, as a fraction of the picture's.
        clean: Frontal, evenly lit, sharp and the emotion's first prototype: for pictures that explain.

    Raises:
        EmodetError: `emotion` is none of the eight.
    """
    number = emotion_id(emotion) if isinstance(emotion, str) else emotion
    if number is None or not 0 <= number < len(EMOTIONS):
        raise EmodetError(f"emotion={emotion!r}: a synthetic face shows one of {', '.join(EMOTIONS)}, or an id 0 to 7")
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    person = identity if identity is not None else draw_identity(rng)
    strength = intensity if intensity is not None else (1.0 if clean else float(0.45 + 0.55 * rng.beta(2.2, 1.4)))
    units = draw_action_units(number, rng, strength, clean=clean)
    pose = _pose(rng)
    side = max(2 * size, _LEAST_RENDER_PX) if size <= 160 else round(1.5 * size)
    scale = size / side
    unit = side * float(rng.uniform(*framing)) / _BOX_UNITS
    shift = (0.0 if clean else 1.0) * rng.uniform(-0.04, 0.04, 2)
    centre = (side * (0.5 + shift[0]), side * (0.5 + shift[1]) - 0.03 * unit)
    look, pose = _look(rng, clean=clean), Pose() if clean else pose
    painted, points = paint(person, Units(units), pose, look, side=side, unit=unit, centre=centre)
    small = np.asarray(cv2.resize(painted, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    image = small if clean else photographed(small, rng)
    points = points * scale
    return SyntheticFace(
        image=image,
        emotion=number,
        box=_box(points, unit * scale),
        landmarks=five_points(points) or (),
        points=tuple((x, y) for x, y in points.tolist()),
    )


def _pose(rng: np.random.Generator) -> Pose:
    yaw, pitch, roll = (
        float(np.clip(rng.normal(0, spread), -most, most)) for spread, most in ((0.2, 0.5), (0.11, 0.3), (0.09, 0.3))
    )
    gaze_x, gaze_y = (float(rng.uniform(-most, most)) for most in (0.8, 0.5))
    return Pose(yaw=yaw, pitch=pitch, roll=roll, gaze_x=gaze_x, gaze_y=gaze_y)


_BOX_UNITS = 2.1
"""Side of a face's box in half face widths: what a face detector would mark."""


def _box(points: Float64, unit: float) -> tuple[float, float, float, float]:
    """A square about the 68 points' middle, moved up by a part of the forehead."""
    x, y = ((points.min(axis=0) + points.max(axis=0)) / 2).tolist()
    y, half = y - 0.16 * unit, _BOX_UNITS / 2 * unit
    return x - half, y - half, x + half, y + half


def _look(rng: np.random.Generator, *, clean: bool) -> Look:
    """Light and background. A clean look is a plain one, yet differently coloured each time."""
    hsv = [[[rng.uniform(0, 180), rng.uniform(20, 110), rng.uniform(90, 240)] for _ in range(2)]]
    first, second = cv2.cvtColor(np.array(hsv, dtype=np.uint8), cv2.COLOR_HSV2RGB)[0].astype(float)
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.75)
    places = rng.uniform(0, 1, (4, 2)), rng.uniform(0.05, 0.3, (4, 1))
    blobs = np.concatenate([*places, rng.uniform(50, 200, (4, 1)) + rng.uniform(-35, 35, (4, 3))], 1)
    if clean:
        ground = rgb(first * 0.35 + 255 * 0.65)
        return Look(light=(-0.1, -0.12), ground=(ground, ground), ground_angle=0.0, blobs=blobs[:0])
    return Look(
        light=(strength * math.cos(angle), strength * (0.8 * math.sin(angle) - 0.2)),
        ground=(rgb(first), rgb(second)),
        ground_angle=float(rng.uniform(0, 2 * math.pi)),
        blobs=blobs[: int(rng.integers(0, 5))],
    )


def photographed(image: UInt8, rng: np.random.Generator) -> UInt8:
    """What a camera adds to a picture, uint8 (H, W, 3) RGB: exposure, contrast, tint, blur and noise."""
    gain = rng.uniform(0.72, 1.15) * rng.uniform(0.94, 1.06, 3)
    gamma, lift = rng.uniform(0.8, 1.25), rng.uniform(-8, 14)
    levels = np.linspace(0, 1, 256) ** gamma
    table = np.clip(255 * levels[:, None] * gain + lift, 0, 255).astype(np.uint8)
    out = cv2.LUT(image, table[None])
    blur = rng.uniform(0, 1.3) * image.shape[0] / 96 if rng.random() < 0.35 else 0.0
    if blur > 0.2:
        out = cv2.GaussianBlur(out, (0, 0), float(blur))
    noise = rng.uniform(0, 8)
    grain = rng.standard_normal(out.shape, dtype=np.float32)
    return np.asarray(np.clip(out + np.float32(noise) * grain + 0.5, 0, 255), dtype=np.uint8)
