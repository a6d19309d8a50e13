"""What the pictures of a report have in common: colours for light and dark pages, fonts, titles, PNG.

matplotlib is imported inside the functions and used without pyplot, so nothing here touches a global state or needs a
screen. Figures are narrow on purpose: their letters stay readable on a phone.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Theme", "as_png", "house_figure", "over_figure"]

_DPI = 160


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of paper, ink and what stands between; the page's style sheet has the same ones."""

    paper: str
    ink: str
    quiet: str
    grid: str
    blue: str
    red: str
    ramp: tuple[str, ...]


LIGHT = Theme(
    paper="#FFFFFF",
    ink="#1B2430",
    quiet="#5A6676",
    grid="#E3E7EC",
    blue="#2B6CB0",
    red="#C2413B",
    ramp=("#FFFFFF", "#DCE8F5", "#9DC1E4", "#4C8CC9", "#1F5A9A", "#123A68"),
)
DARK = Theme(
    paper="#171C24",
    ink="#E8ECF1",
    quiet="#A3AEBC",
    grid="#2C3440",
    blue="#6CB0EE",
    red="#F0857D",
    ramp=("#171C24", "#1D3550", "#255583", "#3A7FBD", "#6CB0EE", "#B9DCFA"),
)


@contextmanager
def house_figure(width: float, height: float, theme: Theme) -> Iterator["Figure"]:
    """An empty figure (inches) in the house style; the style ends with the block, so draw and encode inside it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 9,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "svg.fonttype": "none",
    }
    with rc_context(style):
        yield Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def as_png(figure: "Figure") -> bytes:
    """A finished figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    # Without the library's name and version in it, the same figures give the same bytes.
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def over_figure(figure: "Figure", head: str, rest: str) -> None:
    """A bold title and a quiet line below it, at the figure's left edge; call it last."""
    # The empty second line keeps the room in which the layout would otherwise put the axes.
    figure.suptitle(f"{head}\n ", x=0.02, ha="left", fontsize=10.5, weight="bold", linespacing=1.35)
    height = figure.get_figheight()
    figure.text(0.02, 0.98 - 0.235 / height, rest, ha="left", va="top", fontsize=8.5)
