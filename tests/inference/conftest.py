"""Made model files, pictures and videos that several tests of this room use."""

import pytest
from made_videos import moving_face, write_video

from emodet.inference.recognizer import Recognizer


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path_factory):
    monkeypatch.delenv("EMODET_YUNET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def recognizer(model_path):
    return Recognizer(model_path, detector="centerface", threads=1)


@pytest.fixture(scope="session")
def video_path(astronaut, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "moving.avi", moving_face(astronaut, 24))
