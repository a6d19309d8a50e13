"""The order of the classes, and the names and orders of other data sets."""

import pytest

from emodet import emotions
from emodet.emotions import EMOTIONS, NOT_EMOTIONS
from emodet.errors import EmodetError


def test_ids_are_those_of_affectnet():
    """Written out, not computed: Mollahosseini et al. 2017, table 3."""
    assert " ".join(EMOTIONS) == "neutral happiness sadness surprise fear disgust anger contempt"
    assert NOT_EMOTIONS == ("none", "uncertain", "no-face")
    assert [emotions.emotion_name(name) for name in (*EMOTIONS, *NOT_EMOTIONS)] == [*EMOTIONS, *NOT_EMOTIONS]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        (emotions.ALPHABETICAL_ORDER, (6, 7, 5, 4, 1, 0, 2, 3)),
        (emotions.FERPLUS_ORDER, (0, 1, 3, 2, 6, 5, 4, 7)),
        (emotions.FER2013_ORDER, (6, 5, 4, 1, 2, 3, 0)),
        (emotions.RAFDB_ORDER, (3, 4, 5, 1, 2, 6, 0)),
        (("Anger", "disgust", "fear", "happy", "sad", "surprise", "neutral", "none"), (6, 5, 4, 1, 2, 3, 0, None)),
    ],
)
def test_foreign_orders_are_translated_by_name(order, ids):
    assert emotions.ids_of(order) == ids


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["Happy", "  HAPPINESS ", "joy"], "happiness"),
        (["sad"], "sadness"),
        (["suprise"], "surprise"),
        (["Fearful"], "fear"),
        (["0_neutral"], "neutral"),
        (["07_contempt"], "contempt"),
        (["AN"], "anger"),
        (["no face", "no_face", "10_no-face", "NF"], "no-face"),
        (["8_none"], "none"),
        (["Uncertain"], "uncertain"),
    ],
)
def test_words_of_other_data_sets(words, name):
    for word in words:
        assert emotions.emotion_name(word) == name
        assert emotions.emotion_id(word) == (EMOTIONS.index(name) if name in EMOTIONS else None)


@pytest.mark.parametrize("word", ["", "boredom", "0", "0_", "3", "_neutral", "neutral_0"])
def test_an_unknown_word_is_refused_with_the_known_ones(word):
    with pytest.raises(EmodetError, match="unknown") as caught:
        emotions.emotion_id(word)
    assert repr(word) in str(caught.value)
    assert "happy" in str(caught.value)


def test_an_order_that_names_a_class_twice_is_refused():
    with pytest.raises(EmodetError, match="happiness more than once"):
        emotions.ids_of(["happy", "neutral", "joy"])


def test_classes_are_chosen_by_number_or_name():
    assert emotions.chosen_classes(8) == EMOTIONS
    assert emotions.chosen_classes(7) == EMOTIONS[:7]
    assert emotions.chosen_classes(["bored", "very engaged"]) == ("bored", "very engaged")
    assert emotions.place_of("Bored", ("engaged", "bored")) == 1
    assert emotions.place_of("happy", EMOTIONS) == EMOTIONS.index("happiness")
    assert emotions.place_of("anger", ("bored", "angry")) == 1
    assert emotions.place_of("none", ("no-face", "fear")) is None
    assert emotions.place_of("engaged", EMOTIONS) is None


@pytest.mark.parametrize(
    "classes", [6, True, ["one"], ["a", "A"], ["a", ""], ["a", " b"], ["a", "b/c"], ["a", "b,c"], ["a", "uncertain"]]
)
def test_invalid_classes_are_refused(classes):
    with pytest.raises(EmodetError, match=r"data\.classes="):
        emotions.chosen_classes(classes)
