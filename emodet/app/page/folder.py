"""The page as a static folder for any file server."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from emodet.app.page.files import PageFile
from emodet.errors import EmodetError

__all__ = ["write_folder"]

_MARKER = "page.json"  # in every folder written here


def write_folder(files: Mapping[str, PageFile], output: Path, *, overwrite: bool = False) -> Path:
    """Write the page; after an error the folder is unchanged.

    Args:
        files: The result of `emodet.app.page.files.page_files`.
        output: The folder; created, or empty.
        overwrite: Replace a page in `output`. Other folders are never emptied.

    Returns:
        `output`.

    Raises:
        EmodetError: The folder is not empty, or cannot be written.
    """
    try:
        present = sorted(each.name for each in output.iterdir()) if output.exists() else []
        if present and not (overwrite and _MARKER in present):
            raise EmodetError(
                f"output={output} contains {present[0]}; choose another folder"
                + (", or replace the page in it with overwrite=true" if _MARKER in present else "")
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that it can be renamed to `output`.
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
            folder = Path(temporary) / "page"
            folder.mkdir()  # with the usual permissions, which a temporary directory does not have
            for name, file in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
            if output.exists():
                shutil.rmtree(output)
            folder.replace(output)
    except OSError as problem:
        raise EmodetError(f"output={output}: cannot be written ({problem.strerror or problem})") from None
    return output
