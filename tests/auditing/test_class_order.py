"""Every confusion of two known orders is found and named; a right order is not called wrong."""

from itertools import permutations

import numpy as np
import pytest

from emodet.auditing.class_order import REFERENCE, by_answers, by_valence_arousal
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER

ORDERS = {
    "AffectNet's": EMOTIONS,
    "the alphabetical": ALPHABETICAL_ORDER,
    "FER+'s": FERPLUS_ORDER,
    "FER2013's": FER2013_ORDER,
    "RAF-DB's": RAFDB_ORDER,
}


def misread(ours: str, theirs: str, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """What faces show, and what they are called where their numbers in `ours` are read in `theirs`."""
    order, read_as = ORDERS[ours], ORDERS[theirs]
    shown = np.random.default_rng(0).integers(0, 8, count)
    places = [order.index(EMOTIONS[each]) if EMOTIONS[each] in order else -1 for each in shown]
    called = np.array([EMOTIONS.index(read_as[place]) if 0 <= place < len(read_as) else -1 for place in places])
    return shown[called >= 0], called[called >= 0]


def annotated(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moods = REFERENCE[shown] + np.random.default_rng(1).normal(0, 0.3, (len(shown), 2))
    return moods[:, 0], moods[:, 1]


@pytest.mark.parametrize(("ours", "theirs"), list(permutations(ORDERS, 2)))
def test_a_misread_order_is_found(ours: str, theirs: str) -> None:
    shown, called = misread(ours, theirs)
    found = by_valence_arousal(called, *annotated(shown), "valence and arousal")
    assert found is not None
    assert found.wrong
    assert found.sentence.startswith("Wrong class order: the class called ")
    # A net that is right in seven of ten.
    lucky = np.random.default_rng(2).random(len(shown)) < 0.7
    answers = np.where(lucky, shown, np.random.default_rng(3).integers(0, 8, len(shown)))
    told = by_answers(called, answers, EMOTIONS, "the net")
    assert told.wrong
    named = f"numbers in {ours} order give when they are read in {theirs}"
    other_way = f"numbers in {theirs} order give when they are read in {ours}, or the other way round"
    assert named in told.sentence or other_way in told.sentence
    assert all(told.shows[name] != name for name in told.shows)


def test_the_right_order_fits() -> None:
    shown = np.random.default_rng(0).integers(0, 8, 4000)
    found = by_valence_arousal(shown, *annotated(shown), "valence and arousal")
    assert found is not None
    assert found.wrong is False
    assert found.shows == {}
    assert found.sentence == "Valence and arousal fit the names of the classes."


def test_another_data_sets_moods_do_not_look_like_another_order() -> None:
    # Everything milder and shifted, as other annotators see it; one class is missing.
    shown = np.random.default_rng(0).integers(0, 7, 4000)
    valence, arousal = annotated(shown)
    found = by_valence_arousal(shown, 0.6 * valence + 0.1, 0.6 * arousal + 0.15, "valence and arousal")
    assert found is not None
    assert found.wrong is False


def test_without_annotation_nothing_is_said() -> None:
    blank = np.full(100, np.nan)
    assert by_valence_arousal(np.zeros(100, np.int64), blank, blank, "valence and arousal") is None
    few = by_valence_arousal(np.array([0, 1]), np.zeros(2), np.zeros(2), "valence and arousal")
    assert few is not None
    assert few.wrong is None


def test_two_swapped_classes_are_named() -> None:
    shown = np.random.default_rng(0).integers(0, 8, 4000)
    happy, sad = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
    called = np.where(shown == happy, sad, np.where(shown == sad, happy, shown))
    found = by_valence_arousal(called, *annotated(shown), "valence and arousal")
    told = by_answers(called, shown, EMOTIONS, "the net")
    assert found is not None
    assert found.shows == told.shows == {"happiness": "sadness", "sadness": "happiness"}
    assert "faces labelled happiness are answered as sadness (100 %)" in told.sentence


def test_a_net_that_never_says_some_classes_does_not_call_them_wrong() -> None:
    # Disgust and contempt are answered as anger and neutral, as nets do that saw few of them.
    shown = np.random.default_rng(0).integers(0, 8, 4000)
    weak = {EMOTIONS.index("disgust"): EMOTIONS.index("anger"), EMOTIONS.index("contempt"): EMOTIONS.index("neutral")}
    answers = np.array([weak.get(each, each) for each in shown.tolist()])
    told = by_answers(shown, answers, EMOTIONS, "the net")
    assert told.wrong is False
    assert told.shows == {}


def test_a_net_that_does_not_know_the_faces_says_nothing() -> None:
    generator = np.random.default_rng(0)
    told = by_answers(generator.integers(0, 8, 4000), generator.integers(0, 8, 4000), EMOTIONS, "the net")
    assert told.wrong is None
    assert told.sentence.startswith("Not told: the net agrees with the labels on 1")
