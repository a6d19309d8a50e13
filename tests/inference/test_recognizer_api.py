"""What `from emodet import …` offers: images in, results that draw, save and show themselves."""

import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from made_files import web_server
from made_videos import moving_face, write_video
from PIL import Image

import emodet
from emodet import Face, Recognizer, Result
from emodet.errors import EmodetError


@pytest.fixture(scope="module")
def png(astronaut):
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def result(recognizer, astronaut):
    return recognizer(astronaut)


@pytest.fixture
def server(png):
    """Answers /face with a picture, /text with text, /missing with an error."""

    answers = {"/face": ("image/png", png), "/text": ("text/html", b"<p>no picture")}
    with web_server(answers.get) as address:
        yield f"http://{address}"


def test_every_name_is_there_and_there_is_a_version():
    assert all(getattr(emodet, name) for name in emodet.__all__)
    assert emodet.__version__[0].isdigit()
    with pytest.raises(AttributeError):
        _ = emodet.nothing


def test_any_kind_of_image_gives_the_same_result(recognizer, result, astronaut, png, tmp_path, server):
    path = tmp_path / "face.png"
    path.write_bytes(png)
    kinds = [astronaut, path, str(path), png, Image.fromarray(astronaut), f"{server}/face"]
    assert recognizer(kinds) == [result] * len(kinds)
    assert pickle.loads(pickle.dumps(recognizer))(path) == result
    assert json.loads(json.dumps(result[0].to_dict()))["emotion"] == result[0].emotion
    assert recognizer(f"{server}/face").source.endswith("/face")


@pytest.mark.parametrize("address", ["/text", "/missing"])
def test_an_address_without_a_picture(recognizer, server, address):
    with pytest.raises(EmodetError, match=rf"{address}.*(name|download)"):
        recognizer(server + address)


def test_a_result_is_a_tuple_of_faces(result, recognizer):
    (face,) = result
    assert isinstance(result, Result)
    assert len(result) == 1
    assert result[0] is face
    assert recognizer(np.zeros((64, 64, 3), np.uint8)) == ()
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert np.array_equal(again.image_rgb, result.image_rgb)


def test_a_face_describes_itself(result):
    (face,) = result
    assert isinstance(face, Face)
    assert len(repr(face)) < 80
    assert face.emotion in repr(face)
    assert repr(face) in repr(result)
    names = [name for name, _ in face.top(3)]
    assert (len(names), names[0]) == (3, face.most_probable)
    assert result.to_dicts() == [face.to_dict()]


def test_draw_save_and_notebook(result, tmp_path, astronaut):
    drawn = result.draw()
    assert drawn.shape == astronaut.shape
    assert (drawn != astronaut).any()
    assert (result.draw(hide_faces=True) != drawn).any()
    for name in ("out.jpg", "out.JPEG", "out.png"):
        with Image.open(result.save(tmp_path / name)) as picture:
            assert picture.size == astronaut.shape[1::-1]
    with Image.open(io.BytesIO(result._repr_png_())) as picture:
        assert np.array_equal(np.asarray(picture), drawn)
    with pytest.raises(EmodetError, match=r"out\.tga.*\.png"):
        result.save(tmp_path / "out.tga")


def test_show_opens_the_viewer(result, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture, title=None: shown.append(picture.size))
    result.show()
    assert shown == [result.image_rgb.shape[1::-1]]


def test_a_table_has_the_columns_of_the_command(recognizer, result):
    pandas = pytest.importorskip("pandas")
    table = result.to_dataframe()
    assert len(table) == 1
    assert table.emotion[0] == result[0].emotion
    empty = recognizer(np.zeros((64, 64, 3), np.uint8)).to_dataframe()
    assert list(empty.columns) == list(table.columns)
    assert len(pandas.concat([table, table])) == 2


def test_without_pandas_the_message_says_what_to_do(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EmodetError, match=r"pandas.*to_dicts"):
        result.to_dataframe()


def test_a_video_gives_frames_with_results(recognizer, astronaut, tmp_path):
    path = write_video(tmp_path / "moving.mp4", moving_face(astronaut, 6))
    items = list(recognizer.video(path))
    assert [frame.index for frame, _ in items] == list(range(6))
    for frame, found in items:
        assert [face.track_id for face in found] == [1]
        assert found.image_rgb is frame.image_rgb
        assert (found.frame, found.time_s) == (frame.index, frame.time_s)
        assert emodet.annotate(frame.image_rgb, found).shape == frame.image_rgb.shape
    with pytest.raises(EmodetError, match=r"none\.mp4"):
        next(recognizer.video(tmp_path / "none.mp4"))


def test_boxes_and_crops_of_ones_own(recognizer, result, astronaut):
    (face,) = result
    margin = recognizer.model.info.preprocessing.margin
    plain = recognizer.recognise(astronaut, [face.box])
    assert plain == recognizer.recognise(astronaut, [face.box], margin=margin)
    x1, y1, x2, y2 = (round(value) for value in face.box)
    quarter = max(x2 - x1, y2 - y1) // 4
    x, y, half, reach = (x1 + x2) // 2, (y1 + y2) // 2, 2 * quarter, 3 * quarter
    loose = astronaut[y - reach : y + reach, x - reach : x + reach]  # a quarter of the side around the face
    square = (x - half, y - half, x + half, y + half)
    (found,) = recognizer.crops([loose], margin=0.25)
    (expected,) = recognizer.recognise(astronaut, [square])
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    with pytest.raises(EmodetError, match="margin=3"):
        recognizer.crops([loose], margin=3)


@pytest.mark.parametrize("name", ["best.ckpt", "weights.pt", "run"])
def test_a_checkpoint_is_to_be_exported_first(tmp_path, name):
    (tmp_path / "run").mkdir()
    with pytest.raises(EmodetError, match=rf"{name}.*emodet\.export checkpoint="):
        Recognizer(tmp_path / name)


def test_the_documented_example_runs(recognizer, model_path, astronaut, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    page = (Path(__file__).parents[2] / "docs" / "recognise.md").read_text()
    code = next(code for code in page.split("```") if "result.show()" in code).removeprefix("python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda picture, title=None: None)
    Image.fromarray(astronaut).save("photo.jpg")
    write_video(tmp_path / "video.mp4", moving_face(astronaut, 3))
    exec(code.replace("Recognizer()", f"Recognizer({str(model_path)!r})"), {"__name__": "example"})
    assert Path("out.jpg").is_file()
    assert Path("faces.csv").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 4
