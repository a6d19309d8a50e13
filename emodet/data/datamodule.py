"""`EmotionDataModule`: the LightningDataModule for one or several data sets."""

import copy
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader

from emodet.arrays import Int64, UInt8
from emodet.cpu import available_cores
from emodet.data import faces
from emodet.data.augmentation import Augmentation
from emodet.data.corrections import in_words
from emodet.data.mixed import MixedPack
from emodet.data.pack import Pack
from emodet.data.sources import DataSettings, Source, naming, take_sources
from emodet.data.splits import Splits, assign_splits, mix_splits
from emodet.emotions import chosen_classes
from emodet.errors import EmodetError, require
from emodet.files import expanded
from emodet.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")
_FETCHED_AHEAD = 3  # torch's prefetch factor, and the current batch


class EmotionDataModule(L.LightningDataModule):
    """Training, val and test batches of one data set or a mix of several, which are packed on first use.

    Args:
        sources: A data set, or several by name, in order.
        preprocessing: Definition of crops, or the arguments of `Preprocessing`.
        batch_size: Faces per training batch and process.
        eval_batch_size: Faces per evaluation batch.
        num_workers: Number of processes that fetch batches; None for one per core, at most eight.
        augmentation: Augmentation of training crops, or its steps; None for no augmentation.
        sampling: One of `emodet.data.faces.SAMPLING`.
        classes: 8 (the emotions), 7 (without contempt), or names, in the order of the net's outputs; None for all
            classes of the data.
        split_seed: Seed of the split into train and val; separate from `seed`, so that seeds can be compared.
        training_faces: Number of training faces, a seeded sample; None for all.
        corrections: File that excludes and relabels faces, see `emodet.data.corrections`; in a mix its keys begin
            with the data set's name and a colon.
        seed: Seed of order and augmentation.

    Attributes:
        sources: Data sets by name; a single data set has the empty name.
        class_names: Class names in the order of the net's outputs. This and the following are set by `setup`.
        pack: All faces; its first classes are `class_names`.
        splits: Row indices of the splits.
        correction_facts: See `MixedPack.correction_facts`.

    Raises:
        EmodetError: A value is out of its range.
    """

    def __init__(
        self,
        sources: Source | Mapping[str, Source],
        preprocessing: Preprocessing | Mapping[str, Any] | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        num_workers: int | None = None,
        augmentation: Augmentation | Sequence[Mapping[str, Any]] | None = None,
        sampling: str = "natural",
        classes: int | Sequence[str] | None = None,
        split_seed: int = 0,
        training_faces: int | None = None,
        corrections: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        limits = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "training_faces": training_faces}
        for name, value in limits.items():
            require(value is None or value >= 1, f"data.{name}", value, "1 face or more")
        require(split_seed >= 0, "data.split_seed", split_seed, "0 or more")
        fits = num_workers is None or num_workers >= 0
        require(fits, "data.num_workers", num_workers, "0 (fetch in the training process) or more")
        require(sampling in faces.SAMPLING, "data.sampling", sampling, f"one of {', '.join(faces.SAMPLING)}")
        of = {"": sources} if isinstance(sources, Source) else sources
        self.sources = {name: replace(it, classes=classes) if it.classes is None else it for name, it in of.items()}
        if not self.sources:
            raise EmodetError("data.sources is empty: name data sets, as in data.sources=[affectnet8,rafdb]")
        self.preprocessing = (
            preprocessing if isinstance(preprocessing, Preprocessing) else Preprocessing.from_dict(preprocessing or {})
        )
        self.classes = None if classes is None else chosen_classes(classes)
        self.class_names: tuple[str, ...]
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self._chosen_workers = num_workers
        self.num_workers = min(8, available_cores()) if num_workers is None else num_workers
        self.augmentation = augmentation if isinstance(augmentation, Augmentation) else Augmentation(augmentation or ())
        self.sampling, self.split_seed, self.seed = sampling, split_seed, seed
        self.training_faces = training_faces
        self.corrections = None if corrections is None else expanded(corrections)
        self.pack: MixedPack
        self.splits: Splits
        self.correction_facts: dict[str, Any] | None

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the data sets of a mix, in order; empty for a single data set."""
        return () if "" in self.sources else tuple(self.sources)

    def places(self) -> dict[str, Any]:
        """Settings that locate the data, with absolute paths; for a mix, all settings of its data sets."""
        every = {name: source.settings() for name, source in self.sources.items()}
        return {name: every[""][name] for name in ("root", "packs")} if "" in every else {"sources": every}

    def prepare_data(self) -> None:
        """Make packs that do not exist."""
        if hasattr(self, "pack"):  # for example after `with_splits`, whose crops can differ from those of the sources
            return
        for name, source in self.sources.items():
            with naming(name):
                source.prepare(self.preprocessing)

    def setup(self, stage: str | None = None) -> None:
        """Open the packs and assign their faces to splits; fast, with the same result in every process."""
        if hasattr(self, "pack"):
            return
        packs: dict[str, Pack] = {}
        for name, source in self.sources.items():
            with naming(name):
                packs[name] = Pack(source.packing(self.preprocessing).folder)
        pack = MixedPack(packs, self.classes, self.corrections)
        self.class_names, self.correction_facts = pack.classes, pack.correction_facts
        own = []
        for number, (name, source) in enumerate(self.sources.items()):
            table = pack.table.rows(pack.part(number))
            with naming(name):
                usable = source.usable(table, self.class_names)
                own.append(assign_splits(table, usable, source.val_from, self.split_seed))
        starts = [pack.part(number).start for number in range(len(own))]
        splits = mix_splits(list(self.sources), pack.table, starts, own)
        if self.correction_facts is not None:
            changed = self.correction_facts["faces"]
            log.info("corrections %s: %s", self.corrections, in_words(changed))
            if excluded := changed.get("train", {}).get("excluded", 0):
                splits = replace(splits, dropped={**splits.dropped, "excluded by corrections": excluded})
        train = splits.train
        if self.training_faces is not None and self.training_faces < len(train):
            order = np.random.default_rng([self.split_seed, 0xFACE5]).permutation(len(train))
            splits = replace(splits, train=np.sort(train[order[: self.training_faces]]))
        self.pack, self.splits = pack, splits
        for reason, count in splits.dropped.items():
            log.info("%d training faces dropped: %s", count, reason)

    def with_splits(self, splits: Splits, pack: MixedPack) -> "EmotionDataModule":
        """Return the data with other splits, for training in folds; `pack` can have other crops of the same faces."""
        other = copy.copy(self)
        other.splits, other.pack, other.preprocessing = splits, pack, pack.preprocessing
        return other

    @property
    def fingerprint(self) -> str:
        """Hash of pack and corrections: equal for equal training data."""
        if self.correction_facts is None:
            return self.pack.fingerprint
        parts = {"pack": self.pack.fingerprint, "corrections": self.correction_facts["sha256"]}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def class_counts(self) -> list[int]:
        """Number of training faces per class, in the order of `class_names`, without faces that have no emotion."""
        emotion = self.pack.table.emotion[self.splits.train]
        return [int((emotion == number).sum()) for number in range(len(self.class_names))]

    def class_shares(self) -> tuple[float, ...]:
        """`class_counts` as shares that sum to 1; empty if no training face has an emotion."""
        counts = self.class_counts()
        return tuple(count / sum(counts) for count in counts) if sum(counts) else ()

    def train_dataloader(self) -> DataLoader[faces.Batch]:
        """Return augmented batches, see `TrainingBatches`."""
        train, table, (rank, world_size) = self.splits.train, self.pack.table, self._place()
        weight = np.array([source.weight for source in self.sources.values()])[self.pack.source_of(train)]
        emotion, soft_label = table.emotion[train], table.soft_label[train]
        weights = faces.sampling_weights(emotion, self.sampling, weight, soft_label, self.class_names)
        batches = faces.TrainingBatches(train, self.batch_size, self.seed, weights, self._progress, rank, world_size)
        return self._loader(batches, [source.labels == "soft" for source in self.sources.values()], self.augmentation)

    def val_dataloader(self) -> DataLoader[faces.Batch]:
        """Return batches of the val faces."""
        return self._evaluation(self.splits.val, *self._place())

    def test_dataloader(self) -> DataLoader[faces.Batch]:
        """Return batches of the test faces."""
        return self._evaluation(self.splits.test, *self._place())

    def evaluation_dataloader(self, split: str) -> DataLoader[faces.Batch]:
        """Return batches of all faces of a split, or ``all``, with an emotion; no augmentation, for one process."""
        of = {"train": self.splits.train, "val": self.splits.val, "test": self.splits.test}
        rows = np.unique(np.concatenate(list(of.values()))) if split == "all" else of[split]
        return self._evaluation(rows[self.pack.table.emotion[rows] >= 0], 0, 1)

    def augmented(self, count: int) -> UInt8:
        """Return n <= count training crops and their augmented versions: uint8 (n, 2, H, W, 3), RGB."""
        train = self.splits.train
        rows = np.random.default_rng([self.seed, 0x617D]).choice(train, min(count, len(train)), replace=False)
        crops = self.pack.images(rows)
        return np.stack([crops, self.augmentation(crops, self.seed)], axis=1)

    def _evaluation(self, indices: Int64, rank: int, world_size: int) -> DataLoader[faces.Batch]:
        batches = faces.evaluation_batches(indices, self.eval_batch_size, rank, world_size)
        return self._loader(batches, [False] * len(self.sources), None)

    def _loader(
        self, batches: Iterable[faces.BatchIndices], soft: Sequence[bool], augmentation: Augmentation | None
    ) -> DataLoader[faces.Batch]:
        self._fit_shared_memory()
        return faces.LazyDataLoader(faces.FaceDataset(self.pack, soft, augmentation), batches, self.num_workers)

    def _fit_shared_memory(self) -> None:
        """Reduce the default number of workers, or raise `EmodetError`, if batches exceed shared memory."""
        if not self.num_workers or not _SHARED_MEMORY.is_dir():
            return
        status = os.statvfs(_SHARED_MEMORY)
        room = status.f_blocks * status.f_frsize
        crop = 3 * self.preprocessing.size**2
        each = _FETCHED_AHEAD * crop * (self.batch_size + self.eval_batch_size)
        if self.num_workers * each <= room:
            return
        problem = (
            f"{self.num_workers} workers need {self.num_workers * each / 1e6:.0f} MB of shared memory for batches, "
            f"{_SHARED_MEMORY} has {room / 1e6:.0f} MB"
        )
        way_out = "increase it (docker run --shm-size=1g), or set data.num_workers=0"
        if self._chosen_workers is not None:
            raise EmodetError(f"data.num_workers={self.num_workers}: {problem}; {way_out}")
        self.num_workers = room // each
        log.warning("%s: data.num_workers=%d; %s", problem, self.num_workers, way_out)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _progress(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready


def build_datamodule(
    data: Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> EmotionDataModule:
    """Build the data module from the configuration groups ``data``, ``preprocessing`` and ``augmentation``.

    They contain the keys of `DataSettings` and the arguments of `Preprocessing` and `Augmentation`; `seed` is the seed
    of order and augmentation.
    """
    values = asdict(DataSettings(**data))
    sources, steps = take_sources(values), Augmentation(**(augmentation or {}))
    return EmotionDataModule(sources, preprocessing, augmentation=steps, seed=seed, **values)
