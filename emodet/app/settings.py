"""Settings of the server: models, limits, access."""

import re
from dataclasses import dataclass, field

from emodet.errors import EmodetError

LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
"""Host names of the local machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits per request and for the whole server.

    Attributes:
        image_bytes: Size of an encoded image.
        pixels: Width times height of an image or a video frame.
        video_bytes: Size of an encoded video.
        video_seconds: Duration of a video.
        video_frames: Frames of a video.
        held_bytes: Encoded images in memory, all requests together.
        waiting: Images in the queue; one more is answered with 429.
        videos_waiting: Videos in the queue.
        videos_uploading: Videos being uploaded at the same time.
        videos_kept: Videos whose results are kept; the oldest finished one is deleted for a new one.
        keep_seconds: How long results of a video are kept.
        pause_seconds: Longest pause within an upload.
        upload_rate: Lowest average rate of an upload, in bytes per second, after the first `pause_seconds`.
        decode_seconds: For decoding an image.
        open_seconds: For opening a video and decoding its first frame.
        frame_seconds: For a frame of a video, and for finishing the results.
        recognise_seconds: For a video.
        queue_seconds: For an image in the queue.
        free_bytes: Disk space that uploads leave free.
    """

    image_bytes: int = 20_000_000
    pixels: int = 40_000_000
    video_bytes: int = 2_000_000_000
    video_seconds: float = 3600.0
    video_frames: int = 250_000
    held_bytes: int = 200_000_000
    waiting: int = 16
    videos_waiting: int = 4
    videos_uploading: int = 32
    videos_kept: int = 16
    keep_seconds: float = 3600.0
    pause_seconds: float = 20.0
    upload_rate: int = 4096
    decode_seconds: float = 10.0
    open_seconds: float = 20.0
    frame_seconds: float = 60.0
    recognise_seconds: float = 4 * 3600.0
    queue_seconds: float = 60.0
    free_bytes: int = 500_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise EmodetError(f"{name}={getattr(self, name)}: must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the server.

    Attributes:
        models: Model files, each ``FILE``, ``NAME=FILE``, ``int8`` or ``fp32``; the first is the default. Empty for
            the two shipped ones.
        detector: As in `emodet.inference.detectors.make_detector`; used for requests with ``detector=auto``.
        providers: As in `emodet.onnx_session.PROVIDERS`.
        threads: Threads per ONNX Runtime call; None for one per core.
        workers: Images recognised in parallel.
        token: Required from every request; None for no token.
        hosts: Allowed names in the Host header, without the port; None for any.
        secure: Whether browsers give the page access to the camera: over TLS, or on the local machine.
        tls: Whether the server is reached over TLS; marks the cookie as secure.
        limits: See `Limits`.
    """

    models: tuple[str, ...] = ()
    detector: str = "auto"
    providers: tuple[str, ...] = ("cpu",)
    threads: int | None = None
    workers: int = 2
    token: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    secure: bool = True
    tls: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise EmodetError(f"workers={self.workers}: must be at least 1")
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{12,}", self.token):
            raise EmodetError("the token must have 12 or more characters out of letters, digits and -._~")
