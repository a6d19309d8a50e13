"""What happens to any release between its authors and a user's disk, over all readers: the faces stay the same."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from made_releases import RELEASES, Made

from emodet.datasets.readers import READERS, open_reader
from emodet.datasets.samples import Listing

BOM = b"\xef\xbb\xbf"
# What a user's text editor or another system's tools may have written again.
WITH_TEXT = [name for name in RELEASES if name not in ("affectnet_npy", "ferplus", "image_label_parquet")]
WITH_TEXT = [name for name in WITH_TEXT if name not in ("jaffe", "ckplus", "class_folders")]
WITH_PICTURES = [name for name in RELEASES if name not in ("ferplus", "image_label_parquet", "fer2013", "ferplus_csv")]


def read(root: Path) -> tuple[str, Listing]:
    reader = open_reader(root)
    listing = reader.read()
    for record in listing.samples:
        assert reader.encoded(record)
    return reader.name, listing


def folders(root: Path) -> list[Path]:
    return [Path(place) for place, _, _ in os.walk(root)]


def texts(made: Made) -> list[Path]:
    kinds = {".csv", ".txt", ".lst", ".yaml", ".json"}
    return [file for file in made.root.rglob("*") if file.suffix in kinds]


def littered(made: Made) -> None:
    for folder in folders(made.root):
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.jpg"):
            (folder / name).write_bytes(b"\0litter")


def with_byte_order_marks(made: Made) -> None:
    for file in texts(made):
        file.write_bytes(BOM + file.read_bytes())


def with_other_line_ends(made: Made) -> None:
    for file in texts(made):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def without_a_last_line_end(made: Made) -> None:
    for file in texts(made):
        file.write_bytes(file.read_bytes().rstrip(b"\n"))


def with_blank_lines_at_the_end(made: Made) -> None:
    for file in texts(made):
        file.write_bytes(file.read_bytes() + b"\n\n")


CHANGES: list[tuple[Callable[[Made], None], list[str]]] = [
    (littered, list(RELEASES)),
    (with_byte_order_marks, WITH_TEXT),
    (with_other_line_ends, WITH_TEXT),
    (without_a_last_line_end, WITH_TEXT),
    (with_blank_lines_at_the_end, WITH_TEXT),
]


@pytest.mark.parametrize(
    ("change", "name"),
    [(change, name) for change, names in CHANGES for name in names],
    ids=lambda it: getattr(it, "__name__", it),
)
def test_it_changes_nothing(change: Callable[[Made], None], name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    before = read(made.root)
    change(made)
    assert read(made.root) == before
    assert before[0] == name


@pytest.mark.parametrize("name", RELEASES)
def test_unpacking_into_folders_of_folders_changes_nothing(name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "downloads/archive/release")
    _, before = read(made.root)
    (tmp_path / "downloads/archive/__MACOSX").mkdir()
    (tmp_path / "downloads/archive/.hidden").mkdir()
    found, listing = read(tmp_path / "downloads")
    assert (found, listing.samples) == (name, before.samples)


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_extensions_in_capitals_change_only_themselves(name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    _, before = read(made.root)
    for file in list(made.root.rglob("*")):
        if file.suffix in (".jpg", ".png", ".tiff"):
            file.rename(file.with_suffix(file.suffix.upper()))
    found, listing = read(made.root)
    assert found == name
    assert listing.left_out == before.left_out
    assert [(record.key.lower(), record.split, record.emotion, record.box) for record in listing.samples] == [
        (record.key.lower(), record.split, record.emotion, record.box) for record in before.samples
    ]


@pytest.mark.parametrize("name", RELEASES)
def test_a_link_to_a_release_is_the_release(name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    (tmp_path / "link").symlink_to(made.root)
    assert read(tmp_path / "link") == read(made.root)


@pytest.mark.parametrize("name", RELEASES)
def test_no_other_reader_takes_it_first(name: str, tmp_path: Path) -> None:
    made = RELEASES[name](tmp_path / "release")
    assert next(reader.name for reader in READERS.values() if reader.recognises(made.root)) == name
