"""Faces side by side with captions, as one picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = ["contact_sheet"]

UInt8 = npt.NDArray[np.uint8]


def contact_sheet(
    images: Sequence[UInt8] | UInt8, captions: Sequence[str] | None = None, columns: int = 8, *, tile: int = 112
) -> UInt8:
    """Lay pictures out in rows on white, each with its caption below.

    Args:
        images: N pictures, uint8, (H, W, 3), RGB, of any sizes: each is fitted into its tile with its shape kept.
        captions: N texts; a line break starts a new line, and what is wider than the tile ends in an ellipsis.
        columns: Pictures in a row.
        tile: Side of the square that each picture is fitted into, in pixels.

    Returns:
        uint8, (H, W, 3), RGB.

    Raises:
        EmodetError: There are no pictures, their number is not that of the captions, `columns` or `tile` is below 1,
            or a picture is not uint8 (H, W, 3).
    """
    import cv2
    from PIL import Image, ImageDraw, ImageFont

    if len(images) == 0:
        raise EmodetError("images: none given, so there is nothing to lay out")
    if captions is not None and len(captions) != len(images):
        raise EmodetError(f"captions: {len(captions)} of them for {len(images)} pictures; one for each is needed")
    if columns < 1 or tile < 8:
        raise EmodetError(f"columns={columns}, tile={tile}: at least 1 column and 8 pixels are needed")
    columns = min(columns, len(images))
    gap, size = 8, max(9, round(tile / 9))
    font = ImageFont.load_default(size)
    lines = [caption.split("\n") for caption in captions] if captions is not None else []
    line_height = round(1.3 * size)
    height = tile + gap + (line_height * max(map(len, lines)) + 4 if lines else 0)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * height + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(images):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise EmodetError(f"images[{index}]: {picture.dtype} of shape {picture.shape}; uint8 (H, W, 3) is needed")
        scale = tile / max(picture.shape[:2])
        to = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        fitted = cv2.resize(picture, to, interpolation=method)
        left, top = gap + index % columns * (tile + gap), gap + index // columns * height
        sheet.paste(
            Image.fromarray(np.asarray(fitted, dtype=np.uint8)), (left + (tile - to[0]) // 2, top + (tile - to[1]) // 2)
        )
        for number, line in enumerate(lines[index] if lines else ()):
            text = _cut(line, tile, font)
            pen.text((left, top + tile + 3 + number * line_height), text, fill=(27, 36, 48), font=font)
    return np.array(sheet, dtype=np.uint8)


def _cut(text: str, width: int, font: Any) -> str:
    """The text, or as much of it as fits into `width` pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
