"""Folders that are there whole or not at all, though several processes write them and any may be killed."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    _locking = False
else:
    _locking = True

__all__ = ["SUFFIX", "place_to_write", "put_in_place"]

log = logging.getLogger(__name__)

SUFFIX = ".unfinished"
"""What the name of a folder that is being written ends in, or has followed by a hyphen and letters."""


@contextmanager
def place_to_write(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, ours alone, removed at the end unless it was put in place.

    A lock on it makes a second process wait for the first, and tells a folder that is being written from one that a
    killed process left: the kernel gives back a lock with its process. Where folders cannot be locked (Windows, network
    file systems), each process writes into one with a name of its own, and the first to finish is taken.

    Raises:
        OSError: It cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(folder.name + SUFFIX)
    lock = _lock(unfinished)
    if lock is None:
        unfinished = Path(tempfile.mkdtemp(prefix=f"{unfinished.name}-", dir=folder.parent))
        unfinished.chmod(0o777 & ~_umask())
    try:
        for left in unfinished.iterdir():
            left.unlink()
        yield unfinished
    finally:
        # Once it has been renamed, the name may already be another process's.
        if lock is None or _is_at(lock, unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def put_in_place(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was faster: what it put there is as good.

    Raises:
        OSError: It cannot be renamed.
    """
    for file in unfinished.iterdir():
        _to_disk(file)
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return
    if os.name == "posix":
        with suppress(OSError):  # not every file system lets a folder be synchronised
            _to_disk(folder.parent)


def _to_disk(path: Path) -> None:
    # Windows synchronises only what is open for writing, and no folders.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder that is made where needed and locked, or None where that cannot be done."""
    while _locking:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # whoever held it has just finished
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process is preparing the same faces; waiting for it")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                folder.rmdir()
            return None
        if _is_at(descriptor, folder):
            return descriptor
        # Whoever held it has renamed or removed it: what we locked is no longer what lies there.
        os.close(descriptor)
    return None


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
