"""The folder of a server's uploads and results: for this user only, and gone with the server, however it ends."""

import shutil
import tempfile
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["TemporaryFolder"]

_PREFIX = "emodet-app-"


class TemporaryFolder:
    """To be closed. A server that was killed leaves its folder behind; the next one deletes it.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        """Make the folder."""
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{_PREFIX}*"):
            if left.is_dir() and not left.is_symlink():
                _delete_abandoned(left)
        # 0700, by mkdtemp.
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock: IO[bytes] | None = _locked(self.path)

    def close(self) -> None:
        """Delete it with everything in it; a second time does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


def _locked(folder: Path) -> IO[bytes] | None:
    """A file in it that is held as long as this process lives, or None where somebody else holds it."""
    if fcntl is None:
        return None
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _delete_abandoned(folder: Path) -> None:
    try:
        if fcntl is None or not (folder / "lock").exists():
            return
        lock = _locked(folder)
    except OSError:  # of another user
        return
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
