"""Class order: every confusion of two known orders is found and named; a right order is not called wrong."""

from itertools import permutations

import numpy as np
import pytest

from emodet.auditing.class_order import by_predictions, by_valence_arousal
from emodet.datasets.affectnet import VALENCE_AROUSAL
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER, RAFDB_ORDER

ORDERS = {
    "AffectNet's": EMOTIONS,
    "the alphabetical": ALPHABETICAL_ORDER,
    "FER+'s": FERPLUS_ORDER,
    "FER2013's": FER2013_ORDER,
    "RAF-DB's": RAFDB_ORDER,
}


def shown_by(count=4000, classes=8):
    return np.random.default_rng(0).integers(0, classes, count)


def annotated(shown):
    means = np.array(VALENCE_AROUSAL)[shown] + np.random.default_rng(1).normal(0, 0.3, (len(shown), 2))
    return means[:, 0], means[:, 1]


@pytest.mark.parametrize(("ours", "theirs"), list(permutations(ORDERS, 2)))
def test_a_misread_order_is_found(ours, theirs):
    order, read_as = ORDERS[ours], ORDERS[theirs]
    shown = shown_by()
    places = [order.index(EMOTIONS[each]) if EMOTIONS[each] in order else -1 for each in shown]
    label = np.array([EMOTIONS.index(read_as[place]) if 0 <= place < len(read_as) else -1 for place in places])
    shown, label = shown[label >= 0], label[label >= 0]
    found = by_valence_arousal(label, *annotated(shown), "Annotation")
    assert found.verdict == "wrong"
    # A net that is right in seven of ten.
    right = np.random.default_rng(2).random(len(shown)) < 0.7
    predicted = np.where(right, shown, np.random.default_rng(3).integers(0, 8, len(shown)))
    found = by_predictions(label, predicted, EMOTIONS, "Net")
    assert found.wrong
    assert {ours, theirs} <= {name for name in ORDERS if name in found.sentence}
    assert all(found.shows[name] != name for name in found.shows)


@pytest.mark.parametrize(("scale", "shift", "classes"), [(1.0, 0.0, 8), (0.6, 0.12, 7)])
def test_the_right_order_fits_other_annotators_and_missing_classes_too(scale, shift, classes):
    shown = shown_by(classes=classes)
    found = by_valence_arousal(shown, *(scale * each + shift for each in annotated(shown)), "Annotation")
    assert (found.verdict, found.shows) == ("correct", {})


def test_two_swapped_classes_are_named():
    shown = shown_by()
    happy, sad = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
    label = np.where(shown == happy, sad, np.where(shown == sad, happy, shown))
    found = by_valence_arousal(label, *annotated(shown), "Annotation")
    predicted = by_predictions(label, shown, EMOTIONS, "Net")
    assert found.shows == predicted.shows == {"happiness": "sadness", "sadness": "happiness"}
    assert "100 % of happiness are predicted as sadness" in predicted.sentence


def test_too_little_evidence_calls_nothing_wrong():
    weak = {EMOTIONS.index("disgust"): EMOTIONS.index("anger"), EMOTIONS.index("contempt"): EMOTIONS.index("neutral")}
    predicted = np.array([weak.get(each, each) for each in shown_by().tolist()])
    found = by_predictions(shown_by(), predicted, EMOTIONS, "Net")
    assert (found.wrong, found.shows) == (False, {})
    blank, noise = np.full(100, np.nan), np.random.default_rng(9).integers(0, 8, 4000)
    assert by_valence_arousal(np.zeros(100, np.int64), blank, blank, "Annotation") is None
    few = by_valence_arousal(np.array([0, 1]), np.zeros(2), np.zeros(2), "Annotation")
    assert few.verdict == by_predictions(shown_by(), noise, EMOTIONS, "Net").verdict == "undecided"
