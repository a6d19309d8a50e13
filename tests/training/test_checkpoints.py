"""Checkpoints and plain weights with a card: they run no code, are written whole or not at all, and rebuild a net.

Started from, rows of the last layer are carried over by name.
"""

import json
import os
import pickle
import resource
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_classifiers import RESIDUAL, card_of
from made_classifiers import made as made_classifier

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.modelfile import TrainingData
from emodet.training.checkpoints import (
    AtomicCheckpointIO,
    load_classifier,
    load_weights,
    read_card,
    read_checkpoint,
    save_weights,
    set_temperature,
    write_weights,
)
from emodet.training.trained import init_from, load_trained

SEVEN, BACKWARDS = list(EMOTIONS[:7]), list(reversed(EMOTIONS))


def made(**settings):
    return made_classifier(**{"class_names": list(EMOTIONS), **settings})


def save(classifier, file):
    torch.save({"hyper_parameters": dict(classifier.hparams), "state_dict": classifier.state_dict()}, file)
    return file


class Marks:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_file_with_code_is_refused_and_does_not_run(tmp_path, form):
    marker, file = tmp_path / "it_ran", tmp_path / "evil.ckpt"
    content = {"state_dict": {"a": torch.zeros(2)}, "hyper_parameters": Marks(marker)}
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(Marks(marker)))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    for read in (read_checkpoint, load_classifier, lambda path: init_from(made(), path)):
        with pytest.raises(EmodetError, match=r"evil\.ckpt: refused, .*more than plain data"):
            read(file)
    assert not marker.exists()
    with file.open("rb") as stream:  # the trap is a real one
        pickle.load(stream) if form == "bare pickle" else torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state_dict": None}, r"has no 'hyper_parameters'; weights alone can be used with init_from="),
        ({"hyper_parameters": {"net": {"_target_": RESIDUAL}}}, "is not one of an emotion classifier"),
        ({"hyper_parameters": {"net": {"_target_": "os.system"}, "class_names": ["a", "b"]}}, r"os\.system: refused"),
        ({"hyper_parameters": [1]}, "is not one of an emotion classifier"),
        ({"hyper_parameters": {"net": "x"}}, "is not one of an emotion classifier"),
        ({"train_metrics": {"loss": torch.zeros(2)}}, "is not one of an emotion classifier"),
        ({"state_dict": {"net.stages.0.0.weight": torch.zeros(1)}}, "is not one of an emotion classifier"),
        ({"state_dict": {"net.stages.0.0.weight": torch.tensor([0, torch.nan])}}, "holds NaN"),
        ({"state_dict": {"temperature": torch.ones((), device="meta")}}, "temperature is not a plain tensor"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, change, message):
    classifier = made()
    content = {"hyper_parameters": dict(classifier.hparams), "state_dict": classifier.state_dict()} | change
    if change == {"state_dict": None}:
        content = classifier.net.state_dict()
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(EmodetError, match=message):
        load_classifier(tmp_path / "other.ckpt")


def test_a_full_disk_leaves_the_last_good_file(tmp_path):
    """As a full disk does, a limit on the size of files lets writing fail in the middle."""
    file, new = save(made(), tmp_path / "last.ckpt"), tmp_path / "new.ckpt"
    good, content = file.read_bytes(), read_checkpoint(file)
    writes = [
        (file, lambda: set_temperature(file, 2.0)),
        (file, lambda: save_weights(made().net, file)),
        *((each, lambda each=each: AtomicCheckpointIO().save_checkpoint(content, each)) for each in (file, new)),
    ]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        for written, write in writes:
            with pytest.raises(EmodetError, match=rf"{written.name}: could not be written, is the disk full\?"):
                write()
            assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("last.ckpt", good)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def classifier():
    preprocessing = {"size": 48, "colour": "grey", "std": [0.2, 0.3, 0.4]}
    classifier = made(class_names=SEVEN, preprocessing=preprocessing, valence_arousal=0.5)
    classifier.temperature.fill_(1.3)
    return classifier.eval()


@pytest.fixture
def card(classifier):
    terms, metrics = (TrainingData("drawn faces", "none"),), {"val": {"accuracy": 0.5, "faces": 24.0}}
    known = {"training_data": terms, "metrics": metrics, "commit": "abc", "fingerprint": "f" * 64}
    return card_of(classifier, temperature=1.3, **known)


def test_weights_and_card_rebuild_the_net(classifier, card, tmp_path):
    file = tmp_path / "weights.pt"
    assert write_weights(classifier, card, file) == tmp_path / "weights.json"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["weights.json", "weights.pt"]
    assert set(torch.load(file, weights_only=True)) == set(classifier.net.state_dict())
    trained = load_trained(file)
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8))
    again = load_classifier(save(classifier, tmp_path / "a.ckpt"))
    for each, answer in product((trained.classifier, again), ("probabilities", "predict_heads")):
        with torch.inference_mode():
            torch.testing.assert_close(getattr(each, answer)(crops), getattr(classifier, answer)(crops))
    assert trained.classifier.preprocessing == classifier.preprocessing
    assert trained.classifier.class_names == EMOTIONS[:7]
    assert (trained.card.commit, trained.card.fingerprint, trained.card.metrics) == ("abc", "f" * 64, card.metrics)
    assert trained.card.training_data == card.training_data
    # And from what was read the same card can be written again.
    write_weights(trained.classifier, trained.card, tmp_path / "again.pt")
    first, again = (json.loads((tmp_path / name).read_text()) for name in ("weights.json", "again.json"))
    assert {**again, "weights_sha256": ""} == {**first, "weights_sha256": ""}


