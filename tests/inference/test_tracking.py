import math

import numpy as np
import pytest
from made_videos import moving_face

from emodet.errors import EmodetError
from emodet.inference.faces import Detection
from emodet.inference.tracking import Follower, Smoother, Smoothing, Tracker, affinity


def face(x, y, side=100.0, score=0.9, landmarks=True):
    places = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    points = tuple((x + dx * side, y + dy * side) for dx, dy in places)
    return Detection((x, y, x + side, y + side), points if landmarks else None, score)


def numbers(tracks):
    return [track.number for track in tracks]


def test_crossing_faces_keep_their_numbers_and_need_no_landmarks():
    tracker = Tracker()
    for step in range(21):
        time_s = step / 25
        left_to_right, right_to_left = face(10 * step, 0), face(200 - 10 * step, 130)
        assert numbers(tracker.update([right_to_left, left_to_right], time_s)) == [1, 2]
    assert affinity(face(0, 0, landmarks=False), face(0, 0)) == affinity(face(0, 0), face(0, 0)) == 1


def test_a_short_gap_keeps_the_number_and_a_long_one_does_not():
    tracker = Tracker()
    tracker.update([face(0, 0)], 0.0)
    assert tracker.update([], 0.5) == []
    assert not tracker.tracks[0].visible
    assert numbers(tracker.update([face(5, 0)], 0.9)) == [1]
    tracker.update([], 1.5)
    assert numbers(tracker.update([face(5, 0)], 2.5)) == [2]


def test_the_follower_moves_boxes_and_landmarks_with_the_picture(astronaut):
    frames = list(moving_face(astronaut, 8, step=(4, 2)))
    follower = Follower()
    points = ((72.0, 78.0), (96.0, 78.0), (84.0, 90.0), (74.0, 98.0), (94.0, 98.0))
    moved = start = Detection((60.0, 35.0, 115.0, 105.0), points, 1.0)
    follower.add_frame(frames[0])
    assert follower.follow([start]) == [None]  # seen only once
    for frame in frames[1:]:
        follower.add_frame(frame)
        (moved,) = follower.follow([moved])
    np.testing.assert_allclose(moved.box, np.array(start.box) + np.tile((28, 14), 2), atol=2)
    np.testing.assert_allclose(moved.landmarks, np.add(start.landmarks, (28, 14)), atol=2)
    # Gone, and another size: a camera that came back.
    for frame in (np.full_like(frames[0], 120), np.zeros((100, 90, 3), dtype=np.uint8)):
        follower.add_frame(frame)
        assert follower.follow([moved]) == [None]
    assert follower.follow([]) == []


def smoothed(smoothing, rows, rate=25.0, certain_from=0.0):
    """Mean probabilities, label and certainty in each frame of a track."""
    smoother = Smoother(smoothing, certain_from)
    return [smoother.update(np.array(row, dtype=np.float32), len(row), step / rate) for step, row in enumerate(rows)]


@pytest.mark.parametrize("rate", [5, 25, 100])
def test_smoothing_forgets_by_time_not_by_frames(rate):
    mean, _, _ = smoothed(Smoothing(seconds=1.0, margin=0), [(1, 0)] + [(0, 1)] * rate, rate)[-1]
    assert mean[0] == pytest.approx(math.exp(-1), abs=1e-4)


def test_a_clear_change_is_shown_soon_and_nearly_equal_labels_do_not_flicker():
    rows = [(first, 1 - first) for first in np.random.default_rng(0).normal(0.5, 0.1, 200)]
    plain, calm = (
        np.count_nonzero(np.diff([label for _, label, _ in smoothed(setting, rows)]))
        for setting in (Smoothing(seconds=0), Smoothing(0.4, 0.1))
    )
    assert plain > 50
    assert calm <= 1
    labels = [label for _, label, _ in smoothed(Smoothing(), [(0.9, 0.1)] * 25 + [(0.1, 0.9)] * 25)][25:]
    assert labels[0] == 0
    assert 0 < labels.index(1) <= 12


@pytest.mark.parametrize(
    ("smoothing", "certain_from", "rows", "expected"),
    [
        # Off: every frame for itself.
        (Smoothing(seconds=0), 0.6, [(0.9, 0.1), (0.45, 0.55), (0.39, 0.61)], [(0, True), (1, False), (1, True)]),
        # Uncertainty does not flicker either.
        (
            Smoothing(seconds=1e-9, margin=0.1),
            0.5,
            [(c, 0.8 - c, 0.2) for c in (0.6, 0.49, 0.52, 0.55, 0.61, 0.52, 0.49)],
            [(0, certain) for certain in (True, False, False, False, True, True, False)],
        ),
    ],
)
def test_answers_without_smoothing_and_uncertainty_that_does_not_flicker(smoothing, certain_from, rows, expected):
    for row, (mean, *answer), wanted in zip(rows, smoothed(smoothing, rows, 1.0, certain_from), expected, strict=True):
        np.testing.assert_array_equal(mean, np.float32(row))
        assert tuple(answer) == wanted


@pytest.mark.parametrize("values", [{"seconds": -1}, {"seconds": math.nan}, {"margin": 1}])
def test_smoothing_out_of_range(values):
    with pytest.raises(EmodetError):
        Smoothing(**values)
