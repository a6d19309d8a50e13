"""The image file of a pack: a plain ``.npy`` array, written by several processes at once, and mapped when read."""

import errno
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import write_array_header_1_0

__all__ = ["ImageFile", "open_images"]

_ROWS_MOVED_AT_ONCE = 1024
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Where the crops of so many faces go.

    Written, not mapped: a full disk is then an error, not a killed process.

    Attributes:
        path: The file.
        rows: How many crops it has room for.
        size: Of a crop, pixels.
        channels: 1 or 3.
    """

    path: Path
    rows: int
    size: int
    channels: int

    @property
    def row_bytes(self) -> int:
        """Of one crop."""
        return self.size * self.size * self.channels

    def create(self) -> None:
        """Write the header and ask for the room of the whole file, so that a full disk is noticed at once if possible.

        Raises:
            OSError: There is no room, or the file cannot be made.
        """
        header = self._header()
        with self.path.open("wb") as stream:
            stream.write(header)
            stream.flush()
            end = len(header) + self.rows * self.row_bytes
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(stream.fileno(), 0, end)
                except OSError as problem:
                    if problem.errno not in _CANNOT_RESERVE:
                        raise
            stream.truncate(end)

    def write(self, start: int, crops: npt.NDArray[np.uint8]) -> None:
        """Write consecutive rows.

        Args:
            start: The first row.
            crops: uint8 (n, size, size, channels).

        Raises:
            OSError: They cannot be written.
        """
        with self.path.open("r+b", buffering=0) as stream:
            stream.seek(len(self._header()) + start * self.row_bytes)
            left = np.ascontiguousarray(crops).data.cast("B")
            while left:
                left = left[stream.write(left) :]

    def keep(self, rows: Sequence[int]) -> None:
        """Close the gaps: keep these rows only, moved up within the file.

        Args:
            rows: In rising order.

        Raises:
            OSError: It cannot be written.
        """
        kept = ImageFile(self.path, len(rows), self.size, self.channels)
        before, after = self._header(), kept._header()
        images = np.memmap(self.path, np.uint8, "r", len(before), (self.rows, self.size, self.size, self.channels))
        with self.path.open("r+b", buffering=0) as stream:
            # Headers leave room for any number of rows, so they are of one length.
            stream.write(after)
            for start in range(0, len(rows), _ROWS_MOVED_AT_ONCE):
                # A copy: what is read may be overwritten, never what is still to be read.
                kept.write(start, images[rows[start : start + _ROWS_MOVED_AT_ONCE]])
            del images
            stream.truncate(len(after) + len(rows) * self.row_bytes)

    def _header(self) -> bytes:
        stream = io.BytesIO()
        shape = (self.rows, self.size, self.size, self.channels)
        write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return stream.getvalue()


def open_images(file: Path, faces: int, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Map a finished image file: uint8 (faces, size, size, channels).

    Raises:
        ValueError: It is not there, or is not exactly such an array.
    """
    try:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
        end = file.stat().st_size
    except (OSError, EOFError) as problem:
        raise ValueError(str(problem)) from None
    if images.dtype != np.uint8 or images.shape != (faces, size, size, channels):
        raise ValueError(f"{file} holds {images.dtype} of shape {images.shape}")
    if end != images.offset + images.nbytes:
        raise ValueError(f"{file} is longer than its array")
    return images  # type: ignore[no-any-return]  # np.load says nothing of types
