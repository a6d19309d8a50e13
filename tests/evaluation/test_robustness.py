"""Corrupted crops, and the figures on them."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_answers import make_predictions
from skimage import data

from emodet.evaluation.corruptions import CORRUPTIONS, Corruption, corrupt
from emodet.evaluation.robustness import measure_robustness, plot_robustness
from emodet.evaluation.statistics import Evaluation, evaluate_predictions


def faces(side: int, count: int = 6) -> np.ndarray:
    portrait = data.astronaut()
    return np.stack([portrait[40 + 6 * n : 40 + 6 * n + side, 180 : 180 + side] for n in range(count)])


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [48, 96])
def test_each_level_is_harsher_than_the_one_before(name: str, side: int) -> None:
    corruption, crops = CORRUPTIONS[name], faces(side)
    kept = crops.copy()
    harm = []
    for level in corruption.levels:
        worse = corrupt(crops, np.arange(6), corruption, level)
        assert (worse.dtype, worse.shape) == (crops.dtype, crops.shape)
        harm.append(np.abs(worse.astype(float) - crops).mean())
    assert 0 < harm[0] < harm[1] < harm[2]
    np.testing.assert_array_equal(crops, kept)


@given(st.sampled_from(sorted(CORRUPTIONS)), st.integers(1, 5), st.integers(0, 9))
def test_a_face_is_corrupted_alike_in_whatever_batch(name: str, cut: int, seed: int) -> None:
    corruption, crops, index = CORRUPTIONS[name], faces(48), np.array([5, 900, 3, 17, 40, 8])
    whole = corrupt(crops, index, corruption, corruption.levels[1], seed)
    parts = [
        corrupt(crops[rows], index[rows], corruption, corruption.levels[1], seed)
        for rows in (slice(cut), slice(cut, None))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_what_each_level_says_is_what_it_does() -> None:
    grey = np.full((4, 60, 60, 3), 128, np.uint8)
    index = np.arange(4)
    noisy = corrupt(grey, index, CORRUPTIONS["noise"], 16).astype(float)
    assert noisy.std() == pytest.approx(16, rel=0.1)
    dark = corrupt(grey, index, CORRUPTIONS["low light"], 25).astype(float)
    assert dark.mean() == pytest.approx(32, rel=0.05)
    covered = corrupt(grey, index, CORRUPTIONS["occlusion"], 20)
    assert (covered != 128).any(axis=3).mean(axis=(1, 2)) == pytest.approx(0.2, rel=0.1)
    # Distance: what is left of the finest detail.
    lines = np.zeros((1, 64, 64, 3), np.uint8)
    lines[:, :, ::2] = 255
    assert corrupt(lines, index[:1], CORRUPTIONS["down-scaling"], 32).std() < 5
    # A picture that is smaller than that already stays as it is.
    np.testing.assert_array_equal(corrupt(lines, index[:1], CORRUPTIONS["down-scaling"], 64), lines)
    turned = corrupt(
        np.pad(np.full((1, 40, 8, 3), 255, np.uint8), ((0, 0), (12, 12), (28, 28), (0, 0))),
        index[:1],
        CORRUPTIONS["rotation"],
        30,
    )
    moments = np.argwhere(turned[0, ..., 0] > 127) - 31.5
    angle = np.degrees(
        0.5 * np.arctan2(2 * np.prod(moments, axis=1).mean(), (moments[:, 0] ** 2 - moments[:, 1] ** 2).mean())
    )
    assert abs(angle) == pytest.approx(30, abs=2)


def test_the_table_names_every_level_and_its_figures() -> None:
    predictions = make_predictions()
    clean = evaluate_predictions(predictions, resamples=100)
    asked: list[tuple[str, float]] = []

    def measure(corruption: Corruption, level: float) -> Evaluation:
        asked.append((corruption.name, level))
        wrong = np.arange(len(predictions.emotion)) < len(asked) * 5
        shuffled = np.where(wrong[:, None], predictions.probabilities[:, ::-1], predictions.probabilities)
        return evaluate_predictions(replace(predictions, probabilities=shuffled), resamples=100)

    found = measure_robustness(clean, measure)
    assert asked == [(each.name, level) for each in CORRUPTIONS.values() for level in each.levels]
    assert found.clean == clean.accuracy.value
    rows = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [row["corruption"] for row in rows] == ["none", *(name for name, _ in asked)]
    assert float(rows[5]["accuracy"]) == pytest.approx(found.rows[4].accuracy, abs=1e-6)
    assert found.mean == pytest.approx(np.mean([row.accuracy for row in found.rows]))
    assert all(row.low <= row.accuracy <= row.high for row in found.rows)
    for name, level in asked:
        assert CORRUPTIONS[name].label(level) in found.as_text()
    light, dark = plot_robustness(found), plot_robustness(found, dark=True)
    assert light.startswith(b"\x89PNG")
    assert light != dark
