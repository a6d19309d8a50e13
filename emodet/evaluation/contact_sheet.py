"""Faces side by side with captions, as one image."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]


def contact_sheet(
    images: Sequence[UInt8] | UInt8, captions: Sequence[str] = (), columns: int = 8, *, tile: int = 112
) -> UInt8:
    """Lay images out in rows on white, each with its caption below.

    Args:
        images: At least one, uint8, (H, W, 3), RGB, of any sizes: each is fitted into its tile with its shape kept.
        captions: N texts, or none; what is wider than the tile ends in an ellipsis.
        columns: Images in a row.
        tile: Side of the square that each image is fitted into, in pixels.

    Returns:
        uint8, (H, W, 3), RGB.
    """
    from PIL import Image, ImageDraw, ImageFont, ImageOps

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
