"""How fast batches come, and how much of a training's speed waiting for them costs.

    python experiments/benchmarks/loader.py [--size 96] [--augmentation standard] [--steps 25] [--rounds 3]

Draws 3,000 faces into a temporary folder, packs them, and measures in turns, so that a machine that slows down slows
everything: what the loader gives in the training process itself (one core, no workers) with and without augmentation,
augmentation alone, and the training of the 2-million net on the CPU, once on the loader's batches and once on one
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


class Clock(L.Callback):
    """Times the steps after the first few, which wait for workers to start and memory to be laid out."""

    def __init__(self, skipped: int) -> None:
        self.skipped, self.began, self.ended = skipped, 0.0, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.skipped - 1:
            self.began = time.perf_counter()
        self.ended = time.perf_counter()


class Constant(Dataset[Any]):
    """One batch, again and again."""

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
    parser.add_argument("--threads", type=int, default=1, help="of torch while training")
    parser.add_argument("--workers", type=int, default=1, help="of the loader while training")
    parser.add_argument("--only-loader", action="store_true")
    arguments = parser.parse_args()
    quiet_lightning()
    cv2.setNumThreads(0)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = made_data(Path(folder), arguments)
        plain = made_data(Path(folder), arguments, steps=())
        loader: dict[str, list[float]] = {"loader, one core": [], "loader without augmentation": [], "augmentation": []}
        for _ in range(arguments.rounds):
            loader["loader, one core"].append(loaded(data))
            loader["loader without augmentation"].append(loaded(plain))
            loader["augmentation"].append(augmented(data))
        training: dict[str, list[float]] = {"loader": [], "constant batch": []}
        for _ in range(0 if arguments.only_loader else arguments.rounds):
            training["loader"].append(trained(data, arguments, constant=False))
            training["constant batch"].append(trained(data, arguments, constant=True))
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


def made_data(folder: Path, arguments: argparse.Namespace, steps: Any = None) -> EmotionDataModule:
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


def loaded(data: EmotionDataModule) -> float:
    """Faces a second out of the loader, fetched where they are asked for."""
    began = time.perf_counter()
    faces = sum(len(batch["emotion"]) for batch in data.train_dataloader())
    return faces / (time.perf_counter() - began)


def augmented(data: EmotionDataModule) -> float:
    """Faces a second of augmentation alone, on crops in memory."""
    crops = data.pack.images(data.splits.train[:1024])
    began = time.perf_counter()
    data.augmentation(crops, 0)
    return len(crops) / (time.perf_counter() - began)


def trained(data: EmotionDataModule, arguments: argparse.Namespace, *, constant: bool) -> float:
    """Faces a second of training, after the first steps."""
    skipped = 5
    classifier = EmotionClassifier(
        net={"_target_": "emodet.models.residual_cnn.ResidualCNN"},
        class_names=list(data.class_names),
        preprocessing=data.preprocessing.to_dict(),
        channels_last=arguments.threads > 1,
    )
    clock = Clock(skipped)
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
        callbacks=[clock],
    )
    data.num_workers = 0 if constant else arguments.workers
    loader: Any = data.train_dataloader()
    if constant:
        loader = DataLoader(Constant(next(iter(loader)), arguments.steps + skipped), batch_size=None)
    trainer.fit(classifier, loader)
    return arguments.steps * arguments.batch / (clock.ended - clock.began)


if __name__ == "__main__":
    main()
