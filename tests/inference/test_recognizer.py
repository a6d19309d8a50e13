"""What `from emodet import …` offers: images in, results that draw, save and show themselves."""

import io
import json
import pickle
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from made_files import encoded, web_server
from made_videos import moving_face, write_video
from model_stub import SIZE, write_stub
from PIL import Image

from emodet import Face, Recognizer, Result, annotate
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.inference.detectors import make_detector
from emodet.inference.faces import Detection
from emodet.inference.heatmaps import occlusion_map
from emodet.inference.overlay import colour_of
from emodet.inference.recognizer import BALANCE
from emodet.inference.rows import row_columns
from emodet.inference.stream import FaceStream
from emodet.inference.tracking import Smoothing
from emodet.inference.video_reader import VideoReader
from emodet.modelfile import read_model_file
from emodet.palette import EMOTION_COLOURS, class_colours
from emodet.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def png(astronaut):
    return encoded(astronaut)


@pytest.fixture(scope="module")
def result(recognizer, astronaut):
    return recognizer(astronaut)


@pytest.fixture
def server(png):
    """Answers /face with a picture, /text with text, /missing with an error."""
    answers = {"/face": ("image/png", png), "/text": ("text/html", b"<p>no picture")}
    with web_server(answers.get) as address:
        yield f"http://{address}"


def test_any_kind_of_image_gives_the_same_result(recognizer, result, astronaut, png, tmp_path, server):
    path = tmp_path / "face.png"
    path.write_bytes(png)
    kinds = [astronaut, path, str(path), png, Image.fromarray(astronaut), f"{server}/face"]
    assert recognizer(kinds) == [result] * len(kinds)
    assert pickle.loads(pickle.dumps(recognizer))(path) == result
    assert json.loads(json.dumps(result[0].to_dict()))["emotion"] == result[0].emotion
    assert recognizer(f"{server}/face").source.endswith("/face")
    picture = Image.fromarray(astronaut)
    assert recognizer.recognise(picture, recognizer.detect(picture)) == tuple(result)
    assert recognizer.crops([picture]) == recognizer.crops([astronaut])
    with pytest.raises(EmodetError, match="cut off"):
        recognizer(Image.open(io.BytesIO(png[:-2000])))
    for address in ("/text", "/missing"):
        with pytest.raises(EmodetError, match=rf"{address}.*(use|download)"):
            recognizer(server + address)


def test_a_result_is_a_tuple_of_faces(result, recognizer, model_path, astronaut):
    (face,) = result
    assert isinstance(result, Result)
    assert isinstance(face, Face)
    for size in (1, 64):
        assert recognizer(np.zeros((size, size, 3), np.uint8)) == recognizer.crops([]) == ()
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert np.array_equal(again.image_rgb, result.image_rgb)
    assert face.emotion in repr(face)
    assert repr(face) in repr(result)
    names = [name for name, _ in face.top(3)]
    assert (len(names), names[0]) == (3, face.most_probable)
    assert result.to_dicts() == [face.to_dict()]
    # Its answer is the model file's for the crop around it.
    assert face.confidence == max(face.probabilities.values()) == face.probabilities[face.emotion]
    model = read_model_file(model_path)
    crop = model.info.preprocessing.crop(astronaut, face.box, face.landmarks)
    np.testing.assert_allclose(list(face.probabilities.values()), model.probabilities(crop[None])[0], atol=1e-5)


def test_draw_save_show_and_notebook(result, tmp_path, astronaut, monkeypatch):
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
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture, title=None: shown.append(picture.size))
    result.show()
    assert shown == [result.image_rgb.shape[1::-1]]


def test_a_table_has_the_columns_of_the_command(recognizer, result):
    pytest.importorskip("pandas")
    table = result.to_dataframe()
    assert list(table.emotion) == [result[0].emotion]
    empty = recognizer(np.zeros((64, 64, 3), np.uint8)).to_dataframe()
    assert list(empty.columns) == list(table.columns)


def test_a_video_gives_frames_with_results(recognizer, astronaut, tmp_path):
    path = write_video(tmp_path / "moving.mp4", moving_face(astronaut, 6))
    items = list(recognizer.video(path))
    assert [frame.index for frame, _ in items] == list(range(6))
    for frame, found in items:
        assert [face.track_id for face in found] == [1]
        assert found.image_rgb is frame.image_rgb
        assert (found.frame, found.time_s) == (frame.index, frame.time_s)
        assert annotate(frame.image_rgb, found).shape == frame.image_rgb.shape
    with pytest.raises(EmodetError, match=r"none\.mp4"):
        next(recognizer.video(tmp_path / "none.mp4"))
    for address in (0, "none.mp4"):
        with pytest.raises(EmodetError, match=rf"{address}.*recognizer\.video"):
            recognizer(address)


