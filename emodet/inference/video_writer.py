"""Video writing: H.264 in MP4, playable in browsers, with a time per frame and the sound of the source."""

import functools
from collections.abc import Generator, Iterator
from contextlib import ExitStack, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from emodet.arrays import UInt8
from emodet.cpu import available_cores
from emodet.errors import EmodetError, os_errors
from emodet.files import atomic_path
from emodet.inference.video_reader import VideoReader, open_container

_TIME_BASE = Fraction(1, 90_000)
_SOUND_GAP_S = 0.1  # minimum length of silence; shorter gaps are rounding
_COPIED_SOUND = frozenset(["aac", "mp3", "opus"])  # playable in MP4 by browsers; other codecs are converted to AAC
_BT709, _LIMITED_RANGE = 1, 1


class VideoWriter:
    """Writes frames to a video file; a context manager. The file has its final name only when it is complete.

    After an error it contains the frames so far. All methods raise `EmodetError` if the file cannot be written.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], frame_rate: float = 25.0, source: VideoReader | None = None
    ) -> None:
        """Start the encoder.

        Args:
            path: Path of the ``.mp4``; an existing file is replaced.
            size: Width and height in pixels, to which frames are resized; an odd side is padded by one pixel.
            frame_rate: Average frames per second, for the encoder's rate control.
            source: Video with the audio track to copy or, if necessary, convert to AAC; None for no sound.
        """
        self.path, self.size = path, size
        self._last = -1
        self._reformatter = VideoReformatter()
        self._errors = functools.partial(os_errors, f"{path}: the video could not be written", "", av.FFmpegError)
        with self._errors(), ExitStack() as stack:
            partial = stack.enter_context(atomic_path(path))
            # faststart: browsers can play the file before it is loaded completely.
            self._container = av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"})
            stack.callback(self._container.close)
            rate, options = Fraction(frame_rate).limit_denominator(100_000), {"preset": "veryfast", "crf": "21"}
            self._stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
            context = self._stream.codec_context
            context.width, context.height = (side + side % 2 for side in size)
            context.pix_fmt, context.time_base = "yuv420p", _TIME_BASE
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
            context.thread_count = min(4, available_cores())
            self._sound = _copied_sound(source, self._container)
            self._sound_s = next(self._sound, None)  # time of the next packet
            self._open: ExitStack | None = stack.pop_all()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if kind is None else suppress(EmodetError):  # report only the first error
            self.close(rest_of_sound=kind is None)

    def write(self, image_rgb: UInt8, time_s: float) -> None:
        """Write a frame, uint8 (H, W, 3) RGB, at an increasing time in seconds."""
        width, height = self.size
        if image_rgb.shape[:2] != (height, width):
            image_rgb = np.asarray(cv2.resize(image_rgb, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        if width % 2 or height % 2:
            image_rgb = np.pad(image_rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(image_rgb), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
        )
        self._last = max(self._last + 1, round(time_s / _TIME_BASE))
        frame.pts, frame.time_base = self._last, _TIME_BASE
        with self._errors():
            self._container.mux(self._stream.encode(frame))
            self._copy_sound(time_s)

    def close(self, *, rest_of_sound: bool = True) -> None:
        """Complete the file; without `rest_of_sound` the sound ends with the last frame."""
        stack, self._open = self._open, None
        if stack is None:
            return
        with self._errors(), stack:
            self._container.mux(self._stream.encode(None))
            self._copy_sound(float("inf") if rest_of_sound else float(self._last * _TIME_BASE))
            self._sound.close()

    def _copy_sound(self, until_s: float) -> None:
        while self._sound_s is not None and self._sound_s <= until_s:
            self._sound_s = next(self._sound, None)


def _copied_sound(source: VideoReader | None, output: Any) -> Generator[float, None, None]:
    """Copy the audio track of a video or convert it to AAC; yields each packet's time in seconds before writing it."""
    if source is None:
        return
    with open_container(source.address) as container:
        track = container.streams.best("audio")
        context: Any = track and track.codec_context
        if track is None or context is None:  # no sound, or an unknown codec
            return
        copied = context.codec.canonical_name in _COPIED_SOUND
        if copied:
            stream = output.add_stream_from_template(track)
        else:
            stream = output.add_stream("aac", rate=getattr(context, "sample_rate", 0) or 48_000)
        end_s: Fraction | None = None  # of the converted sound
        try:
            for packet in _packets(container, track, source.start_s):
                yield float(packet.dts * packet.time_base)
                if copied:
                    packet.stream = stream
                    output.mux(packet)
                    continue
                frames: list[Any] = []
                with suppress(av.FFmpegError):  # damaged
                    frames = packet.decode()
                for frame in frames:
                    # Times are counted in samples: a container's time base can be too coarse for AAC's frames.
                    at_s = (end_s or Fraction(0)) if frame.pts is None else frame.pts * frame.time_base
                    if end_s is None or at_s - end_s > _SOUND_GAP_S:
                        end_s = at_s
                    frame.pts, frame.time_base = round(end_s * frame.sample_rate), Fraction(1, frame.sample_rate)
                    end_s += Fraction(frame.samples, frame.sample_rate)
                    output.mux(stream.encode(frame))
        finally:
            if not copied:
                output.mux(stream.encode(None))


def _packets(container: Any, track: Any, start_s: float) -> Iterator[Any]:
    """Yield the packets of a track with increasing times, also after a reset of the clock."""
    offset, last = round(start_s / track.time_base), None
    with suppress(av.FFmpegError):  # damaged: the sound ends here
        for packet in container.demux(track):
            if packet.dts is None or packet.pts is None or not packet.size:
                continue
            if last is not None and (last - packet.dts + offset) * packet.time_base > 1:  # as in joined recordings
                offset = packet.dts - last - (packet.duration or 1)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            if last is None or packet.dts > last:
                last = packet.dts
                yield packet
