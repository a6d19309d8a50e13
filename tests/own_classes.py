"""Classes as a user of the project writes them, in a module of their own: net, loss, callback, augmentation, logger."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import albumentations as A
import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from emodet.errors import EmodetError


class OwnNet(nn.Module):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        layers = nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def make_net(num_classes: int) -> nn.Module:
    return OwnNet(num_classes)


class OwnLoss(nn.Module):
    """Has a weight of its own, which a checkpoint stores."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -self.scale * (target * logits.log_softmax(dim=1)).sum(dim=1).mean()


class OwnCallback(L.Callback):
    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_end(self, trainer, pl_module):
        with self.file.open("a", encoding="utf-8") as stream:
            print(trainer.current_epoch, file=stream)


class OwnAugmentation(A.ImageOnlyTransform):
    def __init__(self, by: int = 2, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.by = by

    def apply(self, img, **params):
        return img // self.by


class SendSignal(L.Callback):
    """Sends this process a signal in a training or validation batch; `times` in a row."""

    def __init__(self, number: int, epoch: int, batch: int, hook: str = "train", times: int = 1, rank: int = 0) -> None:
        self.place, self.number, self.hook, self.times, self.rank = (epoch, batch), number, hook, times, rank

    def _send(self, trainer, hook, batch_idx):
        here = hook == self.hook and (trainer.current_epoch, batch_idx) == self.place
        if here and not trainer.sanity_checking and trainer.global_rank == self.rank:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._send(trainer, "train", batch_idx)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._send(trainer, "validation", batch_idx)

    def on_train_end(self, trainer, pl_module):
        self._send(trainer, "end", 0)


class Fail(L.Callback):
    def __init__(self, epoch: int, rank: int = 0) -> None:
        self.place = epoch, rank

    def on_train_epoch_start(self, trainer, pl_module):
        if (trainer.current_epoch, trainer.global_rank) == self.place:
            raise EmodetError("made to fail")


class KillWorker(L.Callback):
    """Kills a data worker, as the kernel does when memory runs out."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == 1:
            multiprocessing.active_children()[0].kill()
            time.sleep(10)  # torch's handler of SIGCHLD raises


class SlowSteps(L.Callback):
    """Counts steps in a file, and makes them long enough to send a signal into one."""

    def __init__(self, file: str, seconds: float) -> None:
        self.file, self.seconds = Path(file), seconds

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write("x")
        time.sleep(self.seconds)


class OwnLogger(Logger):
    """A logger with a required argument that the project supplies; writes what it is given as JSON lines."""

    name = version = property(lambda self: "own")

    def __init__(self, save_dir: str, speed: int = 1) -> None:
        super().__init__()
        self.file, self.speed = Path(save_dir) / "mine.jsonl", speed

    def log_metrics(self, metrics, step=None):
        with self.file.open("a", encoding="utf-8") as stream:
            print(json.dumps({**metrics, "speed": self.speed}), file=stream)

    def log_hyperparams(self, params, *args, **kwargs):
        """Nothing."""