def test_own_boxes_and_crops(recognizer, result, astronaut):
    (face,) = result
    margin = recognizer.model.info.preprocessing.margin
    plain = recognizer.recognise(astronaut, [face.box])
    assert plain == recognizer.recognise(astronaut, [face.box], margin=margin)
    (of_array,) = recognizer.recognise(astronaut, np.array([face.box]))
    assert json.loads(json.dumps(of_array.to_dict()))["box"] == list(face.box)
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


@pytest.mark.parametrize("name", ["best.ckpt", "weights.pt", "run", "photo.jpg"])
def test_checkpoints_and_images_are_no_model_files(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(EmodetError, match=rf"{name}.*" + (r"Recognizer\(\)" if "jpg" in name else "checkpoint=")):
        Recognizer(tmp_path / name)


@pytest.mark.parametrize(
    ("part", "files"), [("result.show()", ["out.jpg", "faces.csv"]), ("class Smiles", ["out.mp4"])]
)
def test_a_documented_example_runs(part, files, model_path, astronaut, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    page = (Path(__file__).parents[2] / "docs" / "recognise.md").read_text()
    code = next(code for code in page.split("```") if code.startswith("python\n") and part in code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Image.Image, "show", lambda picture, title=None: None)
    Image.fromarray(astronaut).save("photo.jpg")
    write_video(tmp_path / "video.mp4", moving_face(astronaut, 3))
    code = code.removeprefix("python").replace("Recognizer()", f"Recognizer({str(model_path)!r})")
    exec(code, {"__name__": "example"})
    assert all(Path(name).is_file() for name in files)
    if part == "class Smiles":
        assert len(list(VideoReader("out.mp4"))) == 3
    else:
        assert len(capsys.readouterr().out.splitlines()) == 4


# Faces and streams against the model file, options that change answers, own classes.


def test_crops_are_classified_whole_at_any_size(recognizer, astronaut):
    cut = astronaut[50:190, 150:300]
    faces = recognizer.crops([cut, cut[:50, :40], np.zeros((1, 1, 3), dtype=np.uint8)])
    assert [face.box for face in faces] == [(0, 0, 150, 140), (0, 0, 40, 50), (0, 0, 1, 1)]
    crop = recognizer.model.info.preprocessing.crop(cut)
    expected = recognizer.model.probabilities(crop[None])[0]
    np.testing.assert_allclose(list(faces[0].probabilities.values()), expected, atol=1e-5)
    assert recognizer.crops(np.stack([cut, cut])) == faces[:1] * 2
    assert [face.box for face in recognizer.crops(cut)] == [(0, 0, 150, 140)]


def test_the_largest_faces_are_kept(model_path, astronaut):
    found = tuple(Detection((0, 0, side, side), None, score) for side, score in ((20, 0.9), (50, 0.8), (90, 0.7)))
    detector = mock.Mock(spec=["name", "description", "min_score"], min_score=0.0, return_value=found)
    faces = Recognizer(model_path, detector=detector, max_faces=2)(astronaut)
    assert [face.box[2] for face in faces] == [50, 90]
    assert detector.call_count == 1  # an own detector finds faces of all sizes itself
    # In a video the others, and uncertain ones, are located all the same, for example to be hidden.
    detector.min_score = 0.75
    stream = FaceStream(Recognizer(model_path, detector=detector, max_faces=1), min_score=0.3)
    assert [face.box[2] for face in stream.step(astronaut, 0.0)] == [50]
    assert sorted(track.detection.side for track in stream.tracks) == [20, 50, 90]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_faces", 0), ("prior", "balanced"), ("prior", "uniform")),
        *(("min_confidence", "auto"), ("min_confidence", "high")),
    ],
)
def test_invalid_arguments(model_path, name, value):
    with pytest.raises(EmodetError, match=f"{name}=.*{value}"):
        Recognizer(model_path, detector="none", **{name: value})


def test_invalid_rates_of_a_stream(recognizer, video_path):
    for every in (0, -1, 1.5):
        with pytest.raises(EmodetError, match=f"every={every}"):
            next(recognizer.video(video_path, every=every))
    for values in ({"frame_rate": 0}, {"detect_every": 0}):
        with pytest.raises(EmodetError, match="=0"):
            next(recognizer.stream([], **values), None)


