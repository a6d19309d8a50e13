"""Self-contained HTML pages from jinja2 templates, with images and styles inside the file and without requests.

All pages share `base.html`, `macros.html` and `style.css` in this package's `templates` folder. Templates of other
packages are in their own `templates` folders and extend ``base.html``.
"""

import base64
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageDraw, ImageFont, ImageOps

from emodet.arrays import UInt8

_THUMBNAIL_SIZE = 144  # longer side in pixels: twice the size of a face in a gallery on a phone


def render(template: str, **values: Any) -> str:
    """Render a template of `emodet.evaluation`, `emodet.auditing` or `emodet.sweeps`.

    All values are escaped, and an undefined name raises `jinja2.UndefinedError`. Additional filters: `percent`,
    `data_uri`, `thumbnail`.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    package = Path(__file__).parents[1]
    environment = Environment(
        loader=FileSystemLoader([package / name / "templates" for name in ("evaluation", "auditing", "sweeps")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, data_uri=data_uri, thumbnail=thumbnail)
    return environment


def percent(value: float | None) -> str:
    """Format a share as a percentage with one decimal, ``83.4 %`` with a no-break space; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def data_uri(image: bytes) -> str:
    """Convert PNG or JPEG bytes to a data URI for ``src``."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def thumbnail(image: UInt8) -> str:
    """Convert an image, uint8 (H, W, 3) RGB, to a data URI of a small JPEG."""
    small = Image.fromarray(image)
    small.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    return data_uri(encode_image(np.asarray(small), ".jpg"))


def encode_image(image: UInt8, suffix: str) -> bytes:
    """Encode an image, uint8 (H, W, 3) RGB, as ``.png`` or ``.jpg`` (quality 88)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if suffix == ".jpg" else []
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def contact_sheet(
    images: Sequence[UInt8] | UInt8, captions: Sequence[str] = (), columns: int = 8, *, tile: int = 112
) -> UInt8:
    """Lay images out in rows on white, each with its caption below: uint8 (H, W, 3) RGB.

    Args:
        images: One or more, uint8 (H, W, 3) RGB, of any size; each is scaled into its tile, preserving proportions.
        captions: N texts, or none; longer texts are cut with an ellipsis.
        columns: Number of images per row.
        tile: Side of the square tile of each image, in pixels.
    """
    columns, gap, size = min(columns, len(images)), 8, max(9, round(tile / 9))
    font = ImageFont.load_default(size)
    lines = [caption.split("\n") for caption in captions]
    line_height = round(1.3 * size)
    height = tile + gap + (line_height * max(map(len, lines)) + 4 if lines else 0)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        fitted = ImageOps.contain(Image.fromarray(image), (tile, tile))
        left, top = gap + index % columns * (tile + gap), gap + index // columns * height
        sheet.paste(fitted, (left + (tile - fitted.width) // 2, top + (tile - fitted.height) // 2))
        for number, line in enumerate(lines[index] if lines else ()):
            place = (left, top + tile + 3 + number * line_height)
            while line and font.getlength(line) > tile:
                line = line.removesuffix("…")[:-1] + "…" if len(line) > 1 else ""
            draw.text(place, line, fill=(27, 36, 48), font=font)
    return np.array(sheet, dtype=np.uint8)
