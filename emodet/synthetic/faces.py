"""Drawn faces that show the eight emotions: a data set without photographs, for trials and tests.

A face consists of an `Identity` (shape, skin, hair, …), strengths of facial action units, a pose, and light. Only the
action units depend on the emotion, see `EXPRESSIONS`.

Sources: action units of Ekman and Friesen (1978) and Ekman, Friesen and Hager (2002), *Facial Action Coding System*;
their combinations for emotions from Friesen and Ekman (1983), *EMFACS-7*, and the prototypes of the FACS Investigator's
Guide (2002). The displacement of each point by a unit was chosen by eye and not measured.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from emodet.arrays import Float64, UInt8
from emodet.emotions import EMOTIONS, emotion_id
from emodet.errors import EmodetError
from emodet.synthetic.anatomy import DATA, Colour, Identity, Pose, Units, rgb
from emodet.synthetic.painting import Look, paint

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 20, 23, 24, 25, 26, 43)
"""The drawn units, by their number in the Facial Action Coding System: inner and outer brow raiser, brow
lowerer, upper lid raiser, cheek raiser, lid tightener, nose wrinkler, upper lip raiser, lip corner puller, dimpler, lip
corner depressor, lower lip depressor, chin raiser, lip stretcher, lip tightener, lip pressor, lips part, jaw drop, eyes
closed."""

EXPRESSIONS: Mapping[str, Sequence[Mapping[int, float]]] = {
    name: [{int(unit): strength for unit, strength in variant.items()} for variant in variants]
    for name, variants in DATA["expressions"].items()
}
"""Prototypes of each emotion at full intensity: strength by action unit, 0 to 1 (1 is intensity E of FACS)."""

_SKIN, _HAIR, _IRIS = (np.array(DATA["colours"][name]) for name in ("skin", "hair", "iris"))
_STYLE_SHARES = {name: style["share"] for name, style in DATA["styles"].items()}

_LEAST_RENDER_PX = 144
"""Minimum size of the drawing, in pixels: thin lines of smaller images fade instead of disappearing."""


@dataclasses.dataclass(frozen=True, slots=True)
class SyntheticFace:
    """One drawn face with its annotations.

    Attributes:
        image: uint8, (size, size, 3), RGB.
        emotion: Id 0 to 7 (`emodet.emotions.EMOTIONS`).
        box: (x1, y1, x2, y2) in pixels, from above the brows to the chin; it can extend outside the image.
        landmarks: (x, y) in pixels of left eye, right eye, nose tip, left and right mouth corner, as in the image.
    """

    image: UInt8
    emotion: int
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a random person: shape of the face, colours, hair, beard, age, glasses."""

    def vary(low: float, high: float) -> float:
        # Triangular distribution: average values are more frequent than extreme ones.
        return float(low + (high - low) * (rng.random() + rng.random()) / 2)

    def between(palette: npt.NDArray[np.int_], place: float) -> Colour:
        index = min(int(place), len(palette) - 2)
        return rgb(palette[index] + (palette[index + 1] - palette[index]) * (place - index))

    tone = rng.random() * (len(_SKIN) - 1)
    skin = between(_SKIN, tone)
    age = float(rng.random() ** 1.6)
    # Dark skin mostly occurs with dark hair and eyes.
    light_hair = rng.random() < 0.75 - 0.2 * tone
    hair = _HAIR[int(rng.integers(2, 6)) if light_hair else int(rng.integers(0, 3 if tone < 3 else 2))]
    if age > 0.75 and rng.random() < 0.7:
        hair = _HAIR[6] + int(rng.integers(-30, 60))
    style = str(rng.choice(list(_STYLE_SHARES), p=list(_STYLE_SHARES.values())))
    may_have_beard = style in ("short", "quiff", "receding", "bald", "curly", "beanie")
    beards = ("none", "stubble", "full", "moustache")
    shares = (0.5, 0.22, 0.18, 0.1) if may_have_beard else (1, 0, 0, 0)
    rosy = rng.uniform(0.12, 0.5)
    lip = (1 - rosy) * np.array(skin) * 0.8 + rosy * np.array((196, 52, 70))
    hsv = [[[rng.uniform(0, 180), rng.uniform(40, 190), rng.uniform(60, 220)]]]
    cloth = cv2.cvtColor(np.array(hsv, dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return Identity(
        **{name: vary(*ends) for name, ends in DATA["lengths"].items()},
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


def draw_action_units(emotion: int, rng: np.random.Generator, intensity: float, *, clean: bool = False) -> Units:
    """Draw random strengths of the action units for an emotion.

    Prototype, variation of each unit, and small unrelated movements are random. With `clean` it is the first prototype;
    only the side of a one-sided emotion is random.
    """
    name = EMOTIONS[emotion]
    variants = EXPRESSIONS[name]
    variant = variants[0] if clean else variants[int(rng.integers(len(variants)))]
    side = int(rng.integers(2))
    units = np.zeros((2, max(ACTION_UNITS) + 1))
    for unit, strength in variant.items():
        shares = np.ones(2) if clean else rng.uniform(0.7, 1.15) * rng.uniform(0.9, 1.1, 2)
        if name == "contempt":  # one-sided: R12A + R14A or L12A + L14A in EMFACS
            shares[side] *= 0.05
        units[:, unit] = np.clip(strength * intensity * shares, 0, 1)
    if not clean:
        # Unrelated movements, most frequent in neutral faces.
        rate, most = (0.25, 0.3) if name == "neutral" else (0.10, 0.25)
        for unit in ACTION_UNITS:
            if unit not in (9, 26) and rng.random() < rate:
                units[:, unit] = np.minimum(1, units[:, unit] + rng.uniform(0, most))
        if rng.random() < 0.03:
            units[:, 43] = 1
    return Units(units.tolist(), units.mean(axis=0).tolist())


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
        seed: Argument of numpy's `default_rng`, such as ``(seed, index)``, or a generator.
        size: Side of the image in pixels.
        identity: The person; None for a random one.
        intensity: Intensity of the emotion, 0 to 1; None for a random one from 0.45 to 1.
        framing: Minimum and maximum side of the face's box, as a fraction of the image's side.
        clean: Frontal, evenly lit and sharp, with the emotion's first prototype: for illustrations.

    Raises:
        EmodetError: `emotion` is not one of the eight.
    """
    number = emotion_id(emotion) if isinstance(emotion, str) else emotion
    if number is None or not 0 <= number < len(EMOTIONS):
        raise EmodetError(f"emotion={emotion!r}: a synthetic face shows one of {', '.join(EMOTIONS)}, or an id 0 to 7")
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    person = identity if identity is not None else draw_identity(rng)
    strength = intensity if intensity is not None else (1.0 if clean else float(0.45 + 0.55 * rng.beta(2.2, 1.4)))
    units = draw_action_units(number, rng, strength, clean=clean)
    yaw, pitch, roll = (
        float(np.clip(rng.normal(0, spread), -most, most)) for spread, most in ((0.2, 0.5), (0.11, 0.3), (0.09, 0.3))
    )
    gaze_x, gaze_y = (float(rng.uniform(-most, most)) for most in (0.8, 0.5))
    pose = Pose() if clean else Pose(yaw=yaw, pitch=pitch, roll=roll, gaze_x=gaze_x, gaze_y=gaze_y)
    side = max(2 * size, _LEAST_RENDER_PX) if size <= 160 else round(1.5 * size)
    scale = size / side
    unit = side * float(rng.uniform(*framing)) / _BOX_UNITS
    shift = (0.0 if clean else 1.0) * rng.uniform(-0.04, 0.04, 2)
    centre = (side * (0.5 + shift[0]), side * (0.5 + shift[1]) - 0.03 * unit)
    look = _look(rng, clean=clean)
    painted, (landmarks, reach) = paint(person, units, pose, look, side=side, unit=unit, centre=centre)
    small = np.asarray(cv2.resize(painted, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    image = small if clean else photographed(small, rng)
    points = tuple((x, y) for x, y in (landmarks * scale).tolist())
    return SyntheticFace(image, number, _box(reach * scale, unit * scale), points)


_BOX_UNITS = 2.1
"""Side of a face's box, in half face widths, as a face detector would return it."""


def _box(points: Float64, unit: float) -> tuple[float, float, float, float]:
    """Return the square around the centre of jaw, brows and eyes, shifted up to include a part of the forehead."""
    x, y = ((points.min(axis=0) + points.max(axis=0)) / 2).tolist()
    y, half = y - 0.16 * unit, _BOX_UNITS / 2 * unit
    return x - half, y - half, x + half, y + half


def _look(rng: np.random.Generator, *, clean: bool) -> Look:
    """Draw random light and background; with `clean` frontal light and a background of one random colour."""
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
    """Simulate a camera on an image, uint8 (H, W, 3) RGB: random exposure, contrast, tint, blur and noise."""
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
