"""Reading and decoding of the images among the inputs, from files, pipes and web addresses."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

from emodet.arrays import UInt8
from emodet.errors import EmodetError, os_errors
from emodet.images import MAX_BYTES, MAX_PIXELS, decode_rgb
from emodet.inference.sources import Source, is_video, is_web_address
from emodet.inference.summary import SourceSummary

MIN_SIDE = 8  # pixels; smaller images cannot show a face

_TIMEOUT_S, _MAX_TIME_S = 10.0, 60.0  # for downloads
_IMAGE_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|....ftyp(avif|hei|mif|msf)|P[1-6]\s|"
    rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    re.DOTALL,
)


class Opened(NamedTuple):
    """An input with its decoded image, uint8 (H, W, 3) RGB; None for a video, or if `counts` contains an error."""

    source: Source
    counts: SourceSummary
    image_rgb: UInt8 | None


class NoImageError(EmodetError):
    """An address does not return an image; it can still be a stream."""


def open_images(sources: Iterable[Source], max_pixels: int = MAX_PIXELS) -> Generator[Opened, None, None]:
    """Decode the images among the inputs, one at a time."""
    for source in sources:
        counts, image = SourceSummary(source.name), None
        name = "standard input" if source.address == "-" else source.name
        with counts.errors():
            if (data := _encoded(source, name)) is not None:
                image = _decoded(data, name, counts.notes, max_pixels)
        yield Opened(source, counts, image)


def _encoded(source: Source, name: str) -> bytes | None:
    """Return the bytes of an image file; None for a video."""
    if source.error is not None:
        raise EmodetError(source.error)
    if isinstance(source.address, bytes):
        return source.address
    if source.kind == "video" or isinstance(source.address, int):
        return None
    if source.kind == "live":
        with contextlib.suppress(NoImageError):
            return fetch_image(str(source.address), name)
        return None  # perhaps a stream: if FFmpeg cannot open it either, its error is reported
    with os_errors(f"{name}: could not be read"):
        if source.address == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(source.address).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    if source.kind == "pipe" and is_video(data[:16]):
        raise EmodetError(f"{name}: a video cannot be read from a pipe; save it as a file and name the file")
    return data


def _decoded(data: bytes, name: str, notes: list[str], max_pixels: int) -> UInt8:
    logger = logging.getLogger("emodet.images")

    def note(record: logging.LogRecord) -> bool:
        """Collect warnings of the decoder for the summary instead of logging them."""
        notes.append(record.getMessage().removeprefix(f"{name}: "))
        return False

    logger.addFilter(note)
    logger.setLevel(logging.WARNING)  # even if only errors are printed
    try:
        image = decode_rgb(data, name=name, max_pixels=max_pixels)
    finally:
        logger.removeFilter(note)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise EmodetError(f"{name}: {width}×{height} pixels are too few for a face (at least {MIN_SIDE} per side)")
    return image


def fetch_image(url: str, name: str) -> bytes:
    """Download an image of at most 256 MB in at most a minute. It is recognised by content type and first bytes.

    ``user:password@`` in the http or https address is sent as basic authentication; `name` is for messages. Raises
    `NoImageError` if the response is not an image, and `EmodetError` if the address cannot be reached.
    """
    # Deferred: a third of the import time of a recognizer.
    import ssl
    import urllib.error
    import urllib.parse
    import urllib.request
    from http.client import HTTPException

    if not is_web_address(url):
        raise NoImageError(f"{name}: not an http or https address")
    with os_errors(f"{name}: not an address", "", ValueError):
        parts = urllib.parse.urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    address = urllib.parse.urlunsplit(parts._replace(netloc=host, fragment=""))
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    if at:  # send the password to this host only, not to a host that it redirects to
        user, _, password = map(urllib.parse.unquote, login.partition(":"))
        passwords.add_password(None, f"{parts.scheme}://{host}/", user, password, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    opener.addheaders = [("User-Agent", "emodet")]
    started = time.monotonic()
    try:
        with opener.open(urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]"), timeout=_TIMEOUT_S) as response:
            data = bytearray(response.read(16))
            kind = response.headers.get_content_type()
            if not (kind.startswith("image/") or _IMAGE_STARTS.match(data)):
                raise NoImageError(f"{name}: {kind}, not an image; use the address of the picture itself")
            while block := response.read1(1 << 20):
                data += block
                if len(data) > MAX_BYTES or time.monotonic() - started > _MAX_TIME_S:
                    raise EmodetError(f"{name}: the image exceeds 256 MB or a minute; download it and name the file")
            return bytes(data)
    except (OSError, ValueError, HTTPException) as problem:
        reason = problem.reason if type(problem) is urllib.error.URLError else problem
        # FFmpeg may succeed despite an invalid certificate or an HTTP status, but not with an unknown host.
        kind = NoImageError if reason is problem or isinstance(reason, ssl.SSLError) else EmodetError
        raise kind(f"{name}: could not be fetched ({reason}); download it and name the file") from None
