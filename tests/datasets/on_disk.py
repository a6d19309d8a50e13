"""What the tests of readers share: files on disk, and listings and errors in short."""

from pathlib import Path
from typing import Any

import pytest

from emodet.datasets.readers import open_reader
from emodet.datasets.samples import Listing
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError


def put_files(root: Path, *paths: str) -> None:
    """Files that hold their own path, so that a test sees which one was read."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def put_lines(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    return path


def read(root: Path, reader: str = "auto", **options: Any) -> Listing:
    return open_reader(root, reader, **options).read()


def faces(listing: Listing) -> dict[str, tuple[str, str | None]]:
    """Split and class name by key."""
    return {s.key: (s.split, None if s.emotion is None else EMOTIONS[s.emotion]) for s in listing.samples}


def error_of(root: Path, reader: str = "auto", **options: Any) -> str:
    """The message of the error that reading ends in."""
    with pytest.raises(EmodetError) as caught:
        read(root, reader, **options)
    return str(caught.value)


def has_note(listing: Listing, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in listing.notes)
