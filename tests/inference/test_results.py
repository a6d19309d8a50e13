import json
import sys

import numpy as np
import pytest
from made_files import csv_rows

from emodet.errors import EmodetError
from emodet.inference.faces import UNCERTAIN, Face
from emodet.inference.overlay import annotate, colour_of, draw, hide_faces
from emodet.inference.rows import RowWriter, face_row
from emodet.inference.summary import Meter, SourceSummary, Summary
from emodet.inference.timeline import Timeline

NAMES = ("happiness", "neutral", "anger")


def face(emotion="happiness", box=(40, 50, 90, 110), confidence=0.7, track_id=None):
    best = NAMES[0] if emotion == UNCERTAIN else emotion
    rest = (1 - confidence) / 2
    probabilities = {name: confidence if name == best else rest for name in NAMES}
    points = ((50, 70), (80, 70), (65, 85), (55, 95), (75, 95))
    return Face(tuple(map(float, box)), points, 0.9, emotion, probabilities, confidence, 0.25, -0.5, track_id)


ROWS = [face_row("a.jpg", 0, None, 0, face()), face_row("v.mp4", 3, 0.12, 1, face("anger", track_id=7))]


def written(kind, path, times=1):
    with RowWriter(kind, path, NAMES) as writer:
        for row in ROWS * times:
            writer.write(row)
    return path


def test_parquet_and_csv_hold_the_same_rows(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    file = parquet.ParquetFile(written("parquet", tmp_path / "faces.parquet", times=3000))
    assert file.metadata.num_row_groups == 2
    table = file.read()
    assert table.num_rows == 6000
    rows = csv_rows(written("csv", tmp_path / "faces.csv"))
    assert table.column_names == list(rows[0])
    assert [float(row["p_anger"]) for row in rows] == [0.15, 0.7]
    assert (rows[0]["time_s"], rows[0]["track_id"], rows[1]["track_id"]) == ("", "", "7")
    assert table["track_id"].to_pylist()[-2:] == [None, 7]
    assert table["p_anger"].to_pylist()[-2:] == [0.15, 0.7]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EmodetError, match=r"emodet\[parquet\]"):
        RowWriter("parquet", tmp_path / "faces.parquet", NAMES)


def noise(shape=(200, 300, 3)):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_box_is_drawn_in_its_emotions_colour_on_a_copy():
    picture = np.zeros((200, 300, 3), dtype=np.uint8)
    drawn = annotate(picture, [face()])
    assert picture.max() == 0
    assert tuple(drawn[80, 40]) == colour_of("happiness")
    assert drawn[80, 60].max() == 0  # the face itself stays visible
    assert colour_of(UNCERTAIN) not in {colour_of(name) for name in NAMES}


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (290, 190, 400, 300), (0, 0, 300, 200), (500, 500, 600, 600), (10, 10, 10.4, 10.4)]
)
def test_boxes_at_and_over_the_edge_can_be_drawn_and_hidden(box):
    picture = noise()
    assert annotate(picture, [face(box=box)] * 2, note="25 fps").shape == picture.shape
    assert hide_faces(picture, [box]).shape == picture.shape


def test_hidden_faces_have_six_by_six_colours_at_most_and_the_rest_is_untouched():
    picture = noise()
    hidden = hide_faces(picture, [(100, 60, 160, 130)])
    assert len(np.unique(hidden[60:130, 100:160].reshape(-1, 3), axis=0)) <= 36
    np.testing.assert_array_equal(hidden[:30], picture[:30])
    np.testing.assert_array_equal(hidden[:, 200:], picture[:, 200:])
    assert not np.array_equal(hidden[55, 95], picture[55, 95])  # its surroundings too


def test_small_pictures_are_enlarged_and_a_strip_has_an_even_width():
    picture = draw(np.zeros((48, 48, 3), dtype=np.uint8), [face(box=(4, 4, 40, 40))], enlarge=True)
    assert picture.shape == (480, 480, 3)
    assert tuple(picture[200, 40]) == colour_of("happiness")
    hidden = draw(noise((48, 48, 3)), [], hidden=[(12, 12, 36, 36)], enlarge=True)
    assert len(np.unique(hidden[120:360, 120:360].reshape(-1, 3), axis=0)) <= 36
    assert draw(noise((500, 20, 3)), [], enlarge=True).shape == (500, 20, 3)
    drawn = draw(noise(), [face()], maps=())
    assert drawn.shape == (200, 300 + 60, 3)
    assert draw(noise(), [face()]).shape == (200, 300, 3)


def test_a_timeline_shows_each_tracks_emotion_and_stays_small_for_hours_and_crowds():
    timeline = Timeline(NAMES)
    for step in range(100):
        emotion = "happiness" if step < 50 else "anger"
        timeline.add(step / 10, [face(emotion, confidence=1.0, track_id=1), face("neutral", track_id=2)])
    picture = timeline.draw("clip.mp4")
    assert picture.shape[1:] == (1400, 3)
    row = picture[96 + 60]
    assert tuple(row[110 + 1260 // 4]) == colour_of("happiness")
    assert tuple(row[110 + 3 * 1260 // 4]) == colour_of("anger")
    timeline = Timeline(NAMES)
    for step in range(3000):
        timeline.add(step * 4.0, [face("happiness", track_id=1), face("anger", track_id=2 + step)])
    tracks = timeline.to_dict()["tracks"]
    assert len(tracks) <= 49
    (longest,) = tracks[0]["stretches"]
    assert (tracks[0]["track_id"], longest["start_s"], longest["emotion"]) == (1, 0, "happiness")
    assert longest["end_s"] == pytest.approx(12_000, rel=0.01)
    assert timeline.draw("x" * 500).shape[0] < 1400
    assert Timeline(NAMES).draw("nothing").ndim == 3


def test_rates_coverage_and_failures_in_the_summary():
    meter = Meter()
    assert (meter.frame_rate, meter.latency_ms(50)) == (0, 0)
    for latency_s in (0.01, 0.03, 0.02):
        meter.add(latency_s)
    assert (meter.frames, meter.latency_ms(50)) == (3, pytest.approx(20))
    summary = Summary(min_confidence=0.5)
    good = SourceSummary("a.jpg")
    good.add([face(), face(), face(UNCERTAIN, confidence=0.4)])
    for source in (good, SourceSummary("b.jpg", error="b.jpg: damaged")):
        summary.add(source)
    assert summary.coverage == pytest.approx(2 / 3)
    assert summary.lines()[0] == "1 of 2 inputs done, 1 frame, 3 faces"
    assert any("66.7%" in line for line in summary.lines())
    values = json.loads(summary.to_json())
    assert values["failed"] == 1
    assert values["sources"][0]["emotions"] == {"happiness": 2, "uncertain": 1}
    assert Summary(min_confidence=0).coverage is None
