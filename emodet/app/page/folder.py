"""The page as a static folder, which any file server can host."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from emodet.app.page.files import PageFile
from emodet.errors import EmodetError

__all__ = ["write_folder"]

_SIGN = "page.json"  # what every folder that was written here holds


def write_folder(files: Mapping[str, PageFile], output: Path, *, overwrite: bool = False) -> Path:
    """Write the page, whole or not at all.

    Args:
        files: What `emodet.app.page.files.page_files` gave.
        output: The folder; made where there is none, and it must be empty otherwise.
        overwrite: Whether a page that lies there already may be replaced. Other folders are never emptied.

    Returns:
        `output`.

    Raises:
        EmodetError: The folder holds something, or cannot be written.
    """
    try:
        holds = sorted(each.name for each in output.iterdir()) if output.exists() else []
        if holds and not (overwrite and _SIGN in holds):
            raise EmodetError(
                f"output={output} holds {holds[0]} already; choose another folder"
                + (", or replace the page in it with overwrite=true" if _SIGN in holds else "")
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that moving it there is one step of the file system.
        place = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        try:
            for name, file in files.items():
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
            place.chmod(0o777 & ~_umask())
            if output.exists():
                shutil.rmtree(output)
            place.replace(output)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as problem:
        raise EmodetError(f"output={output}: cannot be written ({problem.strerror or problem})") from None
    return output


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
