"""What our self-contained HTML pages are made of: escaped text, pictures as data URIs, one head, one style."""

import base64
import html
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["TILE", "data_uri", "document", "encoded", "percent", "small", "style", "swatch", "text"]

UInt8 = npt.NDArray[np.uint8]

TILE = 144
"""Pixels of a picture in a gallery: twice what a phone shows of a face."""


def text(value: object) -> str:
    """Every value from outside passes this: escaped for text and for quoted attributes."""
    return html.escape(str(value), quote=True)


def data_uri(data: bytes, kind: str) -> str:
    """An encoded picture (``png``, ``jpeg``) as the source of an ``img``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def encoded(image_rgb: UInt8, kind: str) -> bytes:
    """A picture, uint8 (H, W, 3) RGB, as ``.png`` or ``.jpg``.

    Raises:
        OSError: It cannot be encoded.
    """
    worked, data = cv2.imencode(
        kind, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88] if kind == ".jpg" else []
    )
    if not worked:
        raise OSError(f"a picture of shape {image_rgb.shape} could not be encoded as {kind}")
    return data.tobytes()


def small(image_rgb: UInt8) -> UInt8:
    """The picture with at most `TILE` pixels to its longer side."""
    scale = TILE / max(image_rgb.shape[:2])
    if scale >= 1:
        return image_rgb
    to = (max(1, round(image_rgb.shape[1] * scale)), max(1, round(image_rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(image_rgb, to, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}&nbsp;%"


def swatch(colour: str) -> str:
    """A small square of a colour ``#RRGGBB``, for beside the name that it stands for."""
    return f'<span class="swatch" style="background:{colour}" aria-hidden="true"></span>'


def style() -> str:
    """The style sheet of all pages."""
    return (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def document(title: str, body: str, *, more_style: str = "") -> str:
    """A page that asks for nothing: its own policy forbids any request.

    Args:
        title: Unescaped.
        body: Markup between the body's tags.
        more_style: Rules besides `style`.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>
{style()}{more_style}</style>
</head>
<body>
{body}</body>
</html>
"""
