"""One colour per emotion, the same in every image, table and page.

Any two colours differ by at least 15 CIEDE2000 units, in ordinary vision and under simulated protanopia, deuteranopia
and tritanopia (Machado et al. 2009, severity 1). Their contrast is at least 2:1 on white and 3:1 on black. Light
colours are drawn with an outline, and a name always accompanies a colour.
"""

import itertools
from collections.abc import Sequence

from emodet.emotions import EMOTIONS, place_of

EMOTION_COLOURS: dict[str, str] = {
    "neutral": "#ADBAAE",
    "happiness": "#CFB80D",
    "sadness": "#53C1FD",
    "surprise": "#43949E",
    "fear": "#7058BF",
    "disgust": "#3C7302",
    "anger": "#E26266",
    "contempt": "#965269",
}
"""Class name to ``#RRGGBB``."""

OTHER_COLOURS: tuple[str, ...] = ("#4477AA", "#CCBB44", "#228833", "#AA3377", "#66CCEE", "#EE6677", "#777777")
"""Colours of other classes, used in turn."""

UNCERTAIN_COLOUR = "#FF78D2"
"""Colour of uncertain faces: at least 41 units from neutral, 23 from every emotion, and 10 under the simulated
deficiencies."""


def class_colours(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return a colour ``#RRGGBB`` for each class; classes that are not emotions use `OTHER_COLOURS` in turn."""
    spare = itertools.cycle(OTHER_COLOURS)
    places = [place_of(name, EMOTIONS) for name in class_names]
    return tuple(next(spare) if place is None else EMOTION_COLOURS[EMOTIONS[place]] for place in places)
