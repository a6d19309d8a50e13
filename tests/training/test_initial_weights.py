"""Nets with and without valence and arousal as each other's start: what is carried, stays fresh, or is refused."""

import json

import pytest
import torch
from made_teachers import card_of
from test_checkpoints import made, save

from emodet.emotions import chosen_classes
from emodet.errors import EmodetError
from emodet.training.checkpoints import load_classifier, load_weights, write_weights
from emodet.training.trained import init_from

KINDS = ["checkpoint", "weights with their card"]


def saved(classifier, folder, kind):
    if kind == "checkpoint":
        return save(classifier, folder / "a.ckpt")
    write_weights(classifier, card_of(classifier), folder / "weights.pt")
    return folder / "weights.pt"


def layers(classifier):
    return {name: tensor.clone() for name, tensor in classifier.net.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_net_into_one_with_the_head(tmp_path, kind):
    trained, classifier = made(seed=1), made(seed=2, valence_arousal=1.0)
    fresh, given = layers(classifier), layers(trained)
    notes = init_from(classifier, saved(trained, tmp_path, kind))
    assert [note.partition("; ")[2] for note in notes[1:]] == ["fresh rows for valence, arousal"] * 2
    own = layers(classifier)
    for name in ("head.5.weight", "head.5.bias"):
        assert torch.equal(own[name][:8], given[name])
        assert torch.equal(own[name][8:], fresh[name][8:])
    assert all(torch.equal(own[name], given[name]) for name in own if not name.startswith("head.5."))


@pytest.mark.parametrize("kind", KINDS)
def test_one_with_the_head_into_a_plain_net_has_to_be_meant(tmp_path, kind):
    trained = made(seed=1, valence_arousal=0.5)
    file = saved(trained, tmp_path, kind)
    plain = made(seed=2)
    before = layers(plain)
    with pytest.raises(EmodetError, match=r"training\.valence_arousal=1 .*training\.valence_arousal=0"):
        init_from(plain, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers(plain).items())
    without = made(seed=2, valence_arousal=0)
    assert len(init_from(without, file)) == 3
    given, own = layers(trained), layers(without)
    assert torch.equal(own["head.5.weight"], given["head.5.weight"][:8])
    assert torch.equal(own["head.1.weight"], given["head.1.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_both_with_the_head_and_other_classes_go_by_name(tmp_path, kind):
    trained, classifier = made(7, seed=1, valence_arousal=1.0), made(8, seed=2, valence_arousal=2.0)
    notes = init_from(classifier, saved(trained, tmp_path, kind))
    assert [note.partition("; ")[2] for note in notes[1:]] == ["fresh rows for contempt"] * 2
    given, own = layers(trained)["head.5.weight"], layers(classifier)["head.5.weight"]
    assert torch.equal(own[:7], given[:7])
    assert torch.equal(own[8:], given[7:])


@pytest.mark.parametrize("kind", KINDS)
def test_eight_classes_to_seven_go_by_name(tmp_path, kind):
    # A wide layer of seven rows: rows per class are found by what they are for, not by their number.
    backwards = list(reversed(chosen_classes(8)))
    trained = made(8, seed=1, channels=(4, 7), class_names=backwards)
    classifier = made(7, seed=2, channels=(4, 7))
    assert not any("fresh" in note for note in init_from(classifier, saved(trained, tmp_path, kind)))
    given, own = layers(trained), layers(classifier)
    rows = [backwards.index(name) for name in chosen_classes(7)]
    for name in own:
        assert torch.equal(own[name], given[name][rows] if name.startswith("head.5.") else given[name]), name


def test_a_net_with_the_head_comes_back_whole(tmp_path):
    trained = made(seed=1, valence_arousal=0.5).eval()
    image = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    expected = trained.predict_heads(image)
    both = load_classifier(saved(trained, tmp_path, "checkpoint")), load_weights(saved(trained, tmp_path, ""))[0]
    for again in both:
        for one, other in zip(expected, again.predict_heads(image), strict=True):
            torch.testing.assert_close(one, other)
    # A card of before there was such a head.
    card_file = tmp_path / "weights.json"
    plain = saved(made(seed=1), tmp_path, "")
    values = json.loads(card_file.read_text())
    del values["valence_arousal"]
    card_file.write_text(json.dumps(values))
    assert load_weights(plain)[0].predict_heads(image)[1] is None
