"""net=face_mobilenet: a MobileNet trained on face identity; a made file stands in for its pretrained weights."""

import hashlib
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emodet.errors import EmodetError
from emodet.models import face_mobilenet
from emodet.models.face_mobilenet import FaceMobileNet, read_faceres
from emodet.models.nets import build_net
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


def test_size_and_outputs():
    net = build_net({"name": "face_mobilenet"}, 7, Preprocessing().to_dict()).eval()
    assert sum(value.numel() for value in FaceMobileNet().parameters()) == 3_217_224
    assert net(torch.zeros(2, 3, 48, 48)).shape == (2, 7)


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
    for listed in ("{", "[]", '{"weightsManifest": []}'):
        faceres.with_suffix(".json").write_text(listed)
        with pytest.raises(EmodetError, match=r"net\.pretrained=.*faceres\.json"):
            next(read_faceres(faceres, Preprocessing()))
    faceres.write_bytes(faceres.read_bytes()[:-1] + b"x")
    with pytest.raises(EmodetError, match=r"net\.pretrained=.*faceres\.bin.*SHA-256"):
        FaceMobileNet(pretrained=str(faceres))
    with pytest.raises(EmodetError, match=r"net\.pretrained=.*missing\.bin"):
        FaceMobileNet(pretrained=str(faceres.with_name("missing.bin")))
    with pytest.raises(EmodetError, match=r"net\.input_size.*16"):
        FaceMobileNet(input_size=16)


def test_a_training_starts_from_the_file(faceres, command, release, tmp_path):
    run = tmp_path / "run"
    net = ["net=face_mobilenet", f"net.pretrained={faceres}", "net.input_size=32", "preprocessing.size=32"]
    tiny = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "data.batch_size=8", "optimizer.lr=0"]
    tiny += ["data.num_workers=0", "data.processes=1", "logger=csv", "training.export=false"]
    tiny.append("training.calibration=none")
    arguments = ["experiment=affectnet_yolo", f"data.root={release}", *net, *tiny, f"hydra.run.dir={run}"]
    assert command("emodet.train", *arguments) == 0
    weights = torch.load(run / "weights.pt", weights_only=True)
    expected = FaceMobileNet(pretrained=str(faceres)).state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected if name.endswith("0.weight"))
