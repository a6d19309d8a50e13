"""Compute emodet/models/face_mobilenet_statistics.npz: mean and variance of the outputs of each convolution.

python experiments/ferplus/faceres_statistics.py package/models/faceres.bin /path/to/ferplus
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import emodet.models
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.models.face_mobilenet import FaceMobileNet, read_faceres
from emodet.preprocessing import Preprocessing


@torch.no_grad()
def main() -> None:
    """Compute the statistics on 512 training faces (seed 0)."""
    file, root = Path(sys.argv[1]), Path(sys.argv[2])
    preprocessing = Preprocessing(size=48, contrast="crop", alignment="eyes")
    data = EmotionDataModule(
        Source(root, reader="ferplus", labels="soft", val_from="val"), preprocessing, num_workers=0
    )
    data.prepare_data()
    data.setup()
    rows = np.sort(np.random.default_rng(0).choice(data.splits.train, 512, replace=False))
    crops = torch.from_numpy(data.pack.images(rows)).permute(0, 3, 1, 2).float()
    x = (crops - crops.mean(dim=(1, 2, 3), keepdim=True)) / crops.std(dim=(1, 2, 3), keepdim=True)
    net = FaceMobileNet()
    x = F.interpolate(x, (net.input_size, net.input_size), mode="bicubic", align_corners=False)
    statistics: dict[str, list[torch.Tensor]] = {"mean": [], "variance": []}
    for layer, (weight, bias) in zip(net.layers, read_faceres(file, preprocessing), strict=True):
        conv = layer.get_submodule("0")
        assert isinstance(conv, torch.nn.Conv2d)
        y = F.conv2d(x, weight, None, conv.stride, tuple(map(int, conv.padding)), groups=conv.groups)
        statistics["mean"].append(y.mean(dim=(0, 2, 3)))
        statistics["variance"].append(y.var(dim=(0, 2, 3)))
        x = F.relu6(y + bias.view(1, -1, 1, 1))
    output = Path(emodet.models.__path__[0]) / "face_mobilenet_statistics.npz"
    np.savez_compressed(output, **{name: torch.cat(values).numpy() for name, values in statistics.items()})
    print(f"{output}: {sum(len(values) for values in statistics['mean'])} channels")


if __name__ == "__main__":
    main()
