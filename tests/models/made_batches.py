"""Small classifiers, random batches and quiet trainers for the tests of the classifier and its extras."""

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from emodet.data.faces import Batch
from emodet.models.classifier import EmotionClassifier
from emodet.preprocessing import Preprocessing

NAMES = ["neutral", "happiness", "sadness", "anger"]
SIZE = 32


def made(seed=0, **settings):
    """An untrained classifier of four classes; `seed` is that of its weights."""
    torch.manual_seed(seed)
    values = {
        "net": {"name": "residual_cnn", "channels": [4, 4], "stage_dropout": [0.2, 0.2], "features": 8},
        "class_names": NAMES,
        "preprocessing": Preprocessing(size=SIZE, mean=(0.6, 0.5, 0.4), std=(0.2, 0.25, 0.3)),
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
    }
    return EmotionClassifier(**(values | settings))


def made_batch(faces=8, seed=0, *, unlabelled=False, annotated=0.0):
    """Random pixels and labels; with `unlabelled` some faces have no emotion, a share has valence and arousal."""
    random = np.random.default_rng(seed)
    emotion = torch.from_numpy(random.integers(-1 if unlabelled else 0, 4, faces))
    target = F.one_hot(emotion.clamp(min=0), 4).float()
    target[emotion < 0] = 0.25
    both = random.uniform(-1, 1, (faces, 2)).astype(np.float32)
    both[random.random(faces) >= annotated] = np.nan
    return {
        "image": torch.from_numpy(random.integers(0, 256, (faces, SIZE, SIZE, 3), dtype=np.uint8)),
        "emotion": emotion,
        "target": target,
        "valence_arousal": torch.from_numpy(both),
        "index": torch.arange(faces),
        "source": torch.zeros(faces, dtype=torch.int64),
    }


class MadeData(L.LightningDataModule):
    """Batches in memory: three to train on, two to validate with, unless others are given."""

    def __init__(self, train: list[Batch] | None = None, val: list[Batch] | None = None) -> None:
        super().__init__()
        self.train = train or [made_batch(8, seed, unlabelled=True) for seed in range(3)]
        self.val = val or [made_batch(8, 10, unlabelled=True), made_batch(5, 11, unlabelled=True)]

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.val, batch_size=None)

    test_dataloader = val_dataloader


def made_trainer(folder, **settings):
    values = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(default_root_dir=folder, **(values | settings))
