"""Videos that browsers play: H.264 in MP4, by the ffmpeg that comes with `imageio-ffmpeg`."""

import contextlib
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError

__all__ = ["VideoWriter"]


class VideoWriter:
    """Takes frames of one size; a context manager. The file gets its name when it is whole, and has no sound."""

    def __init__(self, path: Path, *, size: tuple[int, int], frame_rate: float) -> None:
        """Start the encoder.

        Args:
            path: An ``.mp4``; a file that is there is replaced.
            size: Width and height of every frame, in pixels.
            frame_rate: Frames per second.

        Raises:
            EmodetError: The encoder is not installed or the file cannot be written.
        """
        try:
            import imageio_ffmpeg
        except ImportError:
            raise EmodetError("annotated videos need the package imageio-ffmpeg: pip install imageio-ffmpeg") from None
        self.path = path
        self.size = size
        self._partial = path.with_name(f".{path.name}.part")
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the encoder)
        width, height = size
        command = [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
            *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}"),
            *("-framerate", f"{frame_rate:.6f}", "-i", "-"),
            # Chroma at half resolution is what browsers decode; it needs even sides.
            *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"),
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", "21", "-movflags", "+faststart", "-f", "mp4"),
            str(self._partial),
        ]
        try:
            # A session of its own: Ctrl-C is for us, who then let the encoder finish.
            self._encoder = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                start_new_session=True,
            )
        except OSError as problem:
            raise EmodetError(f"{path}: the video encoder could not be started ({problem})") from None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EmodetError:
            if problem is None:
                raise

    def write(self, image_rgb: npt.NDArray[np.uint8]) -> None:
        """Add a frame: uint8, (H, W, 3), RGB. One of another size (a camera that came back) is fitted in.

        Raises:
            EmodetError: The encoder stopped, as it does when a disk is full.
        """
        height, width = image_rgb.shape[:2]
        if (width, height) != self.size:
            image_rgb = np.asarray(cv2.resize(image_rgb, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        assert self._encoder.stdin is not None
        try:
            self._encoder.stdin.write(np.ascontiguousarray(image_rgb).data)
        except OSError:
            self._encoder.wait()
            raise self._failed() from None

    def close(self) -> None:
        """Finish the file.

        Raises:
            EmodetError: It could not be written.
        """
        if self._messages.closed:
            return
        assert self._encoder.stdin is not None
        with contextlib.suppress(OSError):
            self._encoder.stdin.close()
        failed = self._encoder.wait() != 0
        try:
            if failed:
                raise self._failed()
            self._partial.replace(self.path)
        except OSError as problem:
            raise EmodetError(f"{self.path}: could not be written ({problem.strerror or problem})") from None
        finally:
            self._partial.unlink(missing_ok=True)
            self._messages.close()

    def discard(self) -> None:
        """Stop at once and leave no file; for a video that nobody wants any more."""
        if self._messages.closed:
            return
        self._encoder.kill()
        assert self._encoder.stdin is not None
        with contextlib.suppress(OSError):
            self._encoder.stdin.close()
        self._encoder.wait()
        self._partial.unlink(missing_ok=True)
        self._messages.close()

    def _failed(self) -> EmodetError:
        self._messages.seek(0)
        lines = self._messages.read().decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"the encoder ended with {self._encoder.returncode}"
        return EmodetError(f"{self.path}: the video could not be written ({reason})")
