"""A small net, exported once."""

import pytest
from made_classifier import made_classifier


@pytest.fixture(scope="package")
def classifier():
    return made_classifier()


@pytest.fixture(scope="package")
def program(classifier):
    from emodet.export.graph import to_program

    return to_program(classifier)


@pytest.fixture(scope="package")
def exported(program):
    from emodet.export.graph import to_onnx

    return to_onnx(program)


@pytest.fixture(scope="package")
def faces(classifier):
    """uint8 (40, 48, 48, 3): drawn faces and noise."""
    from emodet.export.model_set import example_crops

    return example_crops(classifier, 40)
