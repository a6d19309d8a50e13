"""Settings of the server: models, limits, access."""

import re
from dataclasses import dataclass, field

from emodet.errors import EmodetError

LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
"""Host names of the local machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits per request and for the whole server."""

    image_bytes: int = 20_000_000  # of an encoded image
    pixels: int = 40_000_000  # width times height of an image or a video frame
    video_bytes: int = 2_000_000_000  # of an encoded video
    video_seconds: float = 3600.0  # duration of a video
    video_frames: int = 250_000  # of a video
    held_bytes: int = 200_000_000  # encoded images in memory, all requests together
    waiting: int = 16  # images in the queue; the response for one more is 429
    videos_waiting: int = 4  # in the queue
    videos_uploading: int = 32  # at the same time
    videos_kept: int = 16  # videos with results; a new one replaces the oldest finished one
    keep_seconds: float = 3600.0  # time until results of a video are deleted
    pause_seconds: float = 20.0  # longest pause within an upload
    upload_rate: int = 4096  # minimum average rate of an upload in bytes per second, after the first `pause_seconds`
    decode_seconds: float = 10.0  # for decoding an image
    open_seconds: float = 20.0  # for opening a video and decoding its first frame
    frame_seconds: float = 60.0  # for a frame of a video, and for finishing the results
    recognise_seconds: float = 4 * 3600.0  # for a video


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the server."""

    models: tuple[str, ...] = ()  # each FILE, NAME=FILE or the name of a shipped one; the first is the default
    detector: str = "auto"  # as in `make_detector`; used for requests with detector=auto
    providers: tuple[str, ...] = ("cpu",)  # of `emodet.onnx_session.PROVIDERS`
    threads: int | None = None  # per call of ONNX Runtime; None for one per core
    workers: int = 2  # images recognised in parallel
    token: str | None = None  # required from every request; None for no token
    hosts: frozenset[str] | None = LOOPBACK  # allowed names in the Host header, without the port; None for any
    secure: bool = True  # whether browsers allow the page to use the camera: over TLS, or on the local machine
    tls: bool = False  # whether the cookie is marked as secure
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{12,}", self.token):
            raise EmodetError("--token or EMODET_TOKEN: expected 12 or more letters, digits and -._~")
