"""What a server may be told: models, limits, who may reach it. Plain data."""

from dataclasses import dataclass, field

from emodet.errors import EmodetError

__all__ = ["LOOPBACK", "Limits", "Settings"]

LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
"""Names under which only this machine reaches a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken from a request, and kept.

    Attributes:
        image_bytes: Of an encoded picture.
        pixels: Width times height of a picture, or of a frame.
        video_bytes: Of an encoded video.
        video_seconds: Of a video's duration.
        video_frames: Of a video.
        held_bytes: Of all encoded pictures together that are being uploaded or wait.
        waiting: Pictures that wait for a worker; one more is refused with 429.
        videos_waiting: Videos that are being uploaded or wait.
        videos_kept: Videos whose results are kept; the oldest that is finished makes room.
        keep_seconds: How long results of videos are kept.
        pause_seconds: Between two pieces of an upload.
        answer_seconds: From a whole upload to its answer.
        free_bytes: Of the disk, which uploads leave free.
    """

    image_bytes: int = 20_000_000
    pixels: int = 40_000_000
    video_bytes: int = 2_000_000_000
    video_seconds: float = 3600.0
    video_frames: int = 250_000
    held_bytes: int = 200_000_000
    waiting: int = 16
    videos_waiting: int = 4
    videos_kept: int = 16
    keep_seconds: float = 3600.0
    pause_seconds: float = 20.0
    answer_seconds: float = 60.0
    free_bytes: int = 500_000_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < (0 if name == "free_bytes" else 1):
                raise EmodetError(f"{name}={getattr(self, name)}: a number from 1 is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a server is set up.

    Attributes:
        models: Model files, each ``FILE``, ``NAME=FILE``, ``int8`` or ``fp32``; the first is the default. Empty for
            the two that come with the package.
        detector: As in `emodet.inference.detectors.make_detector`; requests that say ``auto`` get this one.
        providers: As in `emodet.modelfile.PROVIDERS`.
        threads: Of each call of ONNX Runtime; None for one per core.
        workers: Pictures that are recognised at the same time.
        token: What requests must show, or None.
        hosts: The names under which the server may be called (the header ``Host``, without the port); None for any.
        secure: Whether browsers will give the page the camera: over TLS, or on this machine.
        tls: Whether it is reached over TLS, so that the cookie is marked.
        log: Whether each request is logged, without its query.
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
    log: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise EmodetError(f"workers={self.workers}: one or more are needed")
        if self.token is not None and (len(self.token) < 12 or not _plain(self.token)):
            raise EmodetError(
                "the token needs 12 or more letters, digits and -._~ (it travels in addresses and cookies)"
            )


def _plain(text: str) -> bool:
    return text.isascii() and all(letter.isalnum() or letter in "-._~" for letter in text)
