"""Matplotlib figures without pyplot, a display or global state, in the style of `report.mplstyle`.

Colours inside `styled_figure`: ``C0`` blue, ``C1`` red, ``C2`` grey, `INK` text, `PAPER` background. Figures are
narrow, so that text stays legible on a phone.
"""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, PAPER = "#1b2430", "#ffffff"


@contextmanager
def styled_figure(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure (size in inches). The style ends with the block: draw and call `to_png` inside it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(Path(__file__).with_name("report.mplstyle")):
        yield Figure(figsize=(width, height))


def ramp() -> "Colormap":
    """Colour map from the background over blue towards the text colour."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    (r, g, b), (ink_r, ink_g, ink_b) = to_rgb("C0"), to_rgb(INK)
    end = ((r + ink_r) / 2, (g + ink_g) / 2, (b + ink_b) / 2)
    return LinearSegmentedColormap.from_list("ramp", [(0.0, to_rgb(PAPER)), (0.75, to_rgb("C0")), (1.0, end)])


def add_title(figure: "Figure", title: str, subtitle: str) -> None:
    """A bold title and a smaller line below it at the left edge, both wrapped to the width; call it last."""
    width, height = figure.get_size_inches()
    head, below = textwrap.wrap(title, int(10.5 * width)), textwrap.wrap(subtitle, int(14 * width))
    # Every line beyond the first two adds its height to the figure.
    height += 0.2 * (len(head) + len(below) - 2)
    figure.set_figheight(height)
    # Empty lines keep the room for the subtitle, whose size differs.
    lines = "\n".join([*head, *(" " for _ in below)])
    figure.suptitle(lines, x=0.02, ha="left", fontsize=10.5, weight="bold", linespacing=1.35)
    top = 0.98 - 0.235 * len(head) / height
    figure.text(0.02, top, "\n".join(below), ha="left", va="top", fontsize=8.5, linespacing=1.4)


def percent_axis(axis: "Axis") -> None:
    """Show an axis of shares in percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %" if value <= 1.0001 else "")


def to_png(figure: "Figure") -> bytes:
    """Encode a finished figure; the same content gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    # Without matplotlib's name and version in it.
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
