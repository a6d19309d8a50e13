"""From encoded bytes to RGB pixels: the one decoder, for preparing data and for recognising.

Pillow decodes: it reads a picture's size before its pixels (so that a decompression bomb costs nothing), says when a
file is cut off instead of filling the rest with grey, and knows EXIF rotation, palettes and CMYK. Where many pictures
are decoded, OpenCV, which takes half its time, may decode those JPEGs in which there is nothing of all this.
"""

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from emodet.errors import EmodetError

__all__ = ["MAX_PIXELS", "TooManyPixelsError", "decode_rgb"]

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused unless the caller raises the limit."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")

# Markers of JPEG (ITU-T T.81, table B.1): baseline, extended and progressive frames; tables, restart interval and
# comment, and the segments of applications but EXIF's, XMP's (1) and Adobe's (14).
_START_OF_SCAN = 0xDA
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)} - {0xE1, 0xEE})
_FLAGS = {
    1: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}

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
    data: bytes,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
    quick: bool = False,
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
        quick: Let OpenCV decode those JPEGs in which there is nothing but a picture. The pixels are the same, in half
            the time; but what is wrong inside a file is written to standard error, and names no file.

    Returns:
        uint8, (H, W, 3), RGB.

    Raises:
        EmodetError: The bytes are no picture or are cut off.
        TooManyPixelsError: They exceed `max_pixels`.
    """
    if not data:
        raise EmodetError(f"{name}: the file is empty")
    if quick and (plain := _decode_plain_jpeg(data, max_pixels, least_side)) is not None:
        return plain
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
                factor = _reduction(width, height, least_side)
                picture.draft(picture.mode, (width // factor, height // factor))
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


def _reduction(width: int, height: int, least_side: int | None) -> int:
    """By how much a JPEG of this size is decoded smaller: 1, 2, 4 or 8."""
    if least_side is not None:
        for factor in (8, 4, 2):
            if width % factor == height % factor == 0 and min(width, height) // factor >= least_side:
                return factor
    return 1


def _decode_plain_jpeg(data: bytes, max_pixels: int, least_side: int | None) -> npt.NDArray[np.uint8] | None:
    """Pixels of a JPEG that holds nothing but a picture; None of anything else, also of a damaged one."""
    size = _size_of_plain_jpeg(data)
    if size is None or size[0] * size[1] > max_pixels:
        return None
    width, height = size
    factor = _reduction(width, height, least_side)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor])
    except cv2.error:
        return None
    if image is None or image.shape != (height // factor, width // factor, 3):
        return None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), dtype=np.uint8)


def _size_of_plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Width and height of a grey or YCbCr JPEG that ends where it should and has no EXIF, XMP or Adobe segment."""
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    size, place = None, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker == _START_OF_SCAN:
            return size
        if marker in _START_OF_FRAME:
            # Bits, height, width, components; each component's own 3 bytes follow.
            bits, components = data[place + 4], data[place + 9]
            if size is not None or bits != 8 or components not in (1, 3) or length != 8 + 3 * components:
                return None
            size = int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        elif marker not in _HARMLESS:
            return None
        place += 2 + length
    return None


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
