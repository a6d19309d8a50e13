"""Image decoding to RGB arrays, the same in data preparation and recognition.

Pillow is the decoder: it reads an image's size before its pixels, reports truncated files, and handles EXIF rotation,
palettes and CMYK. For JPEGs that need none of these, OpenCV is twice as fast (``quick=True``).
"""

import functools
import io
import logging
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from emodet.arrays import UInt8
from emodet.errors import EmodetError, os_errors
from emodet.installation import install

ImageLike = str | os.PathLike[str] | bytes | Image.Image | UInt8
"""An image file's path or bytes, a Pillow image, or a uint8 array (H, W, 3) in RGB order."""

MAX_PIXELS = 64_000_000
"""Default maximum of width times height."""

MAX_BYTES = 256 << 20
"""Maximum size of an encoded image, in bytes."""

IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl"),
    ]
)
"""File name suffixes of images, in lower case. Includes formats that `decode_rgb` cannot read, so that such an image is
an error and not skipped."""

_FORMATS = ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]
_FORMATS += [kind for kind, feature in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if features.check(feature)]
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# A scan of a progressive JPEG costs a pass over all pixels but only a few bytes. Encoders write 3 to 20 scans.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 1_500_000_000

# Markers of JPEG (ITU-T T.81, table B.1). Harmless: tables, restart interval, comment, and application segments other
# than EXIF, XMP (1) and Adobe (14).
_END, _START_OF_SCAN, _START_OF_FRAME = 0xD9, 0xDA, (0xC0, 0xC1, 0xC2)
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)} - {0xE1, 0xEE})
_PROGRESSIVE, _ALL = 0xC2, (1 << 64) - 1
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_EOI = b"\xff\xd9"
_ZEROS = bytes(64)
_PHOTOMETRIC = 262  # tag of TIFF
_NOISE = bytes(range(250, 0, -1)) * 2

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_log = logging.getLogger(__name__)


class TooManyPixelsError(EmodetError):
    """An image has more pixels than the limit; no pixels were decoded."""


