"""dlib's face descriptor net (ResNet-29, 5.58 M parameters, CC0) as a backbone for emotions.

The pretrained weights are in the Python package `face-recognition-models`. The file is read without executing code of
that package, and only if its checksum is the one below.
"""

import hashlib
import importlib.util
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from emodet.errors import EmodetError, os_errors, require
from emodet.installation import install
from emodet.preprocessing import Preprocessing

SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
# Header of the values of a convolution (weights, then biases) or an affine layer: its tag, then version and four
# dimensions of a tensor, as dlib's integers: a length and that many bytes.
_TENSOR = re.compile(rb"(?:con_4|affine_)(?:\x01.|\x02..|\x03.{3}|\x04.{4}){5}", re.DOTALL)
_STATISTICS = Path(__file__).with_name("face_resnet_statistics.npz")

# (in, out, halves the map), first layer first.
_BLOCKS = (
    *[(32, 32, False)] * 3,
    *((32, 64, True), *[(64, 64, False)] * 3),
    *((64, 128, True), *[(128, 128, False)] * 2),
    *((128, 256, True), *[(256, 256, False)] * 2),
    (256, 256, True),
)
_MIN_SIZE = 103  # minimum input size for the convolution of the last block
_PIXEL_MEAN = (122.782, 117.001, 104.298)
# If crops are normalised by their own mean and deviation, use those of an average face instead.
_FACE_MEAN, _FACE_DEVIATION = 114.0, 64.0


class Block(nn.Module):
    """Residual block: conv 3×3 → batch norm → ReLU → conv 3×3 → batch norm, plus input, → ReLU; can halve the map."""

    def __init__(self, channels_in: int, channels: int, halve: bool) -> None:
        super().__init__()
        self.halve, self.new_channels = halve, channels - channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels_in, H, W) to (N, channels, H, W), or about (H / 2, W / 2)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.halve:
            # dlib adds maps of different sizes by padding the smaller one with zeros.
            x = F.avg_pool2d(x, 2)
            height, width = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
            x = F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, self.new_channels))
            y = F.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]))
        return F.relu(x + y)


class FaceResNet(nn.Module):
    """dlib's ResNet-29 with batch norm, and a head of batch norm, dropout and one linear layer.

    Args:
        num_classes: Number of logits.
        pretrained: Whether to use dlib's weights, which need ``pip install 'emodet[teachers]'``. Each convolution and
            the following running statistics are rescaled to He's deviation, which does not change the function: dlib's
            weights are so small that Adam's first steps would overwrite them.
        head_dropout: Share of features zeroed before the last layer.
        input_size: Side in pixels to which the net resizes its input, at least 103.
        preprocessing: Values of `Preprocessing.to_dict`, for the normalisation of the input; None for the
            defaults.
    """

    def __init__(
        self,
        num_classes: int = 8,
        pretrained: bool = False,
        head_dropout: float = 0.4,
        input_size: int = 112,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        require(input_size >= _MIN_SIZE, "net.input_size", input_size, f"at least {_MIN_SIZE} pixels (112 is usual)")
        self.input_size = input_size
        self.scale: torch.Tensor
        self.offset: torch.Tensor
        deviation, mean = pixel_range(Preprocessing.from_dict(preprocessing or {}))
        # dlib's input: (pixel - mean) / 256.
        self.register_buffer("scale", deviation.view(1, 3, 1, 1) / 256, persistent=False)
        offset = (mean - torch.tensor(_PIXEL_MEAN)) / 256
        self.register_buffer("offset", offset.view(1, 3, 1, 1), persistent=False)
        self.conv = nn.Conv2d(3, 32, 7, stride=2)
        self.norm = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(*(Block(*block) for block in _BLOCKS))
        self.head = nn.Sequential(nn.BatchNorm1d(256), nn.Dropout(head_dropout), nn.Linear(256, num_classes))
        if pretrained:
            load_merged(self, _layers(self, _weights()), _STATISTICS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        return self.from_features(self.pooled_features(x))

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """Map `pooled_features` to logits, float (N, num_classes)."""
        logits: torch.Tensor = self.head(features)
        return logits

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to the pooled features (N, 256), at least 0."""
        size = self.input_size
        if tuple(x.shape[2:]) != (size, size):
            mode = {"mode": "bicubic", "align_corners": False} if x.shape[2] < size else {"mode": "area"}
            x = F.interpolate(x, (size, size), **mode)
        x = F.max_pool2d(F.relu(self.norm(self.conv(x * self.scale + self.offset))), 3, stride=2)
        pooled: torch.Tensor = self.blocks(x).mean(dim=(2, 3))
        return pooled


Merged = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | float, torch.Tensor]


@torch.no_grad()
def load_merged(net: nn.Module, layers: Iterable[Merged], statistics: Path) -> None:
    """Initialise convolutions and batch norms from a file with merged batch norms.

    `layers` are weight and bias of each convolution, first layer first, and gain and shift of the layer after it.
    `statistics` contains mean and variance of the convolutions' outputs on training faces of FER+, from which the batch
    norms are restored, so that training mode starts with the same function.
    """
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    with np.load(statistics) as file:
        sizes = [norm.num_features for norm in norms]
        means, variances = (torch.split(torch.from_numpy(file[name]), sizes) for name in ("mean", "variance"))
    for conv, norm, layer, mean, variance in zip(convs, norms, layers, means, variances, strict=True):
        weight, bias, gain, shift = layer
        rescale = math.sqrt(2 / weight[0].numel()) / weight.std()
        conv.weight.copy_(weight * rescale)
        if conv.bias is not None and bias is not None:
            conv.bias.copy_(bias * rescale)
        norm.state_dict()["running_mean"].copy_(mean * rescale)
        norm.state_dict()["running_var"].copy_(variance * rescale**2)
        norm.weight.copy_(gain * (variance * rescale**2 + norm.eps).sqrt() / rescale)
        norm.bias.copy_(shift + gain * mean)


def _layers(net: nn.Module, data: bytes) -> Iterator[Merged]:
    # dlib merged its batch norms into affine layers.
    starts = [tag.end() for tag in _TENSOR.finditer(data)]
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    for conv, of_conv, of_affine in zip(convs, starts[::2], starts[1::2], strict=True):
        size, channels = conv.weight.numel(), conv.out_channels
        flat = torch.from_numpy(np.frombuffer(data, "<f4", size + channels, of_conv).copy())
        gain, shift = torch.from_numpy(np.frombuffer(data, "<f4", 2 * channels, of_affine).copy()).chunk(2)
        yield flat[:size].view_as(conv.weight), flat[size:], gain, shift


def pixel_range(preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """Return deviation and mean, each (3,), that convert normalised channels to pixels of 0 to 255."""
    if preprocessing.contrast == "crop":
        return torch.full((3,), _FACE_DEVIATION), torch.full((3,), _FACE_MEAN)
    return torch.tensor(preprocessing.std) * 255, torch.tensor(preprocessing.mean) * 255


def _weights() -> bytes:
    found = importlib.util.find_spec("face_recognition_models")  # without importing it
    if found is None or not found.submodule_search_locations:
        raise EmodetError(
            f"net.pretrained=true: face_resnet's weights are not installed: {install('teachers')}. Or net.pretrained="
            "false"
        )
    path = Path(found.submodule_search_locations[0]) / _FILE
    with os_errors(f"net.pretrained=true: {path} cannot be read"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise EmodetError(f"net.pretrained=true: {path} is not dlib's file (SHA-256 {SHA256[:12]}…); reinstall it")
    return data
