"""Paths, reading, atomic writes, CSV and checksums of files. Standard library only."""

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from emodet.errors import EmodetError, os_errors


def expanded(path: str | os.PathLike[str]) -> Path:
    """Expand ``~`` and ``~user`` in a path; an unknown user is left unchanged, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (`Path.expanduser` raises for an unknown user)


def default_outputs() -> Path:
    """Return the folder for outputs: ``$EMODET_OUTPUTS``, else ``outputs``."""
    return expanded(os.environ.get("EMODET_OUTPUTS") or "outputs")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends without an exception.

    Readers see either the old file or the complete new one. The folder is created if needed.
    """
    import tempfile  # deferred: imports 20 modules

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Keep the suffix, by which some writers choose the format.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.stem[:32]}-", suffix=target.suffix, dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates files that only their owner can read.
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, to `path`; an interrupted write leaves the old file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_files(folder: Path, files: Mapping[str, bytes | str | None]) -> None:
    """Write files into a command's output folder, which is created; delete files whose content is None.

    Raises `EmodetError` if a file cannot be written.
    """
    with os_errors(f"output={folder}: cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_atomically(folder / name, content)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Format rows as CSV."""
    import csv
    import io

    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def read_regular(path: str | os.PathLike[str], most: int = 1 << 40) -> bytes:
    """Read a regular file; raise `OSError` for a device or a pipe, which can be endless, or more than `most` bytes."""
    with _opened(path, most) as file:
        return file.read()


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a regular file as 64 hexadecimal digits; errors as in `read_regular`."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def claimed(folder: Path, argument: str) -> Iterator[None]:
    """Refuse a folder, given as `argument`, in which another process is in this block; not on Windows."""
    descriptor = None
    with suppress(ImportError, OSError):  # some network file systems have no locks
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise EmodetError(f"{argument} {folder}: another run writes there; wait for it, or name another") from None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def encoding_of(start: bytes) -> str:
    """The encoding of a text that begins like this: UTF-16 by its byte-order mark, as PowerShell writes, else UTF-8."""
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _opened(path: str | os.PathLike[str], most: int = 1 << 40) -> FileIO:
    status = os.stat(path)  # noqa: PTH116 (`Path` and a buffer take 6 µs, which packing notices)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # opening a folder has its own error
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes")
    return open(path, "rb", buffering=0)  # noqa: PTH123


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
