"""Checkpoints: read without running what they bring, written whole or not at all, weights carried over by name."""

import os
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from made_classifiers import RESIDUAL, made

from emodet.errors import EmodetError
from emodet.training.checkpoints import (
    AtomicCheckpointIO,
    load_classifier,
    read_checkpoint,
    save_weights,
    set_temperature,
)
from emodet.training.trained import init_from


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
def test_a_file_that_brings_code_is_refused_and_its_code_does_not_run(tmp_path, form):
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
        ({"hyper_parameters": [1]}, "is not one of an emotion classifier"),
        ({"hyper_parameters": {"net": "x"}}, "is not one of an emotion classifier"),
        ({"state_dict": {"net.stages.0.0.weight": torch.zeros(1)}}, "is not one of an emotion classifier"),
        ({"state_dict": {"net.stages.0.0.weight": torch.tensor([0, torch.nan])}}, "holds NaN"),
        ({"state_dict": {"temperature": torch.ones((), device="meta")}}, "temperature is not a plain tensor"),
    ],
)
def test_checkpoints_of_something_else(tmp_path, change, message):
    classifier = made()
    content = {"hyper_parameters": dict(classifier.hparams), "state_dict": classifier.state_dict()} | change
    if change == {"state_dict": None}:
        content = classifier.net.state_dict()
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(EmodetError, match=message):
        load_classifier(tmp_path / "other.ckpt")


@contextmanager
def room_for(size):
    """No file may grow beyond `size` bytes: what a disk does when it is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_good_file(tmp_path):
    file = save(made(), tmp_path / "last.ckpt")
    good = file.read_bytes()
    content = read_checkpoint(file)
    writes = [
        lambda: set_temperature(file, 2.0),
        lambda: save_weights(made().net, file),
        lambda: AtomicCheckpointIO().save_checkpoint(content, file),
    ]
    for write in writes:
        with (
            room_for(4000),
            pytest.raises(EmodetError, match=r"last\.ckpt: could not be written, is the disk full\?.*kept"),
        ):
            write()
        assert file.read_bytes() == good
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    with room_for(4000), pytest.raises(EmodetError, match=r"new\.ckpt: could not be written"):
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / "new.ckpt")
    assert not (tmp_path / "new.ckpt").exists()


def test_starting_from_weights_without_a_card(tmp_path):
    trained, classifier = made(seed=1), made(seed=2)
    save_weights(trained.net, tmp_path / "trained")
    assert len(init_from(classifier, tmp_path / "trained")) == 1
    for name, tensor in trained.net.state_dict().items():
        assert torch.equal(tensor, classifier.net.state_dict()[name]), name
