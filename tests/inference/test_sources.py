import os
from pathlib import PurePath

import pytest
from made_files import put

from emodet.inference import sources
from emodet.inference.sources import hide_password, is_video
from emodet.inference.summary import Summary


def find_sources(named, **options):
    return list(sources.find_sources(named, **options))


@pytest.fixture
def tree(tmp_path):
    names = ("b.JPG", "a.png", "sub/a.png", "sub/clip.mp4", "notes.txt", ".hidden/x.png", ".y.png", "sub/z.HEIC")
    for name in (*names, "a.annotated.jpg", "sub/clip.timeline.png"):
        put(tmp_path / name, b"x")
    return tmp_path


def test_a_folder_is_all_images_and_videos_below_it_in_order_and_links_are_followed_once(tree, tmp_path_factory):
    summary = Summary()
    found = find_sources([str(tree)], skip=summary.skip)
    assert [(each.kind, str(each.stem)) for each in found] == [
        ("image", "a"),
        ("image", "b"),
        ("image", "sub/a"),
        ("video", "sub/clip"),
        ("image", "sub/z"),
    ]
    named = {PurePath(name).name for names in summary.skipped.values() for name in names}
    assert named == {"notes.txt", ".hidden", ".y.png", "a.annotated.jpg", "clip.timeline.png"}
    assert len(summary.skipped) == 3
    album = tmp_path_factory.mktemp("album")
    (album / "2024").symlink_to(tree / "sub", target_is_directory=True)
    (tree / "sub" / "loop").symlink_to(album, target_is_directory=True)
    found = find_sources([str(album)])
    assert [str(each.stem) for each in found] == ["2024/a", "2024/clip", "2024/z"]


def test_globs_reach_into_folders_and_results_never_share_a_name(tree):
    summary = Summary()
    found = find_sources([str(tree / "**" / "a.*"), str(tree / "a.png"), str(tree / "sub")], skip=summary.skip)
    assert [(each.address.relative_to(tree), str(each.stem)) for each in found] == [
        (PurePath("a.png"), "a"),
        (PurePath("sub/a.png"), "a-2"),
        (PurePath("sub/clip.mp4"), "clip"),
        (PurePath("sub/z.HEIC"), "z"),
    ]
    assert len(summary.skipped["result of an earlier run"]) == 2
    stems = [str(each.stem) for each in find_sources([str(tree / "[bs]*")])]
    assert stems == ["b", "sub/a", "sub/clip", "sub/z"]


def test_names_that_a_terminal_or_file_system_may_refuse(tmp_path):
    latin, long = os.fsencode(tmp_path) + b"/caf\xe9.png", tmp_path / f"{'写真' * 40}.png"
    with open(latin, "wb"):  # noqa: PTH123
        long.touch()
    (tmp_path / "two\nlines\x1b[2J.png").touch()
    for source in find_sources([str(tmp_path)]):
        source.name.encode()
        assert source.name.isprintable()
        assert len(os.fsencode(source.stem.name + "-99.annotated.mp4")) < 255
        assert source.address.exists()
    assert find_sources(["x" * 5000])[0].error
    brackets = tmp_path / "photo[1].jpg"
    brackets.touch()
    assert [each.address for each in find_sources([str(brackets)])] == [brackets]


def test_cameras_streams_and_standard_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_sources(["0", "rtsp://me:secret@cam.local:554/live?x=1", "-", "-", "0"])
    assert [each.kind for each in found] == ["live", "live", "pipe"]
    assert found[0].address == 0
    assert found[1].address == "rtsp://me:secret@cam.local:554/live?x=1"
    assert "secret" not in found[1].name + str(found[1].stem)
    assert hide_password("rtsp://me:p:w@host/x") == "rtsp://me:…@host/x"
    assert hide_password("rtsp://me:p/w@host/x") == "rtsp://me:…@host/x"
    for plain in ("http://host/a:b@c", "http://host:80/a@b"):
        assert hide_password(plain) == plain
    assert str(found[1].stem) == "cam.local-554-live"
    (tmp_path / "0").mkdir()
    assert find_sources(["0"])[0].error


def test_inputs_that_cannot_be_read_and_lists_of_inputs(tree, tmp_path):
    (tree / "empty").mkdir()
    named = ["nothing.jpg", str(tree / "a.png"), str(tree / "*.gif"), str(tree / "empty")]
    found = find_sources(named)
    assert [each.error is None for each in found] == [False, True, False, False]
    for each, name in zip(found, ["nothing.jpg", "a.png", "*.gif", "empty"], strict=True):
        assert name in (each.error or each.name)
    put(tree / "list", b"\xef\xbb\xbfa.png\r\nb.H264\n.\n/\nhttp://x/c.png")  # the mark as Windows' editor writes it
    found = find_sources([f"@{tree / 'list'}"])
    assert [(each.kind, str(each.address)) for each in found[:2]] == [("image", "a.png"), ("video", "b.H264")]
    assert all(each.error for each in found[2:])
    put(tree / "list", "ä.png\r\nb.png\r\n".encode("utf-16"))  # as PowerShell writes it
    assert [str(each.address) for each in find_sources([f"@{tree / 'list'}"])] == ["ä.png", "b.png"]
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": pyarrow.array([], pyarrow.string())}), tmp_path / "empty.parquet")
    put(tmp_path / "damaged.parquet", b"PAR1 damaged")
    for name in ("empty.parquet", "damaged.parquet"):
        (source,) = find_sources([str(tmp_path / name)])
        assert name in source.error


@pytest.mark.parametrize(
    ("start", "video"),
    [
        (b"\x00\x00\x00\x20ftypisom", True),
        (b"\x00\x00\x00\x20ftypavif", False),
        (b"RIFF\x10\x00\x00\x00AVI LIST", True),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", False),
        (b"\x1aE\xdf\xa3", True),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
    ],
)
def test_a_file_without_a_known_suffix_is_known_by_its_first_bytes(tmp_path, start, video):
    file = tmp_path / "mystery"
    file.write_bytes(start)
    assert is_video(start) == video
    assert find_sources([str(file)])[0].kind == ("video" if video else "image")
