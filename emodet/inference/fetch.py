"""Images behind web addresses."""

import re
import time

from emodet.errors import EmodetError

MAX_BYTES = 256 << 20
"""Limit of an encoded image."""

_TIMEOUT_S, _MAX_TIME_S = 10.0, 60.0
_IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|....ftyp(avif|hei|mif|msf)|\0\0\0\x0cjP", re.DOTALL
)


class NoImageError(EmodetError):
    """An address cannot be reached, or has something else than an image."""


def is_web_address(text: object) -> bool:
    """Whether this is an http or https address."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def fetch_image(url: str, name: str) -> bytes:
    """Download an image within 256 MB and a minute. Content type and first bytes decide, not the suffix.

    Args:
        url: An http or https address; ``user:password@`` in it is sent as basic authentication.
        name: Name for messages.

    Raises:
        NoImageError: It cannot be reached, or is no image.
        EmodetError: It exceeds the limits.
    """
    # Deferred: a third of the import time of a recognizer.
    import base64
    import urllib.parse
    import urllib.request
    from http.client import HTTPException

    if not is_web_address(url):
        raise NoImageError(f"{name}: not an http or https address")
    parts = urllib.parse.urlsplit(url)
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
            kind = response.headers.get_content_type()
            if not (kind.startswith("image/") or _IMAGE_STARTS.match(data)):
                raise NoImageError(f"{name}: {kind}, not an image; name the address of the picture itself")
            while block := response.read1(1 << 20):
                data += block
                if len(data) > MAX_BYTES or time.monotonic() - started > _MAX_TIME_S:
                    raise EmodetError(f"{name}: the image exceeds 256 MB or a minute; download it and name the file")
            return bytes(data)
    except (OSError, ValueError, HTTPException) as problem:
        raise NoImageError(f"{name}: could not be fetched ({problem}); download it and name the file") from None
