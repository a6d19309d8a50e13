"""net=face_mobilenet, here with a made file of weights, and face_resnet, dlib's net of `face-recognition-models`."""

import hashlib
import importlib.util
import json
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emodet.errors import EmodetError
from emodet.models import face_mobilenet
from emodet.models.face_mobilenet import FaceMobileNet, read_faceres
from emodet.models.face_resnet import FaceResNet
from emodet.preprocessing import Preprocessing

CHANNELS = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]


@pytest.fixture
def faceres(tmp_path, monkeypatch):
    """Random weights of faceres.bin's layout: float16 values in the manifest's order, and an integer."""
    shapes = {"conv1/convolution/merged_input": [3, 3, 3, 32], "conv1_bn/batchnorm_1/sub": [32]}
    before = 32
    for number, after in enumerate(CHANNELS, start=1):
        shapes[f"conv_dw_{number}/depthwise_kernel"] = [3, 3, before, 1]
        shapes |= {f"conv_dw_{number}_bn/batchnorm_1/{part}": [before] for part in ("mul", "sub")}
        shapes[f"conv_pw_{number}/convolution/merged_input"] = [1, 1, before, after]
        shapes[f"conv_pw_{number}_bn/batchnorm_1/sub"] = [after]
        before = after
    rng = np.random.default_rng(0)
    data = b"".join(rng.normal(0, 0.3, shape).astype(np.float16).tobytes() for shape in shapes.values())
    listed = [{"name": name, "shape": shape, "quantization": {}} for name, shape in shapes.items()]
    listed.append({"name": "axis", "shape": [2]})
    data += np.array([1, 2], np.int32).tobytes()
    (tmp_path / "faceres.json").write_text(json.dumps({"weightsManifest": [{"weights": listed}]}))
    (tmp_path / "faceres.bin").write_bytes(data)
    monkeypatch.setattr(face_mobilenet, "SHA256", hashlib.sha256(data).hexdigest())
    return tmp_path / "faceres.bin"


@pytest.mark.parametrize("contrast", ["crop", "fixed"])
def test_pretrained_weights_keep_their_function(faceres, contrast):
    preprocessing = Preprocessing(contrast=contrast)
    net = FaceMobileNet(pretrained=str(faceres), input_size=64, preprocessing=preprocessing.to_dict()).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = x
    for layer, (weight, bias) in zip(net.layers, read_faceres(faceres, preprocessing), strict=True):
        conv = layer[0]
        expected = F.relu6(F.conv2d(expected, weight, bias, conv.stride, conv.padding, groups=conv.groups))
    torch.testing.assert_close(net.layers(x), expected, rtol=1e-3, atol=1e-3)


def test_the_first_convolution_takes_bgr_pixels_less_their_mean(faceres):
    (rgb, bias), (plain, plain_bias) = (
        next(read_faceres(faceres, Preprocessing(contrast="fixed", mean=(mean,) * 3, std=(1 / 255,) * 3)))
        for mean in (0.0, 100 / 255)
    )
    torch.testing.assert_close(rgb, plain)
    torch.testing.assert_close(plain_bias - bias, 100 * rgb.sum(dim=(1, 2, 3)), rtol=1e-4, atol=1e-3)
    values = np.frombuffer(faceres.read_bytes(), np.float16, 3 * 3 * 3 * 32).reshape(3, 3, 3, 32)
    np.testing.assert_allclose(rgb[5, 0].numpy(), values[:, :, 2, 5], rtol=1e-3)


def test_other_files_are_refused(faceres):
    faceres.with_suffix(".json").write_text("{")
    with pytest.raises(EmodetError, match=r"net\.pretrained=.*faceres\.json"):
        next(read_faceres(faceres, Preprocessing()))
    faceres.write_bytes(faceres.read_bytes()[:-1] + b"x")
    with pytest.raises(EmodetError, match=r"net\.pretrained=.*faceres\.bin.*SHA-256"):
        FaceMobileNet(pretrained=str(faceres))
    with pytest.raises(EmodetError, match=r"net\.input_size.*16"):
        FaceMobileNet(input_size=16)


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("face_recognition_models") is None, reason="face-recognition-models is not installed"
)


CROP = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)


def normalised(**preprocessing):
    return torch.from_numpy(Preprocessing.from_dict({"size": 112, **preprocessing}).normalise(CROP))


def test_parameters_and_logits_for_crops_of_any_size():
    assert sum(weights.numel() for weights in FaceMobileNet().parameters()) == 3_217_224
    assert sum(weights.numel() for weights in FaceResNet(7).parameters()) == pytest.approx(5.55e6, rel=0.01)
    for net, size in product((FaceMobileNet(7).eval(), FaceResNet(7).eval()), (48, 112, 150)):
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 7)
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
def test_pretrained_features_are_those_of_dlib():
    net = FaceResNet(pretrained=True).eval()
    with torch.no_grad():
        features = net.pooled_features(normalised())[0]
    assert features[:5].tolist() == pytest.approx([1.86976, 1.39903, 0.16771, 2.18176, 2.49310], abs=1e-4)
    assert float(features.sum()) == pytest.approx(183.743, abs=0.01)


def test_another_file_is_refused_and_nothing_imported(tmp_path, monkeypatch):
    package = tmp_path / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "models" / "dlib_face_recognition_resnet_model_v1.dat").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EmodetError, match=r"net\.pretrained=true.*SHA-256"):
        FaceResNet(pretrained=True)
