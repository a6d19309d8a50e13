"""Small nets, exported once: without and with a valence/arousal head."""

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
def both():
    """Classifier, program and ONNX model with both outputs."""
    from emodet.export.graph import to_onnx, to_program

    classifier = made_classifier(valence_arousal=1.0)
    program = to_program(classifier)
    return classifier, program, to_onnx(program)


@pytest.fixture(scope="package")
def faces(classifier):
    """uint8 (40, 48, 48, 3): drawn faces and noise."""
    from emodet.export.model_files import example_crops

    return example_crops(classifier, 40)
