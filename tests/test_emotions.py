"""The one class order, and the ways of other data sets into it."""

import pytest

from emodet.emotions import (
    ALPHABETICAL_ORDER,
    EMOTIONS,
    FER2013_ORDER,
    FERPLUS_ORDER,
    NOT_EMOTIONS,
    RAFDB_ORDER,
    chosen_classes,
    emotion_id,
    emotion_name,
    ids_of,
    place_of,
)
from emodet.errors import EmodetError


def test_ids_are_those_of_affectnet_and_each_name_means_itself():
    """Written out, not computed: Mollahosseini et al. 2017, table 3."""
    assert " ".join(EMOTIONS) == "neutral happiness sadness surprise fear disgust anger contempt"
    assert NOT_EMOTIONS == ("none", "uncertain", "no-face")
    assert [emotion_name(name) for name in (*EMOTIONS, *NOT_EMOTIONS)] == [*EMOTIONS, *NOT_EMOTIONS]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        (ALPHABETICAL_ORDER, (6, 7, 5, 4, 1, 0, 2, 3)),
        (FERPLUS_ORDER, (0, 1, 3, 2, 6, 5, 4, 7)),
        (FER2013_ORDER, (6, 5, 4, 1, 2, 3, 0)),
        (RAFDB_ORDER, (3, 4, 5, 1, 2, 6, 0)),
        (("Anger", "disgust", "fear", "happy", "sad", "surprise", "neutral", "none"), (6, 5, 4, 1, 2, 3, 0, None)),
    ],
)
def test_foreign_orders_are_translated_by_name(order, ids):
    assert ids_of(order) == ids


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
        assert emotion_name(word) == name
        assert emotion_id(word) == (EMOTIONS.index(name) if name in EMOTIONS else None)


@pytest.mark.parametrize("word", ["", "boredom", "0", "0_", "3", "_neutral", "neutral_0"])
def test_an_unknown_word_is_refused_with_the_known_ones(word):
    with pytest.raises(EmodetError, match="unknown") as caught:
        emotion_id(word)
    assert repr(word) in str(caught.value)
    assert "happy" in str(caught.value)


def test_an_order_that_names_a_class_twice_is_refused():
    with pytest.raises(EmodetError, match="happiness more than once"):
        ids_of(["happy", "neutral", "joy"])


def test_classes_are_chosen_by_number_or_name_and_found_by_another_name_of_the_same_emotion():
    assert chosen_classes(8) == EMOTIONS
    assert chosen_classes(7) == EMOTIONS[:7]
    assert chosen_classes(["bored", "very engaged"]) == ("bored", "very engaged")
    assert place_of("Bored", ("engaged", "bored")) == 1
    assert place_of("happy", EMOTIONS) == EMOTIONS.index("happiness")
    assert place_of("anger", ("bored", "angry")) == 1
    assert place_of("none", ("no-face", "fear")) is None
    assert place_of("engaged", EMOTIONS) is None


@pytest.mark.parametrize(
    "classes", [6, True, ["one"], ["a", "A"], ["a", ""], ["a", " b"], ["a", "b/c"], ["a", "b,c"], ["a", "uncertain"]]
)
def test_what_cannot_be_classes_is_refused(classes):
    with pytest.raises(EmodetError, match=r"data\.classes="):
        chosen_classes(classes)
