"""Train the residual CNN on drawn faces without Hydra and evaluate it: python examples/train_minimal.py

For your own data, replace the release by its folder: `Source(root="/path/to/AffectNet")`.
"""

import sys
from pathlib import Path

import lightning as L
import torch

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.models.classifier import EmotionClassifier
from emodet.models.residual_cnn import ResidualCNN
from emodet.synthetic.releases import write_release

PREPROCESSING = {"size": 48, "contrast": "crop"}
STEPS = ({"name": "HorizontalFlip", "p": 0.5}, {"name": "Affine", "rotate": (-10, 10), "p": 0.5})


def main(folder: Path, epochs: int = 10) -> float:
    """Train in `folder`; returns the accuracy on the test split."""
    L.seed_everything(0, verbose=False)
    release = write_release(folder / "faces", {"train": 640, "val": 64, "test": 160}, size=48, balance="uniform")
    source = Source(root=release, packs=folder / "packs", processes=1)
    data = EmotionDataModule(source, PREPROCESSING, batch_size=32, num_workers=0, augmentation=STEPS)
    data.prepare_data()
    data.setup()
    net = ResidualCNN(len(data.class_names), channels=(16, 32, 64, 128), stage_dropout=(0, 0, 0, 0), head_dropout=0.1)
    scheduler = {"_target_": "emodet.models.optimization.onecycle"}
    classifier = EmotionClassifier(net, data.class_names, PREPROCESSING, scheduler=scheduler)
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(classifier, datamodule=data)
    (scores,) = trainer.test(classifier, datamodule=data)
    return scores["test/accuracy"]


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    print(f"accuracy on drawn test faces: {main(Path(sys.argv[1] if len(sys.argv) > 1 else 'outputs/minimal')):.1%}")
