"""The LightningDataModule: data sets in, batches out."""

import copy
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Sampler

from emodet.arrays import Int64, UInt8
from emodet.cpu import available_cores
from emodet.data import faces
from emodet.data.augmentation import Augmentation
from emodet.data.corrections import in_words
from emodet.data.mixed import MixedPack
from emodet.data.pack import Pack
from emodet.data.sources import Source, naming
from emodet.data.splits import Splits, assign_splits, mix_splits
from emodet.emotions import chosen_classes
from emodet.errors import EmodetError, require
from emodet.files import expanded
from emodet.preprocessing import Preprocessing

log = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")
_FETCHED_AHEAD = 3  # torch's prefetch factor, and the batch that is trained on


class EmotionDataModule(L.LightningDataModule):
    """One data set or a mix of several, prepared on first use, as training, val and test batches.

    Args:
        sources: A data set, or several by name, in order.
        preprocessing: Geometry and colour of a crop, or the arguments of `Preprocessing`.
        batch_size: Faces per training batch and process.
        eval_batch_size: Faces per evaluation batch.
        num_workers: Processes that fetch batches; None takes one per core, eight at most.
        augmentation: Of training crops, or its steps; None leaves them as they are.
        sampling: One of `emodet.data.faces.SAMPLING`.
        classes: 8 (the emotions), 7 (without contempt), or names, in the order of the net's outputs; None takes those
            that the data has.
        split_seed: Decides which faces are held out; kept apart from `seed` so that seeds can be compared.
        training_faces: Train on so many faces, seeded, the same ones throughout; None takes all.
        corrections: A file that excludes and relabels faces, see `emodet.data.corrections`; in a mix its keys begin
            with the data set's name and a colon.
        seed: Of order and augmentation.

    Attributes:
        sources: By name; a single data set has the empty name.
        class_names: Of the net, in order. Set up by `setup`, as are the following.
        pack: All faces; its first classes are `class_names`.
        splits: Positions in its table.
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
        """Names of the data sets of a mix, in order; empty for a single one."""
        return () if "" in self.sources else tuple(self.sources)

    def places(self) -> dict[str, Any]:
        """The settings that locate the data, with absolute paths; of a mix, all settings of its data sets."""
        every = {name: source.settings() for name, source in self.sources.items()}
        return {name: every[""][name] for name in ("root", "packs")} if "" in every else {"sources": every}

    def prepare_data(self) -> None:
        """Make packs that do not exist."""
        if hasattr(self, "pack"):  # as after `with_splits`, whose crops need not be those of the sources
            return
        for name, source in self.sources.items():
            with naming(name):
                source.prepare(self.preprocessing)

    def setup(self, stage: str | None = None) -> None:
        """Open the packs and assign their faces to splits; cheap, and the same in every process."""
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
        """The same data with other splits, for training in folds; `pack` gives other crops of the same faces."""
        other = copy.copy(self)
        other.splits, other.pack, other.preprocessing = splits, pack, pack.preprocessing
        return other

    @property
    def fingerprint(self) -> str:
        """The pack's, and of the corrections where there are any: equal for data that trains the same."""
        if self.correction_facts is None:
            return self.pack.fingerprint
        parts = {"pack": self.pack.fingerprint, "corrections": self.correction_facts["sha256"]}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def class_counts(self) -> list[int]:
        """Training faces per class, in the order of `class_names`; faces without an emotion are not counted."""
        emotion = self.pack.table.emotion[self.splits.train]
        return [int((emotion == number).sum()) for number in range(len(self.class_names))]

    def class_shares(self) -> tuple[float, ...]:
        """`class_counts` as shares that sum to 1; empty where no training face has an emotion."""
        counts = self.class_counts()
        return tuple(count / sum(counts) for count in counts) if sum(counts) else ()

    def train_dataloader(self) -> DataLoader[faces.Batch]:
        """Augmented batches, see `TrainingBatches`."""
        train, table, (rank, world_size) = self.splits.train, self.pack.table, self._place()
        weight = np.array([source.weight for source in self.sources.values()])[self.pack.source_of(train)]
        emotion, soft_label = table.emotion[train], table.soft_label[train]
        weights = faces.sampling_weights(emotion, self.sampling, weight, soft_label, self.class_names)
        batches = faces.TrainingBatches(train, self.batch_size, self.seed, weights, self._progress, rank, world_size)
        return self._loader(batches, [source.labels == "soft" for source in self.sources.values()], self.augmentation)

    def val_dataloader(self) -> DataLoader[faces.Batch]:
        """The val faces."""
        return self._evaluation(self.splits.val, *self._place())

    def test_dataloader(self) -> DataLoader[faces.Batch]:
        """The test faces."""
        return self._evaluation(self.splits.test, *self._place())

    def evaluation_dataloader(self, split: str) -> DataLoader[faces.Batch]:
        """All faces of a split, or of ``all``, that have an emotion, without augmentation, in one process."""
        of = {"train": self.splits.train, "val": self.splits.val, "test": self.splits.test}
        rows = np.unique(np.concatenate(list(of.values()))) if split == "all" else of[split]
        return self._evaluation(rows[self.pack.table.emotion[rows] >= 0], 0, 1)

    def augmented(self, count: int) -> UInt8:
        """Training crops: uint8 (n, 2, H, W, 3), each beside its augmented version, n <= count."""
        train = self.splits.train
        rows = np.random.default_rng([self.seed, 0x617D]).choice(train, min(count, len(train)), replace=False)
        crops = self.pack.images(rows)
        return np.stack([crops, self.augmentation(crops, self.seed)], axis=1)

    def _evaluation(self, indices: Int64, rank: int, world_size: int) -> DataLoader[faces.Batch]:
        batches = faces.EvaluationBatches(indices, self.eval_batch_size, rank, world_size)
        return self._loader(batches, [False] * len(self.sources), None)

    def _loader(
        self, batches: Sampler[faces.BatchIndices], soft: Sequence[bool], augmentation: Augmentation | None
    ) -> DataLoader[faces.Batch]:
        self._fit_shared_memory()
        return faces.LazyDataLoader(faces.FaceDataset(self.pack, soft, augmentation), batches, self.num_workers)

    def _fit_shared_memory(self) -> None:
        """Refuse, or by default reduce, workers whose batches do not fit: training would wait for ever."""
        if not self.num_workers or not _SHARED_MEMORY.is_dir():
            return
        found = os.statvfs(_SHARED_MEMORY)
        room = found.f_blocks * found.f_frsize
        crop = 3 * self.preprocessing.size**2
        each = _FETCHED_AHEAD * crop * (self.batch_size + self.eval_batch_size)
        if self.num_workers * each <= room:
            return
        problem = (
            f"{self.num_workers} workers need {self.num_workers * each / 1e6:.0f} MB of shared memory for batches, "
            f"{_SHARED_MEMORY} has {room / 1e6:.0f} MB"
        )
        way_out = "give the container more (docker run --shm-size=1g), or set data.num_workers=0"
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
