"""Small classifiers without a training, also as teachers; random batches and quiet trainers."""

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from emodet.data.faces import Batch
from emodet.emotions import EMOTIONS
from emodet.modelinfo import OUTPUTS, ModelInfo
from emodet.models.classifier import EmotionClassifier
from emodet.preprocessing import Preprocessing
from emodet.training.checkpoints import write_weights

NAMES = ["neutral", "happiness", "sadness", "anger"]
SIZE = 32
RESIDUAL = "emodet.models.residual_cnn.ResidualCNN"


def made(seed=0, **settings):
    """An untrained classifier of four classes; `seed` is that of its weights."""
    torch.manual_seed(seed)
    values = {
        "net": {"_target_": RESIDUAL, "channels": [4, 4], "stage_dropout": [0.2, 0.2], "features": 8},
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
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**({"default_root_dir": folder, "max_epochs": 1, "accelerator": "cpu"} | quiet | settings))


def made_classifier(valence_arousal=None, **preprocessing):
    """Untrained, with batch norms that change their input, a temperature, and logits far enough apart to compare."""
    net = {"_target_": RESIDUAL, "channels": [4, 8, 8, 16], "features": 16}
    crops = {"size": 48, "mean": [0.5, 0.4, 0.6], "std": [0.25, 0.3, 0.2], **preprocessing}
    classifier = made(net=net, class_names=list(EMOTIONS), preprocessing=crops, valence_arousal=valence_arousal).eval()
    for norm in (each for each in classifier.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.3, 1.5)
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(12)
    classifier.temperature.fill_(1.7)
    return classifier


def made_teacher(file):
    """Write such a net as plain weights (.pt) with their card."""
    classifier = made_classifier()
    write_weights(classifier, card_of(classifier, temperature=1.7), file)
    return file


def card_of(classifier, **given):
    """The card of its plain weights; what is not given is empty."""
    values = {"temperature": 1.0, "training_data": (), "metrics": {}, "commit": "", "fingerprint": ""} | given
    outputs = OUTPUTS if classifier.has_va_head else OUTPUTS[:1]
    values |= {"class_names": classifier.class_names, "preprocessing": classifier.preprocessing}
    return ModelInfo(**values, precision="fp32", outputs=outputs)