def test_weights_of_another_card_or_without_one_are_refused(classifier, card, tmp_path):
    file = tmp_path / "weights.pt"
    card_file = write_weights(classifier, card, file)
    other = {name: tensor + 1 for name, tensor in classifier.net.state_dict().items()}
    torch.save(other, file)
    with pytest.raises(EmodetError, match=r"not the file that weights\.json was written for"):
        load_weights(file)
    card_file.unlink()
    with pytest.raises(EmodetError, match=r"no weights\.json beside it"):
        load_weights(file)
    with pytest.raises(EmodetError, match="no such file"):
        load_weights(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not of the format"),
        ({"version": 2}, "version 2; this emodet reads version 1"),
        ({"more": 1}, "unknown \\['more'\\]"),
        ({"class_names": None}, "damaged"),
        ({"commit": "\ud800"}, "damaged"),
        ({"training_data": [{"name": "x"}]}, "damaged"),
    ],
)
def test_a_damaged_card_is_refused(classifier, card, tmp_path, change, message):
    place = write_weights(classifier, card, tmp_path / "weights.pt")
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(EmodetError, match=message):
        read_card(tmp_path / "weights.pt")
    place.write_text("{")
    with pytest.raises(EmodetError, match="damaged"):
        read_card(tmp_path / "weights.pt")


def saved(classifier, folder, kind):
    if kind == "checkpoint":
        return save(classifier, folder / "a.ckpt")
    write_weights(classifier, card_of(classifier), folder / "weights.pt")
    if kind == "weights alone":
        (folder / "weights.json").unlink()
    return folder / "weights.pt"


def layers(classifier):
    return {name: tensor.clone() for name, tensor in classifier.net.state_dict().items()}


def outputs(classifier):
    return [*classifier.class_names, *(["valence", "arousal"] if classifier.has_va_head else [])]


WIDE = {"_target_": RESIDUAL, "channels": [4, 7], "stage_dropout": [0.1, 0.1], "features": 6}


CHANGES = [
    ({}, {}),
    ({}, {"valence_arousal": 1.0}),
    ({"valence_arousal": 0.5}, {"valence_arousal": 0}),
    ({"class_names": SEVEN, "valence_arousal": 1.0}, {"valence_arousal": 2.0}),
    # A wide layer of seven rows: rows per class are found by what they are for, not by their number.
    ({"net": WIDE, "class_names": BACKWARDS}, {"net": WIDE, "class_names": SEVEN}),
]


@pytest.mark.parametrize(
    ("kind", "given", "own"),
    [("weights alone", {}, {}), *((kind, *each) for kind in ("checkpoint", "with a card") for each in CHANGES)],
)
def test_rows_of_the_last_layer_are_carried_over_by_name(tmp_path, kind, given, own):
    trained, classifier = made(seed=1, **given), made(seed=2, **own)
    fresh = layers(classifier)
    notes = init_from(classifier, saved(trained, tmp_path, kind))
    there, wanted = outputs(trained), outputs(classifier)
    lacking = ", ".join(name for name in wanted if name not in there)
    assert len(notes) == (1 if there == wanted else 3)
    assert all((note.partition("; ")[2] == f"fresh rows for {lacking}") == bool(lacking) for note in notes[1:])
    for name, tensor in layers(classifier).items():
        expected = layers(trained)[name]
        if name.startswith("head.5."):
            rows = [expected[there.index(each)] if each in there else fresh[name][n] for n, each in enumerate(wanted)]
            expected = torch.stack(rows)
        assert torch.equal(tensor, expected), name


def test_weights_of_another_net_are_refused(tmp_path):
    file = saved(made(), tmp_path, "checkpoint")
    with pytest.raises(EmodetError, match=r"init_from=.*another net; differing names: head"):
        init_from(made(net={"_target_": "emodet.models.face_mobilenet.FaceMobileNet"}), file)
    with pytest.raises(EmodetError, match=r"init_from=.*stages\S+ has shape \(\d.*this net needs \(8"):
        init_from(made(net={**WIDE, "channels": [8, 4]}), file)
    plain = made(seed=2)
    before = layers(plain)
    with pytest.raises(EmodetError, match=r"training\.valence_arousal=1 .*training\.valence_arousal=0"):
        init_from(plain, saved(made(seed=1, valence_arousal=0.5), tmp_path, "checkpoint"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers(plain).items())
