"""Atomic writes and checksums."""

import hashlib

import pytest

from emodet.files import atomic_path, sha256_of, write_atomically


def test_write_creates_folders_and_replaces(tmp_path):
    target = tmp_path / "a" / "b.txt"
    write_atomically(target, "é")
    assert target.read_bytes() == "é".encode()
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [file.name for file in target.parent.iterdir()] == ["b.txt"]


def test_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "kept.json"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def test_sha256(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 10_000)
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
