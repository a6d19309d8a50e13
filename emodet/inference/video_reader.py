"""Video reading with PyAV: upright frames with square pixels, at the times at which players show them."""

import itertools
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from emodet.arrays import UInt8
from emodet.cpu import available_cores
from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS
from emodet.inference.sources import hide_password

# PyAV is imported where it is used: pictures do not need it.
if TYPE_CHECKING:
    import av
    from av.container import InputContainer


# Containers that contain their frames. Playlists (HLS, DASH, ffconcat) name other files for FFmpeg to open: an
# untrusted playlist could reveal files of this machine.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,dv,ivf,m4v,h264,hevc,mjpeg"
)
_NETWORK = "http,https,httpproxy,tls,tcp,udp,rtp,srtp,rtsp,rtsps,rtmp,rtmps,rtmpt,crypto"
_TIMEOUT_S = 10.0
FALLBACK_RATE, MAX_RATE = 25.0, 1000.0  # frames per second
_MISSING_SHARE, _MISSING_FRAMES = 0.02, 2  # missing frames up to which a file does not count as cut off
_MAX_READ_ERRORS = 100
# Lost frames leave a gap in the time stamps, but so does a variable frame rate. A gap of this length counts as damage
# if the last error was at most this many packets ago, or if as many packets decoded to no frame.
_GAP_FRAMES, _AFTER_ERROR_PACKETS = 2, 64
_VARIABLE = 0.8
_BT709, _UNSPECIFIED, _HD_HEIGHT = 1, 2, 720
_ASF_FILE_PROPERTIES, _ASF_BYTES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365"), 1 << 16
_TS_PACKETS = (188, 192, 204)  # bytes
_SKIPPED_BYTES = 1000  # a larger gap between packets of a Matroska file is damage that FFmpeg skipped silently


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: Number of the frame from 0; skipped frames count too.
        time_s: Seconds since the start of the video, or since the first frame of a live source.
        image_rgb: uint8, (H, W, 3), RGB.
        taken_s: Value of `time.perf_counter` when the frame was decoded.
    """

    index: int
    time_s: float
    image_rgb: UInt8
    taken_s: float


class VideoReader(AbstractContextManager["VideoReader", None]):
    """A video file or its URL; a context manager. Iteration yields every frame once.

    Rotation, mirroring and the pixel aspect ratio are applied. Damaged frames are skipped and counted.

    Attributes:
        name: Name for messages, without a password.
        frame_rate: Average frames per second; 25 if the file does not contain it.
        frame_count: Expected number of frames; 0 if unknown.
        duration_s: Duration in seconds; None if unknown.
        has_end: Whether it is a file, possibly at a web address, and not a live stream.
        size: Width and height in pixels, as displayed.
        start_s: Time stamp in the file that corresponds to 0 s, in seconds.
        damaged: Number of frames so far that could not be decoded, or are missing after an error.
        partly_damaged: Number of frames so far that were decoded with errors.
        dropped: 0; see `LiveVideo`.
    """

    def __init__(self, address: Path | str, *, max_pixels: int | None = MAX_PIXELS) -> None:
        """Open the video and decode its first frame.

        Raises `EmodetError` if it is missing, no video, a playlist, or its frames exceed `max_pixels` (None: no limit).
        """
        self.address, self.name = address, hide_password(str(address))
        self._max_pixels = max_pixels
        self._container = open_container(address, max_pixels=max_pixels)
        try:
            self._open()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        from av.stream import Disposition
        from av.video.reformatter import VideoReformatter

        container = self._container
        self._stream = stream = cast(Any, container.streams.best("video"))
        if stream is None or stream.disposition & Disposition.attached_pic:  # cover art
            raise EmodetError(f"{self.name}: there is no video track in this file")
        if stream.codec_context is None:
            raise EmodetError(f"{self.name}: cut off before its first frame, or its codec is not supported")
        # Frame threads would delay the frames of a live stream.
        stream.thread_type = "SLICE" if "://" in str(self.address) else "AUTO"
        stream.codec_context.thread_count = min(4, available_cores())
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.frame_rate = rate if 0 < rate <= MAX_RATE else FALLBACK_RATE
        # AVI has no presentation times; those that FFmpeg generates for B-frames are out of order.
        self._by_dts = container.format.name == "avi" and stream.codec_context.has_b_frames
        self._is_avi, self._is_matroska = container.format.name == "avi", "matroska" in container.format.name
        self.start_s = self._start_s()
        self.duration_s = container.duration / 1e6 if container.duration else None
        if self.duration_s and self._is_matroska and 0 < self.start_s < self.duration_s:
            self.duration_s -= self.start_s  # many muxers store the last time stamp as the duration
        self.has_end = bool(container.duration) or (container.size > 0 and container.format.name != "mpjpeg")
        self._short = "://" not in str(self.address) and _is_short(Path(self.address), container.format.name)
        # Stored here, because a stream must not be used after its container is closed.
        self._ratio = float(stream.sample_aspect_ratio or 1)
        self._stored_frames, self._video_end_s = int(stream.frames), None
        if stream.duration is not None and stream.time_base is not None:
            self._video_end_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        self.frame_count = self._stored_frames or round((self.duration_s or 0) * self.frame_rate)
        self.damaged = self.partly_damaged = self.dropped = 0
        self._packets = self._shown = self._missing = self._gaps = 0
        self._gave_up = False
        self._next_byte = float("inf")
        self._error_at = float("-inf")  # number of packets read before the last error
        self._read_s = self._video_read_s = float("-inf")
        self._last_s: float | None = None
        self._shift_s = 0.0
        self._check_pixels(stream.codec_context.width, stream.codec_context.height)
        self._reformatter = VideoReformatter()
        self._decoded: Iterator[av.VideoFrame] = self._decode()
        if (first := next(self._decoded, None)) is None:
            way_out = "; download it and name the file" if "://" in str(self.address) else ""
            raise EmodetError(f"{self.name}: no frame of this video can be decoded{way_out}")
        self.size: tuple[int, int] = self._upright(first).shape[1::-1]
        self._decoded = itertools.chain([first], self._decoded)

    def __iter__(self) -> Generator[Frame, None, None]:
        return self.frames()

    def frames(self, every: int = 1) -> Generator[Frame, None, None]:
        """Yield every `every`-th frame from the first on; at the end raise `EmodetError` if the file is cut off."""
        index = -1
        try:
            for index, decoded in enumerate(self._decoded):
                time_s = self._time_s(decoded)
                if index % every == 0:
                    yield Frame(index, time_s, self._upright(decoded), time.perf_counter())
            self._count_missing(self._video_read_s - self.start_s + self._shift_s)
            self.damaged = max(self.damaged, min(self._packets - index - 1, self._gaps))
        finally:
            self.close()
        if self._cut_off():
            of = f" of {self.frame_count}" if self.frame_count > index + 1 else ""
            raise EmodetError(f"{self.name}: the file ends early, after {index + 1}{of} frames, which were recognised")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode(self) -> Iterator["av.VideoFrame"]:
        import av

        for _ in range(_MAX_READ_ERRORS):
            try:
                for packet in self._container.demux():
                    yield from self._decode_packet(packet)
                return
            except av.FFmpegError:  # damaged container: FFmpeg continues with the next packet
                self._error_at = self._packets
        self._gave_up = True

    def _decode_packet(self, packet: Any) -> Iterator["av.VideoFrame"]:
        import av

        own = packet.stream is self._stream
        if self._is_matroska and packet.pos is not None:
            if packet.pos - self._next_byte > _SKIPPED_BYTES:
                self._error_at = self._packets
            self._next_byte = packet.pos + packet.size
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and packet.time_base is not None:
            end_s = float((stamp + (packet.duration or 0)) * packet.time_base)
            self._read_s = max(self._read_s, end_s)
            if own:
                self._video_read_s = max(self._video_read_s, end_s)
        if not own:
            return
        self._packets += packet.size > 0 and not packet.is_discard  # an edit list discards packets
        if packet.is_corrupt:
            self._error_at = self._packets
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            self._error_at = self._packets
            return
        for frame in frames:
            if frame.is_corrupt:
                self.partly_damaged += 1
                self._error_at = self._packets
            yield frame

    def _start_s(self) -> float:
        """Return the start of the container, so that a video track that begins after the sound keeps its delay."""
        video, container = self._stream.start_time, self._container.start_time
        if video is None:
            return (container or 0) / 1e6
        video_s = float(video * self._stream.time_base)
        if container is None or abs(container / 1e6 - video_s) < 2e-6:
            return video_s
        # A negative start is audio codec priming, which players skip.
        return min(video_s, max(container / 1e6, 0.0))

    def _time_s(self, frame: "av.VideoFrame") -> float:
        stamp = frame.dts if frame.pts is None or self._by_dts else frame.pts
        time_s = following_s = 0.0 if self._last_s is None else self._last_s + 1 / self.frame_rate
        if stamp is not None and frame.time_base is not None:
            time_s = float(stamp * frame.time_base) - self.start_s + self._shift_s
            if self._by_dts and self._last_s is None:
                time_s, self._shift_s = 0.0, self._shift_s - time_s
        if self._last_s is not None and time_s <= self._last_s:
            if self._last_s - time_s > 1:  # the clock was reset, as in joined recordings
                self._shift_s += following_s - time_s
            time_s = following_s
        self._count_missing(time_s)
        self._shown += 1
        self._last_s = max(0.0, time_s)
        return self._last_s

    def _count_missing(self, time_s: float) -> None:
        """Count the missing frames between the last frame and a time."""
        if self._last_s is None:
            return
        found = self._shown / (self._last_s + 1 / self.frame_rate)
        rate = found if found < _VARIABLE * self.frame_rate else self.frame_rate
        missing = round((time_s - self._last_s) * rate - 1)
        if missing >= _GAP_FRAMES:
            self._gaps += missing
            if self._packets - self._error_at <= _AFTER_ERROR_PACKETS:
                self._missing += missing
                self.damaged = max(self.damaged, self._missing)
                if rate != self.frame_rate:  # further gaps may be the recording's own
                    self._error_at = float("-inf")

    def _upright(self, frame: "av.VideoFrame") -> UInt8:
        width = round(frame.width * max(1, self._ratio))
        height = round(frame.height / self._ratio) if 0 < self._ratio < 1 else frame.height
        self._check_pixels(width, height)
        # As in browsers; FFmpeg assumes BT.601 for every video without a colour space.
        colours = _BT709 if frame.colorspace == _UNSPECIFIED and frame.height >= _HD_HEIGHT else None
        interpolation = "BICUBIC" if (width, height) != (frame.width, frame.height) else None
        rgb = self._reformatter.reformat(frame, width, height, "rgb24", colours, interpolation=interpolation)
        image = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        return image if matrix is None else _oriented(image, np.frombuffer(bytes(matrix), np.int32))

    def _check_pixels(self, width: int, height: int) -> None:
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise EmodetError(
                f"{self.name}: frames of {width}×{height} pixels exceed max_pixels={self._max_pixels:,}; "
                "raise it if you trust the file"
            )

    def _cut_off(self) -> bool:
        """Whether the file holds less than its header says."""
        if self._short:
            return True
        if self._is_avi:  # FFmpeg derives its duration from what is there; dropped frames have no packet
            found = max(self._packets, round((self._video_read_s - self.start_s) * self.frame_rate))
            return self._stored_frames - found > _MISSING_FRAMES + self._stored_frames * _MISSING_SHARE
        if self._video_end_s is not None:
            end_s, read_s = self._video_end_s, self._video_read_s
        elif self.duration_s is not None:  # duration of the longest track
            end_s, read_s = self.start_s + self.duration_s, self._read_s
        else:
            return self._gave_up
        return end_s - read_s > _MISSING_FRAMES / self.frame_rate + (end_s - self.start_s) * _MISSING_SHARE


def open_container(address: Path | str, *, max_pixels: int | None = None) -> "InputContainer":
    """Open a file or URL with PyAV, without access to other files; raise `EmodetError` if it is not a video."""
    import av

    text, name = str(address), hide_password(str(address))
    remote = not isinstance(address, Path) and "://" in text
    if not remote and Path(text).is_file() and not Path(text).stat().st_size:
        raise EmodetError(f"{name}: the file is empty")
    options = {"protocol_whitelist": _NETWORK if remote else "file", "rtsp_transport": "tcp"}
    if not remote:
        options["format_whitelist"] = _CONTAINERS
    try:
        return av.open(
            text if remote else f"file:{text}",
            container_options=options,
            options={} if max_pixels is None else {"max_pixels": str(max_pixels)},
            metadata_errors="replace",
            timeout=_TIMEOUT_S if remote else None,
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        network = remote and isinstance(error, OSError | av.error.HTTPClientError | av.error.HTTPServerError)
        if network or isinstance(error, FileNotFoundError | IsADirectoryError):
            raise EmodetError(f"{name}: cannot be opened ({getattr(error, 'strerror', None) or error})") from None
        raise EmodetError(
            f"{name}: not a video (MP4, MOV, MKV, WebM, AVI, MPEG and others are read, playlists are not), "
            "or cut off before its first frame"
        ) from None


def _is_short(path: Path, kind: str) -> bool:
    """Whether an ASF file has fewer bytes than its header says, or a transport stream ends within a packet."""
    size = path.stat().st_size
    if kind == "mpegts":
        return all(size % packet for packet in _TS_PACKETS)
    if kind != "asf":
        return False
    with path.open("rb") as file:
        head = file.read(_ASF_BYTES)
    at = head.find(_ASF_FILE_PROPERTIES)  # file size at 40, flags at 88: a broadcast has no size
    return at >= 0 and not head[at + 88] & 1 and size < int.from_bytes(head[at + 40 : at + 48], "little")


def _oriented(image: UInt8, matrix: npt.NDArray[np.int32]) -> UInt8:
    """Apply a display matrix (3×3, 16.16 fixed point): (x, y) is shown at (ax + cy, bx + dy)."""
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if abs(a) >= abs(b):
        right, down = a, d
    else:
        image, right, down = image.transpose(1, 0, 2), c, b
    if right < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
