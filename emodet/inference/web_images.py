"""Images by web address."""

import base64
import re
import time
import urllib.parse
import urllib.request
from http.client import HTTPException

from emodet.errors import EmodetError

__all__ = ["MAX_BYTES", "fetch_image"]

_IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|....ftyp(avif|hei|mif|msf)|\0\0\0\x0cjP", re.DOTALL
)
MAX_BYTES = 256 << 20
"""Size limit of an encoded image."""

_TIMEOUT_S, _MAX_TIME_S = 10.0, 60.0


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
                if len(data) > MAX_BYTES or time.monotonic() - started > _MAX_TIME_S:
                    raise EmodetError(f"{name}: the image exceeds 256 MB or a minute; download it and name the file")
            return bytes(data)
    except (OSError, ValueError, HTTPException):
        return None  # FFmpeg reports why it cannot be opened
