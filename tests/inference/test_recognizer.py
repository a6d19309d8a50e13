import dataclasses

import numpy as np
import pytest
from made_videos import moving_face
from model_stub import SIZE, graph, info

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.inference.detectors import make_detector
from emodet.inference.faces import UNCERTAIN, Detection
from emodet.inference.heatmaps import occlusion_map
from emodet.inference.overlay import annotate, colour_of
from emodet.inference.recognizer import BALANCE, Recognizer
from emodet.inference.rows import row_columns
from emodet.inference.tracking import Smoothing
from emodet.modelfile import read_model_file, write_model_file
from emodet.palette import EMOTION_COLOURS, class_colours
from emodet.preprocessing import Preprocessing


class Counting:
    def __init__(self, inner):
        self.inner, self.calls = inner, 0
        self.name, self.description, self.min_score = inner.name, inner.description, inner.min_score

    def __call__(self, image_rgb, *, longest_side, min_score=None):
        self.calls += 1
        return self.inner(image_rgb, longest_side=longest_side, min_score=min_score)


def test_one_face_of_the_astronaut(recognizer, astronaut, model_path):
    (face,) = recognizer(astronaut)
    assert face.emotion in EMOTIONS
    assert list(face.probabilities) == list(EMOTIONS)
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert face.confidence == max(face.probabilities.values()) == face.probabilities[face.emotion]
    assert (face.valence, face.arousal, face.track_id) == (None, None, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.emotion = "other"
    assert dataclasses.asdict(face)["emotion"] == face.emotion
    assert len({face, face}) == 1
    model = read_model_file(model_path)
    crop = model.info.preprocessing.crop(astronaut, face.box, face.landmarks)
    np.testing.assert_allclose(list(face.probabilities.values()), model.probabilities(crop[None])[0], atol=1e-5)


def test_no_face_is_an_empty_result(recognizer):
    assert recognizer(np.zeros((120, 160, 3), dtype=np.uint8)) == ()
    assert recognizer.crops([]) == ()
    assert recognizer(np.zeros((1, 1, 3), dtype=np.uint8)) == ()


def test_crops_of_any_size_are_whole_pictures(recognizer, astronaut):
    cut = astronaut[50:190, 150:300]
    faces = recognizer.crops([cut, cut[:50, :40], np.zeros((1, 1, 3), dtype=np.uint8)])
    assert [face.box for face in faces] == [(0, 0, 150, 140), (0, 0, 40, 50), (0, 0, 1, 1)]
    crop = recognizer.model.info.preprocessing.crop(cut)
    expected = recognizer.model.probabilities(crop[None])[0]
    np.testing.assert_allclose(list(faces[0].probabilities.values()), expected, atol=1e-5)
    batch = recognizer.crops(np.stack([cut, cut]))
    assert batch[0] == batch[1] == faces[0]


def test_below_the_least_confidence_it_is_uncertain_and_still_says_the_best(model_path, astronaut):
    strict = Recognizer(model_path, detector="none", min_confidence=1.0)
    (face,) = strict(astronaut)
    assert face.uncertain
    assert face.emotion == UNCERTAIN
    assert face.probabilities[face.most_probable] == face.confidence < 1


def test_the_largest_faces_are_kept(model_path, astronaut):
    class Fixed:
        name = description = "fixed"
        min_score = 0.0

        def __call__(self, image_rgb, *, longest_side, min_score=None):
            return tuple(
                Detection((0, 0, side, side), None, score) for side, score in ((20, 0.9), (50, 0.8), (90, 0.7))
            )

    faces = Recognizer(model_path, detector=Fixed(), max_faces=2)(astronaut)
    assert [face.box[2] for face in faces] == [50, 90]


@pytest.mark.parametrize("values", [{"min_confidence": 2}, {"max_faces": 0}, {"threads": 0}, {"detector": "haar"}])
def test_arguments_out_of_range(model_path, values):
    with pytest.raises(EmodetError):
        Recognizer(model_path, **({"detector": "none"} | values))


def test_arguments_of_a_stream_out_of_range(recognizer):
    for values in ({"frame_rate": 0}, {"detect_every": 0}):
        with pytest.raises(EmodetError):
            next(recognizer.stream([], **values), None)


def test_valence_and_arousal(tmp_path, astronaut):
    outputs = ("probabilities", "valence_arousal")
    path = write_model_file(graph(valence_arousal=True), info(outputs=outputs), tmp_path / "both.onnx")
    recognizer = Recognizer(path, detector="none")
    (face,) = recognizer(astronaut)
    crop = recognizer.model.info.preprocessing.crop(astronaut)
    _, expected = recognizer.model.run(crop[None])
    assert (face.valence, face.arousal) == pytest.approx(tuple(expected[0]), abs=1e-6)
    assert list(face.probabilities) == list(EMOTIONS)
    assert recognizer.model.run(crop[None][:0])[1].shape == (0, 2)
    (followed,) = next(recognizer.stream([astronaut]))
    assert followed.valence == pytest.approx(face.valence)


def test_classes_are_returned_by_name_whatever_the_files_order(tmp_path, astronaut):
    straight = write_model_file(graph(), info(), tmp_path / "straight.onnx")
    order = tuple(reversed(EMOTIONS))
    other = write_model_file(graph(), info(class_names=order), tmp_path / "other.onnx")
    (one,), (two,) = (Recognizer(path, detector="none")(astronaut) for path in (straight, other))
    assert one.emotion == EMOTIONS[order.index(two.emotion)]


def test_a_stream_follows_a_face_and_detects_only_now_and_then(model_path, astronaut):
    detector = Counting(make_detector("centerface", threads=1))
    recognizer = Recognizer(model_path, detector=detector, threads=1)
    frames = list(moving_face(astronaut, 20))
    results = list(recognizer.stream(frames, detect_every=5))
    assert [[face.track_id for face in faces] for faces in results] == [[1]] * 20
    assert detector.calls == 4
    found = [make_detector("centerface", threads=1)(frame, longest_side=480)[0].box for frame in frames]
    np.testing.assert_allclose([faces[0].box for faces in results], found, atol=6)


def test_a_face_that_goes_and_another_that_comes(recognizer, astronaut):
    frames = list(moving_face(astronaut, 6))
    empty = np.full_like(frames[0], 120)
    results = list(recognizer.stream([*frames, *[empty] * 40, *frames], frame_rate=25, detect_every=3))
    ids = [[face.track_id for face in faces] for faces in results]
    assert ids[:6] == [[1]] * 6
    assert ids[6:46] == [[]] * 40
    assert ids[46:] == [[2]] * 6


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
    preprocessing = Preprocessing(size=SIZE)
    path = write_model_file(graph(), info(preprocessing=preprocessing), tmp_path / "stub.onnx")
    model = read_model_file(path)
    crop = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    crop[4:12, 20:28] = (255, 0, 0)
    name = EMOTIONS[
        int(np.argmax(model.probabilities(crop[None])[0] - model.probabilities(np.zeros_like(crop)[None])[0]))
    ]
    heat = occlusion_map(model, crop, name)
    assert heat.shape == (SIZE, SIZE)
    y, x = np.unravel_index(np.argmax(heat), heat.shape)
    assert 2 <= y <= 14
    assert 18 <= x <= 30
    with pytest.raises(EmodetError, match="sad"):
        occlusion_map(model, crop, "sad")


# Choices that change answers, not the model: the prior and the least confidence.

SHARES = (0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.03, 0.01)


@pytest.fixture(scope="module")
def with_shares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    return write_model_file(graph(sharpness=3.0), info(class_shares=SHARES, min_confidence=0.6), folder / "stub.onnx")


@pytest.fixture(scope="module")
def four_crops():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def test_a_balanced_prior_favours_rare_classes_by_a_known_amount(with_shares, four_crops):
    trained, balanced = (
        Recognizer(with_shares, detector="none", prior=each, min_confidence=0).crops(four_crops)
        for each in ("trained", "balanced")
    )
    for one, other in zip(trained, balanced, strict=True):
        expected = np.array(list(one.probabilities.values())) / np.array(SHARES) ** BALANCE
        np.testing.assert_allclose(list(other.probabilities.values()), expected / expected.sum(), rtol=1e-4)
        assert other.probabilities[other.emotion] == other.confidence


def test_the_model_file_s_own_least_confidence(with_shares):
    assert Recognizer(with_shares, detector="none", min_confidence="auto").min_confidence == 0.6


def test_a_model_file_that_does_not_know_them(model_path):
    for wrong in ({"prior": "balanced"}, {"min_confidence": "auto"}, {"prior": "uniform"}, {"min_confidence": "high"}):
        ((name, value),) = wrong.items()
        with pytest.raises(EmodetError, match=f"{name}=.*{value}"):
            Recognizer(model_path, detector="none", **wrong)


# A model file with classes of one's own: in the recognizer, the overlay and the rows.

OWN = ("bored", "engaged", "happy")


def test_they_have_names_colours_and_columns(tmp_path):
    path = write_model_file(graph(len(OWN)), info(class_names=OWN), tmp_path / "own.onnx")
    recognizer = Recognizer(path, detector="none", threads=1)
    picture = np.full((SIZE * 8, SIZE * 8, 3), (200, 40, 90), dtype=np.uint8)
    (face,) = recognizer(picture)
    assert tuple(face.probabilities) == OWN
    assert face.emotion in OWN
    shown = {tuple(colour) for colour in annotate(picture, [face]).reshape(-1, 3).tolist()}
    assert colour_of(face.emotion, OWN) in shown
    assert row_columns(OWN)[15:18] == ["p_bored", "p_engaged", "p_happy"]


def test_own_classes_have_colours_of_their_own_and_an_emotion_keeps_its():
    colours = class_colours(OWN)
    assert len(set(colours)) == 3
    assert colours[2] == EMOTION_COLOURS["happiness"]
    assert not {colours[0], colours[1]} & set(EMOTION_COLOURS.values())
    assert colour_of("uncertain", OWN) not in {colour_of(name, OWN) for name in OWN}