def load_rgb(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> UInt8:
    """Convert a path, bytes, Pillow image or array to uint8 (H, W, 3) RGB; an array is returned as it is.

    Raises `EmodetError` if the file cannot be read or decoded, or the array is not uint8 (H, W, 3).
    """
    if isinstance(image, str | os.PathLike):
        with os_errors(f"image {os.fspath(image)}: cannot be read", "", ValueError), Path(image).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return decode_rgb(data, name=os.fspath(image), max_pixels=max_pixels)
    if isinstance(image, bytes):
        return decode_rgb(image, max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        with os_errors("image: damaged or cut off", "", ValueError, SyntaxError):
            return _to_rgb(_upright(image))
    array = "a uint8 array (H, W, 3) in RGB order"
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise EmodetError(f"image has the type {kind}: expected a path, bytes, a Pillow image, or {array}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise EmodetError(f"image has shape {image.shape} and dtype {image.dtype}: expected {array}")
    return image


def decode_rgb(
    data: bytes,
    *,
    name: str = "image",
    max_pixels: int = MAX_PIXELS,
    least_side: int | None = None,
    quick: bool = False,
) -> UInt8:
    """Decode an image file to uint8 (H, W, 3) RGB.

    Grey, palette, CMYK and 16-bit images are converted; transparency is composited on white; EXIF rotation is applied.
    Only the first image of an animation or multi-page file is read, with a logged warning. A JPEG that lacks only its
    end marker is read, with a logged warning.

    Args:
        data: JPEG, PNG, BMP, TIFF, WebP, GIF, PNM, AVIF or JPEG 2000; HEIC with the extra ``heic``.
        name: Name for messages, usually the path.
        max_pixels: Maximum of width times height.
        least_side: A JPEG is decoded at 1/2, 1/4 or 1/8 size if its shorter side stays at least this long and both
            sides are divisible: otherwise it would be stretched by part of a pixel.
        quick: Whether OpenCV decodes JPEGs without EXIF, XMP or Adobe segments: the same pixels in half the time, but
            OpenCV prints problems inside a file to standard error without the file's name.

    Raises:
        EmodetError: The bytes are not an image, are truncated or damaged, or would take too long to decode;
            `TooManyPixelsError` if the image exceeds `max_pixels`.
    """
    if not data:
        raise EmodetError(f"{name}: the file is empty")
    if len(data) > MAX_BYTES:
        raise EmodetError(f"{name}: larger than {MAX_BYTES >> 20} MB, the limit for an encoded image")
    if data[:2] == b"\xff\xd8":
        return _decode_jpeg(data, name, max_pixels, least_side, quick)
    if data[:2] == b"BM" and int.from_bytes(data[30:34], "little") in (1, 2):
        # Pillow decodes these in Python: a file of 1 kB can take seconds.
        raise EmodetError(f"{name}: run-length encoded BMP is not supported; save it as PNG")
    return _decode(data, name, max_pixels)


@dataclass(slots=True)
class _Jpeg:
    """Structure of a JPEG file."""

    size: tuple[int, int] | None = None
    plain: bool = True  # grey or YCbCr, 8 bits, no segments that change how it is shown, ending with its end marker
    scans: int = 0
    data: int = 0  # offset of the last scan's entropy-coded data
    end: int | None = None  # offset of the end marker
    missing: dict[int, int] = field(default_factory=dict)  # by component: a bit for each incomplete coefficient


def _structure(data: bytes) -> _Jpeg:
    jpeg, at = _Jpeg(), 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _END and jpeg.scans <= _MAX_SCANS:
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _START_OF_SCAN:
            jpeg.scans, jpeg.data = jpeg.scans + 1, at + 2 + length
            _finish(jpeg.missing, data[at + 4 : jpeg.data])
            following = _MARKER.search(data, jpeg.data)
            at = following.start() if following else len(data)
            continue
        if marker in _START_OF_FRAME and at + 10 <= len(data):
            # Bits, height, width, components; 3 bytes for each component.
            bits, components = data[at + 4], data[at + 9]
            jpeg.plain &= jpeg.size is None and bits == 8 and components in (1, 3) and length == 8 + 3 * components
            jpeg.size = int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
            # Sequential scans contain all coefficients at once, whatever their header states.
            jpeg.missing = dict.fromkeys(data[at + 10 : at + 2 + length : 3], _ALL if marker == _PROGRESSIVE else 1)
        jpeg.plain &= marker in _HARMLESS or marker in _START_OF_FRAME
        at += 2 + length if length > 2 else 4
    if data[at : at + 2] == _EOI:
        jpeg.end = at
    jpeg.plain &= bool(jpeg.scans) and jpeg.size is not None and jpeg.end == len(data) - 2
    return jpeg


def _finish(missing: dict[int, int], scan: bytes) -> None:
    """Remove the coefficients that a scan with this header completes."""
    if len(scan) >= 6 and not scan[-1] & 15:
        for component in scan[1:-3:2]:
            missing[component] = missing.get(component, 0) & ~((2 << scan[-2]) - (1 << scan[-3]))


def _decode_jpeg(data: bytes, name: str, max_pixels: int, least_side: int | None, quick: bool) -> UInt8:
    jpeg = _structure(data)
    area = jpeg.size[0] * jpeg.size[1] if jpeg.size else 0
    if jpeg.scans > _MAX_SCANS or (area <= max_pixels and jpeg.scans * area > max(_MAX_SCANNED_PIXELS, max_pixels)):
        raise EmodetError(f"{name}: a JPEG of {jpeg.scans} or more scans would take too long to decode")
    pixels = _decode_plain_jpeg(data, jpeg, max_pixels, least_side) if quick else None
    if pixels is None:
        whole = data if jpeg.end is not None or not jpeg.scans else data + _EOI
        pixels = _decode(whole, name, max_pixels, least_side)
    # Decoders fill missing data with grey, without an error, and continue after damaged data.
    zeros = jpeg.scans == 1 and data.find(_ZEROS, jpeg.data, jpeg.end) >= 0
    if any(jpeg.missing.values()):
        raise EmodetError(f"{name}: damaged or cut off (a scan is missing)")
    if zeros or jpeg.end is None or any(_is_grey(pixels, y, x) for y in (0, -1) for x in (0, -1)):
        _check_data(data, jpeg, name, max_pixels, zeros)
    if jpeg.end is None:
        _log.warning("%s: the end marker is missing; the image is complete", name)
    return pixels


def _check_data(data: bytes, jpeg: _Jpeg, name: str, max_pixels: int, zeros: bool) -> None:
    """Raise `EmodetError` for a JPEG whose entropy-coded data and pixels do not end together.

    If the data end early, appended data change the pixels. If zeros replaced data, the pixels can end early: then
    removing data does not change them.
    """

    def decoded(part: bytes) -> UInt8:
        return _decode(part + _EOI, name, max_pixels, upright=False)

    end = len(data) if jpeg.end is None else jpeg.end
    complete = data[:end].rstrip(b"\xff")  # 0xFF can be half of a stuffed byte and would start a marker
    restarts = _RESTART.findall(data, jpeg.data, end)
    restart = b"\xff" + bytes([0xD0 + (restarts[-1][1] + 1) % 8 if restarts else 0xD0])
    exact, more = decoded(complete), decoded(complete + _NOISE + restart + _NOISE)
    if not np.array_equal(exact, more):
        raise EmodetError(f"{name}: damaged or cut off (its data end before the last pixel)")
    if zeros and not _is_grey(exact, -1, -1) and np.array_equal(exact, decoded(data[: end - len(_ZEROS)])):
        raise EmodetError(f"{name}: damaged (zeros in its data)")


def _decode(data: bytes, name: str, max_pixels: int, least_side: int | None = None, *, upright: bool = True) -> UInt8:
    # Pillow's own limit differs (and warns at half its value); ours is checked before any pixel is decoded.
    try:
        with Image.open(io.BytesIO(data), formats=[*_FORMATS, *_heif()]) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                limit = f"the limit of {max_pixels:,}; raise max_pixels if you trust the file"
                raise TooManyPixelsError(f"{name}: {width}×{height} pixels exceed {limit}")
            if (factor := _reduction(width, height, least_side)) > 1:
                picture.draft(picture.mode, (width // factor, height // factor))
            picture.load()
            if getattr(picture, "is_animated", False):
                _log.warning("%s: contains several images; only the first is read", name)
            wide = picture.format == "PPM" and picture.mode != "F"
            return _to_rgb(_upright(picture) if upright else picture, wide)
    except EmodetError:
        raise
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            raise EmodetError(f"{name}: HEIC is read with the package pillow-heif: {install('heic')}") from None
        kinds = f"not an image, cut off, or of a kind that is not read ({', '.join(_FORMATS)} are)"
        raise EmodetError(f"{name}: {kinds}; save it as PNG") from None
    except Image.DecompressionBombError:
        limit = f"the limit of {max_pixels:,}, or twice PIL.Image.MAX_IMAGE_PIXELS"
        raise TooManyPixelsError(f"{name}: more pixels than {limit}") from None
    except Exception as problem:  # Pillow raises OSError, ValueError, SyntaxError, struct.error and more
        raise EmodetError(f"{name}: damaged or cut off ({problem or type(problem).__name__})") from None


def raise_pillow_limit(pixels: int) -> None:
    """Raise Pillow's own limit for this process to `pixels`, so that the `max_pixels` of `decode_rgb` applies."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, pixels)


def reduced(image_rgb: UInt8, longest_side: int) -> UInt8:
    """Shrink an image, uint8 (H, W, 3), to `longest_side` pixels; a smaller one is returned as the same array."""
    height, width = image_rgb.shape[:2]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return image_rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Averaging by exactly 2 is ten times as fast as by other factors.
    while min(image_rgb.shape[1] // size[0], image_rgb.shape[0] // size[1]) >= 2:
        height, width = image_rgb.shape[0] // 2, image_rgb.shape[1] // 2
        even = image_rgb[: 2 * height, : 2 * width]
        image_rgb = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _is_grey(image: UInt8, y: int, x: int) -> bool:
    # Unrolled: a loop takes 10 µs, which slows packing down.
    item = image.item
    return abs(item(y, x, 0) - 128) <= 2 and abs(item(y, x, 1) - 128) <= 2 and abs(item(y, x, 2) - 128) <= 2


@functools.cache
def _heif() -> list[str]:
    try:
        import pillow_heif
    except ImportError:
        return []
    pillow_heif.register_heif_opener()
    return ["HEIF"]


def _reduction(width: int, height: int, least_side: int | None) -> int:
    """Return the factor, 1, 2, 4 or 8, by which a JPEG is reduced while decoding."""
    if least_side is not None:
        for factor in (8, 4, 2):
            if width % factor == height % factor == 0 and min(width, height) // factor >= least_side:
                return factor
    return 1


def _decode_plain_jpeg(data: bytes, jpeg: _Jpeg, max_pixels: int, least_side: int | None) -> UInt8 | None:
    """Decode a plain JPEG with OpenCV; None if the file is not plain, too large or damaged."""
    if not jpeg.plain or jpeg.size is None or jpeg.size[0] * jpeg.size[1] > max_pixels:
        return None
    width, height = jpeg.size
    factor = _reduction(width, height, least_side)
    try:
        flags = _REDUCED.get(factor, cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if image is None or image.shape != (height // factor, width // factor, 3):
        return None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), dtype=np.uint8)


def _upright(picture: Image.Image) -> Image.Image:
    # Not `ImageOps.exif_transpose`, which writes the tags back and fails if any of them is damaged.
    turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image, wide: bool = False) -> UInt8:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=np.inf)
        maximum = values.max(initial=0)
        # 16-bit grey, and PNM, which Pillow converts to it. Other wide formats have no standard range: the maximum
        # decides between 16 bits, 8 bits and (floating point) 0 to 1.
        if wide or picture.mode.startswith("I;16") or maximum > 255:
            scale = 255 / 65535
        else:
            scale = 255.0 if picture.mode == "F" and maximum <= 1 else 1.0
        if picture.mode.startswith("I;16") and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            values = 65535 - values  # white is 0: Pillow inverts 8 bits only
        grey = np.clip(values * scale, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        background = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(background, rgba)
    return np.array(picture.convert("RGB"), dtype=np.uint8)
