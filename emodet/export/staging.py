"""A set of files that appears in a folder whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emodet.errors import EmodetError

__all__ = ["staged", "taken"]


def taken(folder: Path, names: Iterable[str]) -> list[str]:
    """Which of the names are in the folder already."""
    return [name for name in names if (folder / name).exists()]


@contextmanager
def staged(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Write into a folder of one's own; what lies there at the end moves into `folder` at once.

    Where nothing was left in it, `folder` stays as it was; otherwise files of `names` that were not written anew are
    removed from it, so that no file of an earlier set stays beside a new one. After an exception `folder` stays as it
    was.

    Args:
        folder: Made where there is none.
        names: Every name that a set may have.

    Yields:
        The folder to write to; on the same file system, hidden.

    Raises:
        EmodetError: `folder` cannot be made or written to.
    """
    was_there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    except OSError as problem:
        raise EmodetError(f"output={folder}: cannot be written to ({problem.strerror or problem})") from None
    try:
        yield place
        written = sorted(file.name for file in place.iterdir())
        if written:
            _publish(place, folder, written, sorted(set(names) - set(written)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not was_there:
            with suppress(OSError):  # it holds something: the set
                folder.rmdir()


def _publish(place: Path, folder: Path, written: list[str], old: list[str]) -> None:
    try:
        for name in old:
            (folder / name).unlink(missing_ok=True)
        for name in written:
            (place / name).chmod(0o666 & ~_umask())
            (place / name).replace(folder / name)
    except OSError as problem:
        raise EmodetError(f"output={folder}: cannot be written to ({problem.strerror or problem})") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
