"""Images by web address, and what to tell the user about an image file."""

import base64
import io
import re
import time
import urllib.parse
import urllib.request
from http.client import HTTPException

from PIL import Image

from emodet.errors import EmodetError

__all__ = ["fetch_image", "image_notes"]

_IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|....ftyp(avif|hei|mif|msf)|\0\0\0\x0cjP", re.DOTALL
)
_TIMEOUT_S, _MAX_TIME_S, _MAX_BYTES = 10.0, 60.0, 256 << 20


def fetch_image(url: str, name: str) -> bytes | None:
    """Download the image behind an HTTP address; None if it is no image or cannot be reached, as a stream may be.

    Content type and first bytes decide, not the suffix.

    Raises:
        EmodetError: The image is larger than 256 MB or takes longer than a minute.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        return None
    headers = {"User-Agent": "emodet"}
    login, at, host = parts.netloc.rpartition("@")
    if at:
        headers["Authorization"] = "Basic " + base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    address = urllib.parse.urlunsplit(parts._replace(netloc=host, fragment=""))
    started = time.monotonic()
    try:
        request = urllib.request.Request(urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            data = bytearray(response.read(16))
            if not (response.headers.get_content_type().startswith("image/") or _IMAGE_STARTS.match(data)):
                return None
            while block := response.read1(1 << 20):
                data += block
                if len(data) > _MAX_BYTES or time.monotonic() - started > _MAX_TIME_S:
                    raise EmodetError(f"{name}: the image exceeds 256 MB or a minute; download it and name the file")
            return bytes(data)
    except (OSError, ValueError, HTTPException):
        return None  # FFmpeg reports why it cannot be opened


def image_notes(data: bytes) -> tuple[str, ...]:
    """What the user should know about an image that can be decoded."""
    notes = []
    if data.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        notes.append("the end marker of this JPEG is missing")
    if data.startswith((b"GIF8", b"RIFF", b"\x89PNG")):
        try:
            with Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "PNG")) as picture:
                frames = int(getattr(picture, "n_frames", 1))
        except Exception:  # decoding has succeeded: only its animation is damaged
            frames = 1
        if frames > 1:
            notes.append(f"an animation: only the first of its {frames} frames is recognised")
    return tuple(notes)
