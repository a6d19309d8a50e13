"""An installation that cannot train says what to install."""

from importlib import metadata

import pytest

from emodet import laboratory


def test_a_whole_installation_passes():
    laboratory.require_laboratory("emodet.train")


def test_missing_packages_are_named_with_the_extra(monkeypatch, capsys):
    real = laboratory.find_spec
    monkeypatch.setattr(laboratory, "find_spec", lambda name: None if name in ("torch", "hydra") else real(name))
    with pytest.raises(SystemExit) as stop:
        laboratory.require_laboratory("emodet.train")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "torch, hydra" in message
    assert "emodet[train]" in message


def test_two_builds_of_opencv_must_have_one_version(monkeypatch, capsys):
    real = metadata.version
    versions = {"opencv-python": "5.0.0.93", "opencv-python-headless": "4.12.0.88"}
    monkeypatch.setattr(metadata, "version", lambda name: versions.get(name) or real(name))
    with pytest.raises(SystemExit) as stop:
        laboratory.require_laboratory("emodet.train")
    assert stop.value.code == 2
    assert "opencv-python-headless==5.0.0.93 opencv-python==5.0.0.93" in capsys.readouterr().err
