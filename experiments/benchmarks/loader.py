"""Speed of data loading, and its effect on training speed.

    python experiments/benchmarks/loader.py [--size 96] [--augmentation standard] [--steps 25] [--rounds 3]

Draws 3,000 faces, packs them in a temporary folder, and measures in alternation, so that a change in the speed of the
machine affects all cases: the loader in the training process (one core, no workers) with and without augmentation,
augmentation only, and training of the net of 2 million parameters on the CPU, with batches from the loader and with one
constant batch.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import lightning as L
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, Dataset

from emodet.command_line import conf_folder
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.models.classifier import EmotionClassifier
from emodet.synthetic.releases import write_release
from emodet.training.progress import quiet_lightning

FACES = {"train": 3000, "val": 64, "test": 64}


class StepTimer(L.Callback):
    """Times the training steps after the first ones, which include the start of workers and memory allocation."""

    def __init__(self, skipped: int) -> None:
        self.skipped, self.start, self.end = skipped, 0.0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.skipped - 1:
            self.start = time.perf_counter()
        self.end = time.perf_counter()


class ConstantBatch(Dataset[Any]):
    """Returns the same batch `count` times."""

    def __init__(self, batch: Any, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--augmentation", default="standard")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=25, help="timed training steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch during training")
    parser.add_argument("--workers", type=int, default=1, help="of the loader during training")
    parser.add_argument("--only-loader", action="store_true")
    arguments = parser.parse_args()
    quiet_lightning()
    cv2.setNumThreads(0)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = prepared_data(Path(folder), arguments)
        plain = prepared_data(Path(folder), arguments, steps=())
        loader: dict[str, list[float]] = {"loader, one core": [], "loader without augmentation": [], "augmentation": []}
        for _ in range(arguments.rounds):
            loader["loader, one core"].append(loading_rate(data))
            loader["loader without augmentation"].append(loading_rate(plain))
            loader["augmentation"].append(augmentation_rate(data))
        training: dict[str, list[float]] = {"loader": [], "constant batch": []}
        for _ in range(0 if arguments.only_loader else arguments.rounds):
            training["loader"].append(training_rate(data, arguments, constant=False))
            training["constant batch"].append(training_rate(data, arguments, constant=True))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {arguments.size} px, "
        f"augmentation={arguments.augmentation}, median of {arguments.rounds}"
    )
    for name, speeds in loader.items():
        print(f"{name:<28} {median(speeds):8.0f} faces/s   ({min(speeds):.0f} to {max(speeds):.0f})")
    if arguments.only_loader:
        return
    for name, speeds in training.items():
        print(f"training, {name:<18} {median(speeds):8.1f} faces/s   ({min(speeds):.1f} to {max(speeds):.1f})")
    ratios = [a / b for a, b in zip(training["loader"], training["constant batch"], strict=True)]
    print(
        f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"{arguments.threads} thread(s), {arguments.workers} worker(s), batches of {arguments.batch}"
    )


def prepared_data(folder: Path, arguments: argparse.Namespace, steps: Any = None) -> EmotionDataModule:
    release = write_release(folder / "release", FACES, size=arguments.size)
    if steps is None:
        steps = OmegaConf.to_container(OmegaConf.load(f"{conf_folder()}/augmentation/{arguments.augmentation}.yaml"))
        steps = steps["steps"]  # type: ignore[index, call-overload]
    data = EmotionDataModule(
        Source(release, packs=folder / "packs"),
        {"size": arguments.size},
        batch_size=arguments.batch,
        augmentation=steps,
        num_workers=0,
    )
    data.prepare_data()
    data.setup()
    return data


def loading_rate(data: EmotionDataModule) -> float:
    """Faces per second of the loader without workers."""
    start = time.perf_counter()
    faces = sum(len(batch["emotion"]) for batch in data.train_dataloader())
    return faces / (time.perf_counter() - start)


def augmentation_rate(data: EmotionDataModule) -> float:
    """Faces per second of augmentation only, on crops in memory."""
    crops = data.pack.images(data.splits.train[:1024])
    start = time.perf_counter()
    data.augmentation(crops, 0)
    return len(crops) / (time.perf_counter() - start)


def training_rate(data: EmotionDataModule, arguments: argparse.Namespace, *, constant: bool) -> float:
    """Faces per second of training, without the first steps."""
    skipped = 5
    classifier = EmotionClassifier(
        net={"_target_": "emodet.models.residual_cnn.ResidualCNN"},
        class_names=list(data.class_names),
        preprocessing=data.preprocessing.to_dict(),
        channels_last=arguments.threads > 1,
    )
    timer = StepTimer(skipped)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_train_batches=arguments.steps + skipped,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[timer],
    )
    data.num_workers = 0 if constant else arguments.workers
    loader: Any = data.train_dataloader()
    if constant:
        loader = DataLoader(ConstantBatch(next(iter(loader)), arguments.steps + skipped), batch_size=None)
    trainer.fit(classifier, loader)
    return arguments.steps * arguments.batch / (timer.end - timer.start)


if __name__ == "__main__":
    main()
