"""The people who are drawn."""

import cv2
import numpy as np
import numpy.typing as npt

from emodet.synthetic.anatomy import Colour, Identity, rgb

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
