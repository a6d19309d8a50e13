"""net=face_resnet: dlib's descriptor net. The tests of its weights run where `face-recognition-models` is installed."""

import importlib.util

import numpy as np
import pytest
import torch

from emodet.errors import EmodetError
from emodet.models.face_resnet import FaceResNet
from emodet.models.nets import build_net
from emodet.preprocessing import Preprocessing

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("face_recognition_models") is None, reason="face-recognition-models is not installed"
)


def drawn_face(size=112):
    """An oval with eyes, brows and mouth on a gradient, uint8 (1, size, size, 3) RGB, without a random number."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.stack([70 + 40 * y, 80 + 30 * x, 95 + 20 * y * x], axis=2)
    image[((x - 0.5) / 0.36) ** 2 + ((y - 0.52) / 0.46) ** 2 < 1] = (205, 165, 140)
    for centre in (0.36, 0.64):
        image[((x - centre) / 0.07) ** 2 + ((y - 0.42) / 0.035) ** 2 < 1] = (60, 40, 35)
        image[(abs(x - centre) < 0.09) & (abs(y - 0.33) < 0.015)] = (80, 55, 45)
    image[((x - 0.5) / 0.14) ** 2 + ((y - 0.74) / 0.04) ** 2 < 1] = (170, 70, 75)
    image[(abs(x - 0.5) < 0.025) & (y > 0.45) & (y < 0.62)] = (190, 145, 120)
    return image.astype(np.uint8)[None]


def normalised(**preprocessing):
    return torch.from_numpy(Preprocessing.from_dict({"size": 112, **preprocessing}).normalise(drawn_face()))


def test_gives_logits_for_crops_of_any_size_or_from_a_smallest_one():
    net = build_net({"name": "face_resnet", "pretrained": False}, 7, Preprocessing().to_dict()).eval()
    for size in (48, 112, 150):
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 7)
    assert sum(weights.numel() for weights in net.parameters()) == pytest.approx(5.55e6, rel=0.01)
    net = FaceResNet(pretrained=False, input_size=None).eval()  # does not resize
    assert net(torch.zeros(1, 3, 103, 103)).shape == (1, 8)
    with pytest.raises(EmodetError, match=r"preprocessing\.size=102.*103"):
        net(torch.zeros(1, 3, 102, 102))
    with pytest.raises(EmodetError, match=r"net\.input_size=64"):
        FaceResNet(pretrained=False, input_size=64)


def test_the_normalisation_of_the_crops_does_not_matter():
    """Fixed means and deviations are undone exactly."""
    one, other = (
        FaceResNet(pretrained=False, preprocessing=Preprocessing(mean=mean, std=std).to_dict()).eval()
        for mean, std in (((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.1)))
    )
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        first = one(normalised())
        second = other(normalised(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.1]))
    assert torch.allclose(first, second, atol=1e-4)


@needs_weights
def test_pretrained_features_of_a_drawn_face():
    net = FaceResNet(pretrained=True).eval()
    with torch.no_grad():
        features = net.pooled_features(normalised())[0]
    # As dlib's own net gives them, but for float32's rounding.
    assert features[:5].tolist() == pytest.approx([1.86726, 1.16494, 0.65960, 2.28711, 2.41391], abs=1e-4)
    assert float(features.sum()) == pytest.approx(168.614, abs=0.01)


def test_another_file_is_refused_and_nothing_imported(tmp_path, monkeypatch):
    package = tmp_path / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EmodetError, match=r"net\.pretrained=true.*SHA-256"):
        FaceResNet(pretrained=True)
