"""Plain weights with a card: all it takes to rebuild a net, and nothing that does not belong together."""

import json

import numpy as np
import pytest
import torch
from made_teachers import card_of

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.modelfile import TrainingData
from emodet.models.classifier import EmotionClassifier
from emodet.training.checkpoints import load_weights, read_card, write_weights
from emodet.training.trained import load_trained


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    made = EmotionClassifier(
        net={"name": "residual_cnn", "channels": [4, 4, 8, 8], "features": 8},
        class_names=list(EMOTIONS[:7]),
        preprocessing={"size": 48, "colour": "grey", "std": [0.2, 0.3, 0.4]},
    )
    made.temperature.fill_(1.3)
    return made.eval()


@pytest.fixture
def card(classifier):
    terms, metrics = (TrainingData("drawn faces", "none"),), {"val": {"accuracy": 0.5, "faces": 24.0}}
    return card_of(
        classifier, temperature=1.3, training_data=terms, metrics=metrics, commit="abc", fingerprint="f" * 64
    )


def test_a_net_comes_back_from_weights_and_card_alone(classifier, card, tmp_path):
    file = tmp_path / "weights.pt"
    assert write_weights(classifier, card, file) == tmp_path / "weights.json"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["weights.json", "weights.pt"]
    assert set(torch.load(file, weights_only=True)) == set(classifier.net.state_dict())
    trained = load_trained(file)
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8))
    with torch.inference_mode():
        torch.testing.assert_close(trained.classifier.probabilities(crops), classifier.probabilities(crops))
    assert trained.classifier.preprocessing == classifier.preprocessing
    assert trained.classifier.class_names == EMOTIONS[:7]
    assert (trained.card.commit, trained.card.fingerprint, trained.card.metrics) == ("abc", "f" * 64, card.metrics)
    assert trained.card.training_data == card.training_data
    # And from what was read the same card can be written again.
    write_weights(trained.classifier, trained.card, tmp_path / "again.pt")
    first, again = (json.loads((tmp_path / name).read_text()) for name in ("weights.json", "again.json"))
    assert {**again, "weights_sha256": ""} == {**first, "weights_sha256": ""}


def test_weights_of_another_card_are_refused(classifier, card, tmp_path):
    file = tmp_path / "weights.pt"
    write_weights(classifier, card, file)
    other = {name: tensor + 1 for name, tensor in classifier.net.state_dict().items()}
    torch.save(other, file)
    with pytest.raises(EmodetError, match=r"not the file that weights\.json was written for"):
        load_weights(file)


def test_weights_without_a_card_say_what_is_missing(classifier, card, tmp_path):
    file = tmp_path / "weights.pt"
    write_weights(classifier, card, file).unlink()
    with pytest.raises(EmodetError, match=r"no weights\.json beside it"):
        load_weights(file)
    with pytest.raises(EmodetError, match="no such file"):
        load_weights(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not of the format"),
        ({"version": 2}, "version 2; this emodet reads version 1"),
        ({"more": 1}, "damaged"),
        ({"class_names": None}, "damaged"),
        ({"training_data": [{"name": "x"}]}, "damaged"),
    ],
)
def test_a_card_that_is_none_is_refused(classifier, card, tmp_path, change, message):
    place = write_weights(classifier, card, tmp_path / "weights.pt")
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(EmodetError, match=message):
        read_card(tmp_path / "weights.pt")
    place.write_text("{")
    with pytest.raises(EmodetError, match="damaged"):
        read_card(tmp_path / "weights.pt")
