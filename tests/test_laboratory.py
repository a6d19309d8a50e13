"""An installation that cannot train says what to install."""

from importlib import metadata

import pytest

from emodet import laboratory
from emodet.errors import EmodetError


def test_a_whole_installation_passes():
    laboratory.require_laboratory("train")


def test_missing_packages_are_named_with_the_extra(monkeypatch, capsys):
    real = laboratory.find_spec
    monkeypatch.setattr(laboratory, "find_spec", lambda name: None if name in ("torch", "hydra") else real(name))
    with pytest.raises(SystemExit) as stop:
        laboratory.begin("train", "emodet.train", "Train.")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    for part in ("torch, hydra", "pip install 'emodet[train]'", "pip install -e '.[train]'"):
        assert part in message


def test_two_builds_of_opencv_must_have_one_version(monkeypatch):
    real = metadata.version
    versions = {"opencv-python": "5.0.0.93", "opencv-python-headless": "4.12.0.88"}
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))
    with pytest.raises(EmodetError, match=r"opencv-python-headless==5.0.0.93 opencv-python==5.0.0.93"):
        laboratory.require_laboratory("train")
