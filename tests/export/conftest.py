"""Small nets, exported once: without and with a valence/arousal head."""

import pytest
import torch
from made_teachers import made_classifier


@pytest.fixture(scope="package")
def classifier():
    """Its temperature follows the sharpness."""
    made = made_classifier()
    made.temperature_slope.copy_(torch.tensor([-0.4, 0.2]))
    return made


@pytest.fixture(scope="package")
def exported(classifier):
    return exported_of(classifier)


@pytest.fixture(scope="package")
def both():
    classifier = made_classifier(valence_arousal=1.0)
    return classifier, exported_of(classifier)


def exported_of(classifier):
    from emodet.export.graph import to_onnx

    return to_onnx(classifier)


@pytest.fixture(scope="package")
def faces(classifier):
    """uint8 (40, 48, 48, 3): drawn faces."""
    from emodet.export.model_files import drawn_crops

    return drawn_crops(classifier, 40)
