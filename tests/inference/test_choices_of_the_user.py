"""Choices that change answers, not the model: the prior and the least confidence."""

import numpy as np
import pytest
from model_stub import graph, info

from emodet.errors import EmodetError
from emodet.inference.recognizer import BALANCE, Recognizer
from emodet.modelfile import write_model_file

SHARES = (0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.03, 0.01)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    return write_model_file(graph(sharpness=3.0), info(class_shares=SHARES, min_confidence=0.6), folder / "stub.onnx")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def test_a_balanced_prior_favours_rare_classes_by_a_known_amount(path, crops):
    trained, balanced = (
        Recognizer(path, detector="none", prior=each, min_confidence=0).crops(crops) for each in ("trained", "balanced")
    )
    for one, other in zip(trained, balanced, strict=True):
        expected = np.array(list(one.probabilities.values())) / np.array(SHARES) ** BALANCE
        np.testing.assert_allclose(list(other.probabilities.values()), expected / expected.sum(), rtol=1e-4)
        assert other.probabilities[other.emotion] == other.confidence


def test_the_model_file_s_own_least_confidence(path):
    assert Recognizer(path, detector="none", min_confidence="auto").min_confidence == 0.6


def test_a_model_file_that_does_not_know_them(model_path):
    for wrong in ({"prior": "balanced"}, {"min_confidence": "auto"}, {"prior": "uniform"}, {"min_confidence": "high"}):
        ((name, value),) = wrong.items()
        with pytest.raises(EmodetError, match=f"{name}=.*{value}"):
            Recognizer(model_path, detector="none", **wrong)
