"""From encoded bytes to RGB pixels: the one decoder, for preparing data and for recognising.

Pillow decodes: it reads a picture's size before its pixels (so that a decompression bomb costs nothing), says when a
file is cut off instead of filling the rest with grey, and knows EXIF rotation, palettes and CMYK.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from emodet.errors import EmodetError

__all__ = ["MAX_PIXELS", "TooManyPixelsError", "decode_rgb"]

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused unless the caller raises the limit."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooManyPixelsError(EmodetError):
    """A picture is larger than its reader allows; nothing of it was decoded."""


def decode_rgb(
    data: bytes, *, name: str = "image", max_pixels: int = MAX_PIXELS, least_side: int | None = None
) -> npt.NDArray[np.uint8]:
    """Decode a picture of any common kind to RGB.

    Grey, palette, CMYK and 16-bit pictures are converted; transparency is laid over white; EXIF rotation is applied;
    of an animation or a multi-page file the first picture is taken.

    Args:
        data: JPEG, PNG, BMP, TIFF, WebP, GIF or PNM.
        name: What to call the picture in an error, usually its path.
        max_pixels: Width times height above which nothing is decoded.
        least_side: A JPEG is decoded at 1/2, 1/4 or 1/8 size where that leaves its shorter side at least this long and
            divides both sides evenly: an odd one would come out stretched by part of a pixel.

    Returns:
        uint8, (H, W, 3), RGB.

    Raises:
        EmodetError: The bytes are no picture or are cut off.
        TooManyPixelsError: They exceed `max_pixels`.
    """
    if not data:
        raise EmodetError(f"{name}: the file is empty")
    # Pillow's own limit would warn at half of our limit and raise at a value of its own; ours is checked below,
    # before any pixel is decoded.
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise TooManyPixelsError(
                    f"{name}: {width}×{height} pixels are more than the limit of {max_pixels:,}; "
                    "raise max_pixels if the file is to be trusted"
                )
            if least_side is not None and picture.format == "JPEG":
                picture.draft(picture.mode, _reduced(width, height, least_side))
            picture.load()
            # Not `ImageOps.exif_transpose`: it writes the tags back and fails where any of them is damaged.
            turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
            return _to_rgb(picture if turn is None else picture.transpose(turn), wide=picture.format == "PPM")
    except EmodetError:
        raise
    except UnidentifiedImageError:
        raise EmodetError(f"{name}: not a picture ({', '.join(_FORMATS)} are read)") from None
    except Image.DecompressionBombError:
        own = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        limit = f"{max_pixels:,}" if max_pixels <= own else f"{own:,} (PIL.Image.MAX_IMAGE_PIXELS, doubled)"
        raise TooManyPixelsError(f"{name}: more pixels than the limit of {limit}") from None
    except Exception as problem:
        # For files that are damaged inside Pillow raises OSError, ValueError, SyntaxError, struct.error, and more.
        raise EmodetError(f"{name}: damaged or cut off ({problem or type(problem).__name__})") from None


def _reduced(width: int, height: int, least_side: int) -> tuple[int, int]:
    """The size at which a JPEG of this size is decoded."""
    for factor in (8, 4, 2):
        if width % factor == height % factor == 0 and min(width, height) // factor >= least_side:
            return width // factor, height // factor
    return width, height


def _to_rgb(picture: Image.Image, wide: bool) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=np.inf)
        most = values.max(initial=0)
        # 16-bit grey, and PNM, which Pillow widens to it. Other wide files have no agreed range: their own maximum
        # decides whether it is 16 bits, 8 bits, or (floating point) 0 to 1.
        if wide or picture.mode.startswith("I;16") or most > 255:
            scale = 255 / 65535
        else:
            scale = 255.0 if picture.mode == "F" and most <= 1 else 1.0
        grey = np.clip(values * scale, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(ground, rgba)
    return np.array(picture.convert("RGB"), dtype=np.uint8)
