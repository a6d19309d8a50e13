"""The LightningDataModule: packs in, batches out."""

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from emodet.data.augmentation import Augmentation
from emodet.data.corrections import CorrectedPack, fingerprint_with, in_words, read_corrections
from emodet.data.device_augmentation import DeviceAugmentation
from emodet.data.device_faces import DeviceFaces, device_named, place_of
from emodet.data.faces import Batch, FaceDataset, LazyDataLoader, as_fetched, single_threaded
from emodet.data.mixed import MixedPack, mix_in, share_out, usable_faces
from emodet.data.pack import Pack
from emodet.datasets.samples import Listing, Reader
from emodet.data.sources import Source, sources_of
from emodet.data.splits import EvaluationBatches, Splits, TrainingBatches, drawing_weights
from emodet.datasets.summary import listing_summary, outcome
from emodet.emotions import class_names
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["EmotionDataModule"]

log = logging.getLogger(__name__)


class EmotionDataModule(L.LightningDataModule):
    """Any release that a reader knows, or several, prepared on first use, as training, val and test batches.

    Args:
        root: Where the release lies; None where there are `sources`.
        preprocessing: `Preprocessing.to_dict`'s values: what a crop is.
        packs: The folder in which packs lie; by default ``$EMODET_PACKS``, else ``data/packs``.
        reader: The reader's name, or ``auto`` to go by the release's signs.
        reader_options: The reader's own arguments.
        synthetic: Arguments of `write_release`: the release is drawn into `root` first.
        crop: ``image`` (stored pictures are face crops) or ``box``.
        classes: 8, or 7 without contempt.
        labels: ``hard`` trains on the emotion; ``soft`` on the soft label where there is one, and so also on faces
            without a clear emotion.
        val_from: See `assign_splits`.
        split_seed: Decides which faces are held out; kept apart from `seed` so that seeds can be compared.
        batch_size: Faces per training batch and process.
        evaluation_batch_size: Likewise without gradients.
        balanced: Whether training draws every class equally often.
        training_faces: Train on so many faces, seeded, the same ones throughout: to see whether a net learns at all,
            or how its accuracy grows with the data. None takes all.
        augmentation: The steps of an `Augmentation`.
        num_workers: Processes that fetch batches; None takes one per core, eight at most.
        device: The torch device (``cuda``, ``cuda:0``, ``cpu``) on which training and val faces lie as a whole,
            and on which batches are gathered and augmented; ``cuda`` is the one that the net trains on. Workers are
            then for reports only. None leaves the faces on disk, and workers fetch them.
        processes: Processes that prepare; None takes one per core.
        max_unreadable: The share of pictures that may be unreadable.
        changed: ``refuse`` a release that is no longer what was packed of it, or ``use`` its pack as it is.
        corrections: A file that excludes and relabels faces, see `emodet.data.corrections`; in a mix its keys begin
            with the data set's name and a colon.
        seed: Of order and augmentation.
        sources: Several data sets instead of one, in order, by name: for each the attributes of a
            `emodet.data.sources.Source` in which it differs from the arguments above. See
            `emodet.data.mixed.mixed_splits` for which faces then train, select and report.

    Attributes:
        sources: The data sets; one, if `sources` was not given.
        pack: Set up by `setup`, as is `splits`.
    """

    def __init__(
        self,
        root: str | Path | None,
        preprocessing: Mapping[str, Any],
        packs: str | Path | None = None,
        reader: str = "auto",
        reader_options: Mapping[str, Any] | None = None,
        synthetic: Mapping[str, Any] | None = None,
        crop: str = "image",
        classes: int = 8,
        labels: str = "hard",
        val_from: str | float = "auto",
        split_seed: int = 0,
        batch_size: int = 32,
        evaluation_batch_size: int = 256,
        balanced: bool = False,
        training_faces: int | None = None,
        augmentation: Sequence[Mapping[str, Any]] = (),
        num_workers: int | None = None,
        device: str | None = None,
        processes: int | None = None,
        max_unreadable: float = 0.01,
        changed: str = "refuse",
        corrections: str | Path | None = None,
        seed: int = 0,
        sources: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("evaluation_batch_size", evaluation_batch_size)):
            if value < 1:
                raise EmodetError(f"data.{name}={value}: at least 1 face is needed")
        if training_faces is not None and training_faces < 1:
            raise EmodetError(f"data.training_faces={training_faces}: at least 1 face is needed")
        if num_workers is not None and num_workers < 0:
            raise EmodetError(f"data.num_workers={num_workers}: 0 (fetch in the training process) or more")
        self.packs = Path(packs or os.environ.get("EMODET_PACKS") or "data/packs").expanduser()
        self.preprocessing = Preprocessing.from_dict(preprocessing)
        self.class_names = class_names(classes)
        shared: dict[str, Any] = {
            "preprocessing": self.preprocessing,
            "packs": self.packs,
            "crop": crop,
            "classes": classes,
            "labels": labels,
            "val_from": val_from,
            "processes": processes,
            "max_unreadable": max_unreadable,
            "changed": changed,
        }
        own: dict[str, Any] = {
            "reader": reader,
            "reader_options": dict(reader_options or {}),
            "synthetic": synthetic or None,
        }
        if sources is not None:
            if root is not None:
                raise EmodetError(f"data.root={root} is for one data set; in a mix each has its own in data.sources")
            self.sources = sources_of(sources, shared)
        elif root is None:
            raise EmodetError("data.root is not set, nor are there data.sources")
        else:
            self.sources = (Source(root=Path(root), **shared, **own),)
        self.is_mixed = sources is not None
        self.split_seed, self.seed = split_seed, seed
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.balanced, self.augmentation = balanced, Augmentation(augmentation)
        self.num_workers = min(8, _cores()) if num_workers is None else num_workers
        self.training_faces = training_faces
        self.corrections = None if corrections is None else Path(corrections).expanduser()
        self.device = None if device is None else device_named(device)
        self._workers_said = bool(num_workers)
        self._on_device: dict[str, DeviceFaces] = {}
        if self.device is not None:
            DeviceAugmentation(self.augmentation, torch.device("cpu"))  # refuses steps that are not made on a device
        self.pack: Pack
        self.splits: Splits

    @property
    def source_names(self) -> tuple[str, ...]:
        """What the data sets of a mix are called, in order; empty where there is only one and no mix."""
        return tuple(source.name for source in self.sources) if self.is_mixed else ()

    def places(self) -> dict[str, Any]:
        """The settings that say where the data lies, with absolute paths; of a mix, all that its sets differ in."""
        packs = str(self.packs.resolve())
        if not self.is_mixed:
            return {"root": str(self.sources[0].root.resolve()), "packs": packs}
        return {"packs": packs, "sources": {source.name: source.settings() for source in self.sources}}

    def require_device(self) -> None:
        """Make sure that the faces can lie where they shall, before any long work.

        Raises:
            EmodetError: See `place_of`.
        """
        if self.device is not None:
            place = place_of(self.device, self.trainer)
            if self._workers_said:
                log.info("data.num_workers=%d: for reports only, as the other faces lie on %s", self.num_workers, place)

    def prepare_data(self) -> None:
        """Make the packs where there are none yet: say what was found before the long work, and what came out."""
        for source in self.sources:
            pack, was_there = source.prepare(_announce)
            if not was_there:
                log.info("%s", outcome(pack.manifest))

    def setup(self, stage: str | None = None) -> None:
        """Open the packs and share out their faces; cheap, and the same in every process."""
        if hasattr(self, "pack"):
            return
        opened = [Pack(source.pack_folder()) for source in self.sources]
        pack = MixedPack(dict(zip(self.source_names, opened, strict=True))) if self.is_mixed else opened[0]
        excluded = 0
        if self.corrections is not None:
            as_released = pack.table
            pack = CorrectedPack(pack, read_corrections(self.corrections))
            here = pack.excluded & (as_released.split == "train")
            excluded = int((usable_faces(pack, as_released, self.sources) & here).sum())
            log.info("corrections %s: %s", self.corrections, in_words(pack.facts()["faces"]))
        splits = share_out(pack, self.sources, self.split_seed)
        if excluded:
            splits = replace(splits, dropped={**splits.dropped, "excluded by corrections": excluded})
        train = splits.train
        if self.training_faces is not None and self.training_faces < len(train):
            order = np.random.default_rng([self.split_seed, 0xFACE5]).permutation(len(train))
            splits = replace(splits, train=np.sort(train[order[: self.training_faces]]))
        self.pack, self.splits = pack, splits
        for reason, count in self.splits.dropped.items():
            log.info("%d training faces dropped: %s", count, reason)

    def shared_out(self, splits: Splits, pack: Pack | None = None) -> "EmotionDataModule":
        """The same data with other splits, for training in folds; `pack` gives other crops of the same faces."""
        other = copy.copy(self)
        other.splits, other._on_device = splits, {}
        if pack is not None:
            other.pack, other.preprocessing = pack, pack.preprocessing
        return other

    @property
    def fingerprint(self) -> str:
        """The pack's, and of the corrections where there are any: equal for data that trains the same."""
        pack = self.pack
        return fingerprint_with(pack.fingerprint, pack.corrections if isinstance(pack, CorrectedPack) else None)

    def source_of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which data set each of these faces is from: int64, positions in `sources`."""
        mix = mix_in(self.pack)
        return np.zeros(len(indices), dtype=np.int64) if mix is None else mix.source_of(indices)

    def class_counts(self) -> list[int]:
        """Training faces per class, in the order of `class_names`; faces without an emotion are not counted."""
        emotion = self.pack.table.emotion[self.splits.train]
        return [int((emotion == number).sum()) for number in range(len(self.class_names))]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented batches, see `TrainingBatches`."""
        batches, faces = self._training_batches(self._progress, *self._place()), self._training_faces()
        if self.device is not None:
            return self._loader(self._on(self.device, faces, self.splits.train, "training"), batches)
        return self._loader(faces, batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The val faces."""
        return self._evaluation(self.splits.val, *self._place(), "val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test faces."""
        return self._evaluation(self.splits.test, *self._place(), "test")

    def evaluation_dataloader(self, split: str) -> DataLoader[Batch]:
        """All faces of a split that have an emotion, without augmentation, whatever number of processes trains.

        They come from the disk into the host's memory, wherever `device` is.
        """
        rows = {"train": self.splits.train, "val": self.splits.val, "test": self.splits.test}[split]
        return self._evaluation(rows[self.pack.table.emotion[rows] >= 0], 0, 1)

    def augmented(self, count: int) -> npt.NDArray[np.uint8]:
        """Training crops as the net sees them: uint8 (n, 2, H, W, 3), each beside its augmented self, n <= count."""
        train = self.splits.train
        rows = np.random.default_rng([self.seed, 0x617D]).choice(train, min(count, len(train)), replace=False)
        crops = self.pack.images(rows)
        if self.device is None:
            return np.stack([crops, self.augmentation(crops, self.seed)], axis=1)
        place = place_of(self.device, self.trainer)
        changed = DeviceAugmentation(self.augmentation, place)(torch.from_numpy(crops).to(place), self.seed)
        return np.stack([crops, changed.cpu().numpy()], axis=1)

    def _chances(self) -> npt.NDArray[np.float64] | None:
        """The training faces' chances to be drawn, None where each comes once."""
        train = self.splits.train
        wanted = np.array([source.weight for source in self.sources])[self.source_of(train)]
        return drawing_weights(self.pack.table.emotion[train], balanced=self.balanced, wanted=wanted)

    def _training_batches(self, progress: Callable[[], tuple[int, int]], rank: int, world_size: int) -> TrainingBatches:
        return TrainingBatches(
            self.splits.train, self.batch_size, self.seed, self._chances(), progress, rank=rank, world_size=world_size
        )

    def _training_faces(self) -> FaceDataset:
        soft = [source.soft for source in self.sources]
        return FaceDataset(self.pack, len(self.class_names), soft, self.augmentation)

    def _evaluation(
        self, indices: npt.NDArray[np.int64], rank: int, world_size: int, split: str | None = None
    ) -> DataLoader[Batch]:
        batches = EvaluationBatches(indices, self.evaluation_batch_size, rank, world_size)
        faces = FaceDataset(self.pack, len(self.class_names), [False] * len(self.sources), None)
        if self.device is not None and split is not None:
            return self._loader(self._on(self.device, faces, batches.indices, split), batches)
        return self._loader(faces, batches)

    def _on(self, device: torch.device, faces: FaceDataset, rows: npt.NDArray[np.int64], split: str) -> DeviceFaces:
        if split not in self._on_device:
            place = place_of(device, self.trainer)
            augmentation = None if faces.augmentation is None else DeviceAugmentation(faces.augmentation, place)
            self._on_device[split] = DeviceFaces(self.pack, rows, faces.labels(rows), place, augmentation, split)
        return self._on_device[split]

    def _loader(
        self, faces: FaceDataset | DeviceFaces, batches: TrainingBatches | EvaluationBatches
    ) -> DataLoader[Batch]:
        if isinstance(faces, DeviceFaces):
            return LazyDataLoader(faces, batch_sampler=batches, collate_fn=as_fetched)  # type: ignore[arg-type]
        return LazyDataLoader(
            faces,
            batch_sampler=batches,  # type: ignore[arg-type]  # it yields draws, which __getitems__ takes
            collate_fn=as_fetched,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=single_threaded,
            pin_memory=torch.cuda.is_available(),
        )

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _progress(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _announce(reader: Reader, listing: Listing) -> None:
    log.info("%s", listing_summary(reader, listing))
