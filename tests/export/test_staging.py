"""A set of files appears whole or not at all."""

import pytest

from emodet.errors import EmodetError
from emodet.export.staging import staged, taken

NAMES = ("a.onnx", "b.onnx", "gate.json")


def content(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_nothing_is_seen_before_the_end(tmp_path):
    out = tmp_path / "new" / "deeper"
    with staged(out, NAMES) as place:
        (place / "a.onnx").write_text("a")
        assert [file.name for file in out.iterdir() if not file.name.startswith(".")] == []
    assert content(out) == {"a.onnx": "a"}
    assert oct((out / "a.onnx").stat().st_mode & 0o444) == oct(0o444)


def test_a_new_set_replaces_all_of_the_old_one_and_nothing_else(tmp_path):
    for name in (*NAMES, "mine.txt"):
        (tmp_path / name).write_text("old")
    with staged(tmp_path, NAMES) as place:
        (place / "a.onnx").write_text("new")
    assert content(tmp_path) == {"a.onnx": "new", "mine.txt": "old"}


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_everything_is_as_before(tmp_path, problem):
    (tmp_path / "a.onnx").write_text("old")

    def fail(folder):
        with staged(folder, NAMES) as place:
            (place / "a.onnx").write_text("half")
            raise problem

    for folder in (tmp_path, tmp_path / "fresh"):
        with pytest.raises(problem):
            fail(folder)
    assert content(tmp_path) == {"a.onnx": "old"}


def test_an_empty_set_leaves_the_old_one(tmp_path):
    (tmp_path / "a.onnx").write_text("old")
    with staged(tmp_path, NAMES):
        pass
    with staged(tmp_path / "fresh", NAMES):
        pass
    assert content(tmp_path) == {"a.onnx": "old"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EmodetError, match=r"output=.*file/below: cannot be written to"),
        staged(tmp_path / "file" / "below", NAMES),
    ):
        pass


def test_taken_names_what_is_there(tmp_path):
    (tmp_path / "gate.json").write_text("")
    assert taken(tmp_path, NAMES) == ["gate.json"]
    assert taken(tmp_path / "none", NAMES) == []