def test_valence_arousal_and_classes_in_another_order(tmp_path, astronaut, model_path):
    path = write_stub(tmp_path / "both.onnx", valence_arousal=True)
    recognizer = Recognizer(path, detector="none")
    ((followed,), (face,)) = next(recognizer.stream([astronaut])), recognizer(astronaut)
    assert (followed.valence, followed.arousal) == pytest.approx((face.valence, face.arousal))
    assert recognizer.model.run(np.zeros((0, SIZE, SIZE, 3), dtype=np.uint8))[1].shape == (0, 2)
    order = tuple(reversed(EMOTIONS))
    other = write_stub(tmp_path / "other.onnx", class_names=order)
    (one,), (two,) = (Recognizer(path, detector="none")(astronaut) for path in (model_path, other))
    assert one.emotion == EMOTIONS[order.index(two.emotion)]


def test_a_stream_follows_a_face_and_detects_only_now_and_then(model_path, astronaut):
    centerface = make_detector("centerface", threads=1)
    known = {"spec": ["name", "description", "min_score"], "min_score": centerface.min_score}
    detector = mock.Mock(**known, side_effect=centerface)
    recognizer = Recognizer(model_path, detector=detector, threads=1)
    frames = list(moving_face(astronaut, 20))
    results = list(recognizer.stream(frames, detect_every=5))
    assert [[face.track_id for face in faces] for faces in results] == [[1]] * 20
    assert detector.call_count == 4
    found = [centerface(frame, longest_side=480)[0].box for frame in frames]
    np.testing.assert_allclose([faces[0].box for faces in results], found, atol=6)


def test_whole_pictures_as_a_stream_are_one_track_and_smoothed(model_path):
    recognizer = Recognizer(model_path, detector="none")
    red, blue = (np.full((40, 40, 3), colour, dtype=np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    (before,), (jumped,) = recognizer.crops([red]), recognizer.crops([blue])
    smoothed = list(recognizer.stream([red] * 5 + [blue], smoothing=Smoothing(seconds=1.0)))[-1][0]
    assert smoothed.track_id == 1
    name = jumped.emotion
    assert before.probabilities[name] < smoothed.probabilities[name] < jumped.probabilities[name]


def test_the_heat_map_shows_where_the_answer_comes_from(tmp_path):
    """The stub looks at the mean colour: what carries the colour must be hot."""
    model = read_model_file(write_stub(tmp_path / "stub.onnx", preprocessing=Preprocessing(size=SIZE)))
    crop = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    crop[4:12, 20:28] = (255, 0, 0)
    answer, blank = (model.probabilities(each[None])[0] for each in (crop, np.zeros_like(crop)))
    heat = occlusion_map(model, crop, EMOTIONS[int(np.argmax(answer - blank))])
    assert heat.shape == (SIZE, SIZE)
    y, x = np.unravel_index(np.argmax(heat), heat.shape)
    assert 2 <= y <= 14
    assert 18 <= x <= 30


SHARES = (0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.03, 0.01)


def test_a_balanced_prior_favours_rare_classes_by_a_known_amount(tmp_path):
    path = write_stub(tmp_path / "stub.onnx", sharpness=3.0, class_shares=SHARES, min_confidence=0.6)
    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    trained, balanced = (
        Recognizer(path, detector="none", prior=each, min_confidence=0).crops(crops) for each in ("trained", "balanced")
    )
    for one, other in zip(trained, balanced, strict=True):
        expected = np.array(list(one.probabilities.values())) / np.array(SHARES) ** BALANCE
        np.testing.assert_allclose(list(other.probabilities.values()), expected / expected.sum(), rtol=1e-4)
        assert other.probabilities[other.emotion] == other.confidence
    assert Recognizer(path, detector="none", min_confidence="auto").min_confidence == 0.6


OWN = ("bored", "engaged", "happy")


def test_own_classes_have_names_colours_and_columns(tmp_path):
    recognizer = Recognizer(write_stub(tmp_path / "own.onnx", class_names=OWN), detector="none", threads=1)
    picture = np.full((SIZE * 8, SIZE * 8, 3), (200, 40, 90), dtype=np.uint8)
    (face,) = recognizer(picture)
    assert tuple(face.probabilities) == OWN
    assert face.emotion in OWN
    shown = {tuple(colour) for colour in annotate(picture, [face]).reshape(-1, 3).tolist()}
    assert colour_of(face.emotion, OWN) in shown
    assert row_columns(OWN)[15:18] == ["p_bored", "p_engaged", "p_happy"]
    # Colours of their own, and an emotion keeps its.
    colours = class_colours(OWN)
    assert len(set(colours)) == 3
    assert colours[2] == EMOTION_COLOURS["happiness"]
    assert not {colours[0], colours[1]} & set(EMOTION_COLOURS.values())
    assert colour_of("uncertain", OWN) not in {colour_of(name, OWN) for name in OWN}
