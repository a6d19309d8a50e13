"""Videos are read as players show them, and written with every frame at its time and with sound."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace, VideoReformatter
from made_videos import moving_face, quadrants, tracks, write_video

from emodet.errors import EmodetError
from emodet.inference.video_reader import VideoReader
from emodet.inference.video_writer import VideoWriter

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
VARIABLE = [0, 0.04, 0.5, 0.52, 0.9, 2.0, 2.04, 2.7]


def corners(image):
    """Colours of the four corners, in reading order."""
    height, width = image.shape[:2]
    found = [image[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(int(value > 128) * 255 for value in each) for each in found]


def read(path):
    """Reader, frames, and the error at the end, if any."""
    reader, frames, error = VideoReader(path), [], None
    try:
        frames.extend(reader)
    except EmodetError as problem:
        error = problem
    return reader, frames, error


def test_every_frame_with_index_time_and_rgb_pixels(video_path):
    video, frames, error = read(video_path)
    assert error is None
    assert (video.frame_rate, video.frame_count, video.size) == (10.0, 24, (320, 240))
    assert [frame.index for frame in frames] == list(range(24))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(24)])
    assert frames[0].image_rgb.shape == (240, 320, 3)
    cheek = frames[0].image_rgb[85:95, 80:90].reshape(-1, 3).mean(axis=0)
    assert cheek[0] > cheek[2] + 20  # skin has more red than blue
    assert [frame.index for frame in VideoReader(video_path).frames(every=10)] == [0, 10, 20]


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), [RED, GREEN, BLUE, WHITE]),
        ((-1, 0, 0, 1), [GREEN, RED, WHITE, BLUE]),
        ((-1, 0, 0, -1), [WHITE, BLUE, GREEN, RED]),
        ((1, 0, 0, -1), [BLUE, WHITE, RED, GREEN]),
        ((0, 1, 1, 0), [RED, BLUE, GREEN, WHITE]),
        ((0, 1, -1, 0), [BLUE, RED, WHITE, GREEN]),
        ((0, -1, -1, 0), [WHITE, GREEN, BLUE, RED]),
        ((0, -1, 1, 0), [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_all_eight_orientations(tmp_path, matrix, shown):
    video, frames, _ = read(write_video(tmp_path / "v.mp4", quadrants(2), matrix=matrix))
    assert video.size == ((64, 48) if matrix[0] else (48, 64))
    assert corners(frames[0].image_rgb) == shown


@pytest.mark.parametrize(
    ("ratio", "matrix", "size"),
    [((4, 3), None, (85, 48)), ((1, 2), None, (64, 96)), ((2, 1), (0, 1, -1, 0), (48, 128))],
)
def test_pixels_that_are_not_square_are_stretched(tmp_path, ratio, matrix, size):
    video = VideoReader(write_video(tmp_path / "v.mp4", quadrants(2), ratio=Fraction(*ratio), matrix=matrix))
    assert video.size == size
    assert next(iter(video)).image_rgb.shape[1::-1] == size
    with pytest.raises(EmodetError, match="max_pixels=4,000"):
        VideoReader(tmp_path / "v.mp4", max_pixels=4000)


def test_hd_that_does_not_name_its_colours_is_bt709(tmp_path):
    image = av.VideoFrame.from_ndarray(quadrants(1, (1280, 720))[0], format="rgb24")
    frame = VideoReformatter().reformat(image, format="yuv420p", dst_colorspace=Colorspace.ITU709)
    frame.pts, frame.colorspace = 0, 2  # unspecified
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, width=1280, height=720)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (frame,) = VideoReader(tmp_path / "v.mp4")
    np.testing.assert_allclose(frame.image_rgb[[180, 180, 540], [320, 960, 320]], [RED, GREEN, BLUE], atol=6)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "webm", "ts"])
def test_times_are_those_of_the_file_from_its_start(tmp_path, ending):
    """Variable frame rates, clocks that do not start at 0, sound longer than the picture: nothing is missing."""
    codec, sound = ("libvpx", "libopus") if ending == "webm" else ("libx264", "aac")
    path = tmp_path / f"v.{ending}"
    write_video(path, quadrants(8), codec=codec, times_s=VARIABLE, start_s=100, sound=sound, sound_s=9)
    video, frames, error = read(path)
    assert error is None
    assert (len(frames), video.damaged) == (8, 0)
    assert [frame.time_s for frame in frames] == pytest.approx(VARIABLE, abs=0.03)
    if ending == "mkv":  # a picture that begins after the sound keeps its delay
        write_video(path, quadrants(4), sound="aac", sound_s=2, times_s=VARIABLE[2:6])
        assert [frame.time_s for frame in read(path)[1]] == pytest.approx(VARIABLE[2:6], abs=0.03)


def test_frames_of_an_avi_with_b_frames_are_evenly_spaced(tmp_path, astronaut):
    _, frames, _ = read(write_video(tmp_path / "v.avi", moving_face(astronaut, 24), codec="libx264"))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(24)])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85])
@pytest.mark.parametrize("name", ["v.avi", "v.mkv", "faststart.mp4", "v.asf", "v.ts"])
def test_a_file_that_is_cut_off_gives_what_is_there_and_then_an_error(tmp_path, video_path, name, share):
    whole = tmp_path / f"whole-{name}"
    images = [frame.image_rgb for frame in VideoReader(video_path)] * 3
    if name == "faststart.mp4":
        with VideoWriter(whole, size=(320, 240), frame_rate=10) as writer:
            for index, image in enumerate(images):
                writer.write(image, index / 10)
    else:
        write_video(whole, images)
    assert read(whole)[2] is None
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * share) | 1])  # odd: not the end of a packet
    _, frames, error = read(tmp_path / name)
    assert 0 < len(frames) < 72
    assert "ends early" in str(error)


@pytest.mark.parametrize("first", [10, 16])
def test_frames_that_damage_takes_without_an_error_are_counted(tmp_path, astronaut, first):
    path = write_video(tmp_path / "v.mp4", moving_face(astronaut, 24), codec="libx265")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in packets[first : first + 2]:
        data[place + 4 : place + size] = bytes(size - 4)
    path.write_bytes(data)
    video, frames, _ = read(path)
    assert len(frames) < 20
    assert len(frames) + video.damaged == pytest.approx(24, abs=2)


def test_frames_that_a_recording_of_a_variable_rate_lost_are_counted_at_its_own_rate(tmp_path, astronaut):
    times_s = np.cumsum([0, *[1.5, 0.04, 0.04, 0.04] * 24])[:96]
    path = write_video(tmp_path / "v.mkv", moving_face(astronaut, 96, step=(1, 0)), rate=25, times_s=times_s)
    data = path.read_bytes()
    for start in (0.3, 0.5, 0.7):
        place = int(len(data) * start)
        path.write_bytes(data[:place] + bytes(5000) + data[place + 5000 :])
        video, frames, error = read(path)
        assert error is None
        assert 0 < len(frames) < 96
        assert video.damaged == pytest.approx(96 - len(frames), abs=3)


def test_codecs_that_are_not_known(tmp_path):
    data = write_video(tmp_path / "v.mp4", quadrants(5), sound="aac", sound_s=2).read_bytes()
    (tmp_path / "sound.mp4").write_bytes(data.replace(b"mp4a", b"zzza").replace(b"esds", b"zsds"))
    with VideoWriter(tmp_path / "out.mp4", size=(64, 48), source=VideoReader(tmp_path / "sound.mp4")) as writer:
        writer.write(quadrants()[0], 0)
    assert list(tracks(tmp_path / "out.mp4")) == ["h264"]
    (tmp_path / "v.mp4").write_bytes(data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    with pytest.raises(EmodetError, match="codec"):
        VideoReader(tmp_path / "v.mp4")


def test_a_video_opens_no_other_file(tmp_path, video_path):
    """Playlists in any disguise, and names that FFmpeg would take for a protocol."""
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.4,\n{video_path}\n#EXT-X-ENDLIST\n"
    dash = f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{video_path}</BaseURL></MPD>'
    shutil.copy(video_path, tmp_path)
    for data in (f"ffconcat version 1.0\nfile {video_path.name}\n", playlist, dash):
        for name in ("list.mp4", "list.m3u8", "list.ffconcat"):
            (tmp_path / name).write_text(data)
            with pytest.raises(EmodetError, match="not a video"):
                VideoReader(tmp_path / name)
    assert len(list(VideoReader(shutil.copy(video_path, tmp_path / "concat:a|b.avi")))) == 24


def test_files_that_are_no_videos(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        container.add_stream("aac", rate=48_000)
        container.start_encoding()
    (tmp_path / "text.mp4").write_text("hello there")
    (tmp_path / "empty.mp4").touch()
    for name, words in (("text.mp4", "not a video"), ("empty.mp4", "file is empty"), ("sound.mp4", "video track")):
        with pytest.raises(EmodetError, match=words):
            VideoReader(tmp_path / name)
    with pytest.raises(EmodetError, match="could not be written"):
        VideoWriter(tmp_path / "empty.mp4" / "v.mp4", size=(64, 48), frame_rate=10)


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_written_videos_are_h264_with_true_times_and_colours(tmp_path, size):
    path = tmp_path / "v.mp4"
    times = [index / 23.976 for index in range(30)] + [5.0]
    with VideoWriter(path, size=size, frame_rate=23.976) as writer:
        for time_s in times[:-1]:
            writer.write(quadrants(1, size)[0], time_s)
        writer.write(np.zeros((20, 20, 3), dtype=np.uint8), times[-1])  # a camera that came back with another size
    video, frames, _ = read(path)
    assert video.size == (64, 48)
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-4)
    np.testing.assert_allclose(frames[0].image_rgb[12, 16], RED, atol=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # playable before it is loaded completely
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize(
    ("sound", "ending", "copies"),
    [
        *[("aac", "mkv", 1), ("aac", "ts", 1), ("ac3", "mkv", 1), ("libopus", "webm", 1), ("ac3", "avi", 1)],
        *[("libmp3lame", "avi", 1), ("aac", "ts", 2), ("mp2", "ts", 2)],  # joined recordings
    ],
)
def test_the_sound_is_kept_in_step(tmp_path, sound, ending, copies):
    codec, start_s = "libvpx" if ending == "webm" else "libx264", 0 if ending == "avi" else 20
    source = tmp_path / f"v.{ending}"
    write_video(source, quadrants(30), codec=codec, sound=sound, sound_s=5, start_s=start_s)
    source.write_bytes(copies * source.read_bytes())
    video = VideoReader(source)
    with VideoWriter(tmp_path / "out.mp4", size=(64, 48), source=video) as writer:
        for frame in video:
            writer.write(frame.image_rgb, frame.time_s)
    found = tracks(tmp_path / "out.mp4")
    assert found["h264"] == (30 * copies, pytest.approx(3 * copies, abs=0.1))
    kept = {"libopus": "opus", "libmp3lame": "mp3float"}.get(sound, "aac")
    assert found[kept][1] == pytest.approx(5 * copies, abs=0.1 * copies)


def test_after_an_error_the_file_holds_what_was_written(tmp_path):
    source = VideoReader(write_video(tmp_path / "v.mkv", quadrants(30), sound="aac", sound_s=3))
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out.mp4", size=(64, 48), source=source) as writer:  # noqa: PT012
        for index in range(5):
            writer.write(np.zeros((48, 64, 3), dtype=np.uint8), index / 10)
        raise KeyboardInterrupt
    found = tracks(tmp_path / "out.mp4")
    assert found["h264"][0] == 5
    assert found["aac"][1] == pytest.approx(0.4, abs=0.1)
