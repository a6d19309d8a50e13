"""Self-contained HTML pages from jinja2 templates: images and style inside the file, no request to anywhere.

`base.html`, `macros.html` and `style.css` in this package's `templates` folder are shared by all pages. Templates of
other packages lie in a `templates` folder of their own and extend ``base.html``.
"""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined

UInt8 = npt.NDArray[np.uint8]

_THUMBNAIL_SIZE = 144  # longer side in pixels: twice what a phone shows of a face in a gallery


def render(template: str, **values: Any) -> str:
    """Fill in a template; every value is escaped, and a name that is not given raises `jinja2.UndefinedError`.

    Args:
        template: File name in a `templates` folder of `emodet.evaluation`, `emodet.auditing` or `emodet.sweeps`.
        values: What the template uses. Filters besides those of jinja2: `percent`, `data_uri`, `thumbnail`.
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
    """A share as a percentage with one decimal, ``83.4 %`` with a no-break space; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def data_uri(image: bytes) -> str:
    """PNG or JPEG bytes as a data URI for ``src``."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def thumbnail(image: UInt8) -> str:
    """A small JPEG of an image, uint8 (H, W, 3) RGB, as a data URI."""
    height, width = image.shape[:2]
    scale = _THUMBNAIL_SIZE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return data_uri(encode_image(image, ".jpg"))


def encode_image(image: UInt8, suffix: str) -> bytes:
    """Encode an image, uint8 (H, W, 3) RGB, as ``.png`` or ``.jpg`` (quality 88)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if suffix == ".jpg" else []
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
