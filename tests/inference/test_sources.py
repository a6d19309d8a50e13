from pathlib import PurePath

import pytest

from emodet.errors import EmodetError
from emodet.inference.capture import LiveVideo, VideoFile, open_video
from emodet.inference.sources import Problem, Source, find_sources, hide_password


@pytest.fixture
def tree(tmp_path):
    for name in ("b.JPG", "a.png", "sub/a.png", "sub/clip.mp4", "notes.txt", ".hidden/x.png", "out/a.png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def test_a_folder_is_all_pictures_and_videos_below_it_in_order(tree):
    found = find_sources([str(tree)], leave_out=tree / "out")
    assert [(each.kind, str(each.stem)) for each in found] == [
        ("image", "a"),
        ("image", "b"),
        ("image", "sub/a"),
        ("video", "sub/clip"),
    ]


def test_globs_reach_into_folders_and_results_never_share_a_name(tree):
    found = find_sources([str(tree / "**" / "*.png"), str(tree / "a.png")], leave_out=tree / "out")
    assert [each.address.relative_to(tree) for each in found] == [PurePath("a.png"), PurePath("sub/a.png")]
    assert [str(each.stem) for each in found] == ["a", "a-2"]


def test_a_file_with_brackets_in_its_name_is_a_file(tmp_path):
    file = tmp_path / "photo[1].jpg"
    file.touch()
    assert [each.address for each in find_sources([str(file)])] == [file]


def test_cameras_streams_and_standard_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_sources(["0", "rtsp://me:secret@cam.local:554/live?x=1", "-"])
    assert [each.kind for each in found] == ["live", "live", "stdin"]
    assert found[0].address == 0
    assert found[1].address == "rtsp://me:secret@cam.local:554/live?x=1"
    assert "secret" not in found[1].name + str(found[1].stem)
    assert str(found[1].stem) == "cam.local-554-live"
    (tmp_path / "0").mkdir()
    assert isinstance(find_sources(["0"])[0], Problem)


def test_what_cannot_be_done_stays_in_its_place(tree):
    (tree / "empty").mkdir()
    found = find_sources(["nothing.jpg", str(tree / "a.png"), str(tree / "*.gif"), str(tree / "empty")])
    assert [type(each) for each in found] == [Problem, Source, Problem, Problem]
    assert "no such file" in found[0].message
    assert "no file matches" in found[2].message
    assert "no image or video" in found[3].message


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x00\x00\x00\x20ftypisom", "video"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "video"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"", "image"),
    ],
)
def test_a_file_without_a_known_ending_is_known_by_its_first_bytes(tmp_path, start, kind):
    file = tmp_path / "mystery"
    file.write_bytes(start)
    assert find_sources([str(file)])[0].kind == kind


def test_passwords_are_hidden():
    assert hide_password("rtsp://me:p:w@host/x") == "rtsp://me:…@host/x"
    assert hide_password("http://host/a:b@c") == "http://host/a:b@c"
    assert hide_password("photo.jpg") == "photo.jpg"


def test_every_frame_of_a_file_with_its_time(video_path):
    video = VideoFile(video_path)
    assert (video.frame_rate, video.frame_count, video.size) == (10.0, 24, (320, 240))
    frames = list(video)
    assert [frame.index for frame in frames] == list(range(24))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(24)])
    assert frames[0].image_rgb.shape == (240, 320, 3)
    # Skin has more red than blue.
    cheek = frames[0].image_rgb[85:95, 80:90].reshape(-1, 3).mean(axis=0)
    assert cheek[0] > cheek[2] + 20
    assert [frame.index for frame in VideoFile(video_path).frames(every=10)] == [0, 10, 20]


def test_videos_that_are_none(tmp_path, video_path):
    for name, data, words in (("text.mp4", b"hello there", "not a video"), ("empty.mp4", b"", "empty")):
        file = tmp_path / name
        file.write_bytes(data)
        with pytest.raises(EmodetError, match=words):
            VideoFile(file)
    with pytest.raises(EmodetError, match="max_pixels"):
        VideoFile(video_path, max_pixels=1000)


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85])
def test_a_video_cut_off_gives_what_is_there_and_then_says_so(tmp_path, video_path, share):
    data = video_path.read_bytes()
    file = tmp_path / "cut.avi"
    file.write_bytes(data[: int(len(data) * share)])
    indices = (frame.index for frame in VideoFile(file))
    seen = []
    with pytest.raises(EmodetError, match="ends early, after"):
        seen.extend(iter(lambda: next(indices), None))
    assert 0 < len(seen) < 24


def test_a_camera_and_a_stream_that_are_not_there():
    with pytest.raises(EmodetError, match="camera 97"):
        LiveVideo(97)
    with pytest.raises(EmodetError, match="stream cannot be opened"):
        open_video("http://127.0.0.1:9/live.mjpg", live=True)
