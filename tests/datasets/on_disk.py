"""What the tests of readers share: files on disk, and listings and errors in short."""

import pytest
from made_files import put

from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError


def put_files(root, *paths):
    """Files that hold their own path, so that a test sees which one was read."""
    for path in paths:
        put(root / path, path.encode())


def read(root, reader="auto", **options):
    return open_reader(root, reader, **options).read()


def error_of(root, reader="auto", **options):
    with pytest.raises(EmodetError) as caught:
        read(root, reader, **options)
    return str(caught.value)


def has_note(listing, *parts):
    return any(all(part in note for part in parts) for note in listing.notes)
