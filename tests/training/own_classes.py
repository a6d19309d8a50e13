"""Classes as a user of the project writes them, in a module of their own: net, loss, callback, augmentation."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import albumentations as A
import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import Logger
from torch import nn


class OwnNet(nn.Module):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class OwnLoss(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -self.scale * (target * logits.log_softmax(dim=1)).sum(dim=1).mean()


class OwnCallback(L.Callback):
    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            print(trainer.current_epoch, file=stream)


class OwnAugmentation(A.ImageOnlyTransform):  # type: ignore[misc]
    def apply(self, img: npt.NDArray[np.uint8], **params: Any) -> npt.NDArray[np.uint8]:
        return 255 - img


class SendSignal(L.Callback):
    """Sends this process a signal in a training or validation batch; `times` in a row."""

    def __init__(self, number: int, epoch: int, batch: int, hook: str = "train", times: int = 1, rank: int = 0) -> None:
        self.place, self.number, self.hook, self.times, self.rank = (epoch, batch), number, hook, times, rank

    def _send(self, trainer: L.Trainer, hook: str, batch_idx: int) -> None:
        here = hook == self.hook and (trainer.current_epoch, batch_idx) == self.place
        if here and not trainer.sanity_checking and trainer.global_rank == self.rank:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._send(trainer, "train", batch_idx)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._send(trainer, "validation", batch_idx)


class Fail(L.Callback):
    def __init__(self, epoch: int, rank: int = 0) -> None:
        self.epoch, self.rank = epoch, rank

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        from emodet.errors import EmodetError

        if trainer.current_epoch == self.epoch and trainer.global_rank == self.rank:
            raise EmodetError("made to fail")


class SlowSteps(L.Callback):
    """Counts steps in a file, and makes them long enough to send a signal into one."""

    def __init__(self, file: str, seconds: float) -> None:
        self.file, self.seconds = Path(file), seconds

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write("x")
        time.sleep(self.seconds)


class OwnLogger(Logger):
    """A logger with a required argument that the project supplies; writes what it is given as JSON lines."""

    name = version = property(lambda self: "own")  # type: ignore[assignment]

    def __init__(self, save_dir: str, speed: int = 1) -> None:
        super().__init__()
        self.file, self.speed = Path(save_dir) / "mine.jsonl", speed

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            print(json.dumps({**metrics, "speed": self.speed}), file=stream)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing."""
