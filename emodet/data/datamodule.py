"""The LightningDataModule: packs in, batches out."""

import copy
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import cv2
import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from emodet.data.augmentation import Augmentation
from emodet.data.corrections import CorrectedPack, fingerprint_with, in_words, read_corrections
from emodet.data.mixed import MixedPack, mix_in, share_out, usable_faces
from emodet.data.pack import Pack
from emodet.data.records import Listing, Reader
from emodet.data.sources import Source, sources_of
from emodet.data.splits import Draw, EvaluationBatches, Roles, TrainingBatches, drawing_weights
from emodet.data.summary import listing_summary, outcome
from emodet.emotions import class_names
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

__all__ = ["Batch", "EmotionDataModule", "Faces"]

log = logging.getLogger(__name__)


class Batch(TypedDict):
    """What the net is trained and measured on.

    Attributes:
        image: uint8 (N, H, W, 3), RGB.
        emotion: int64 (N,), 0 to K - 1, or -1 for a face that only has a soft label.
        target: float32 (N, K), rows sum to 1: the soft label, or 1 for the emotion.
        valence_arousal: float32 (N, 2), -1 to 1, NaN where not annotated.
        index: int64 (N,), positions in the pack's table.
        source: int64 (N,), positions in `EmotionDataModule.source_names`, 0 where there is one data set.
    """

    image: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    valence_arousal: torch.Tensor
    index: torch.Tensor
    source: torch.Tensor


class Faces(Dataset[Batch]):
    """Whole batches out of a pack: one fetch, one seeding and one copy for each.

    Args:
        pack: The prepared data set.
        classes: 8, or 7 without contempt.
        soft: For each data set of the pack, whether `Batch.target` is the soft label where there is one.
        augmentation: Applied with the draw's seed; None leaves the crops as they are.
    """

    def __init__(self, pack: Pack, classes: int, soft: Sequence[bool], augmentation: Augmentation | None) -> None:
        self.pack, self.classes, self.soft, self.augmentation = pack, classes, np.array(soft, np.bool_), augmentation
        self._mix = mix_in(pack)
        # What a worker process gets of the table: a few numbers per face, not its keys, which are a hundred times that.
        table = pack.table
        self._emotion = table.emotion.astype(np.int8)
        self._valence_arousal = np.stack([table.valence, table.arousal], axis=1)
        self._shares = table.soft_label[:, :classes] if self.soft.any() else None

    def __getitems__(self, draw: Draw) -> Batch:
        rows = draw.indices
        crops = self.pack.images(rows)
        if self.augmentation is not None:
            crops = self.augmentation(crops, draw.seed)
        emotion = self._emotion[rows].astype(np.int64)
        target = np.zeros((len(rows), self.classes), dtype=np.float32)
        labelled = np.flatnonzero(emotion >= 0)
        target[labelled, emotion[labelled]] = 1
        source = np.zeros(len(rows), dtype=np.int64) if self._mix is None else self._mix.source_of(rows)
        if self._shares is not None:
            shares = self._shares[rows]
            given = np.flatnonzero((np.nan_to_num(shares).sum(axis=1) > 0) & self.soft[source])
            target[given] = shares[given] / shares[given].sum(axis=1, keepdims=True)
        return {
            "image": torch.from_numpy(crops),
            "emotion": torch.from_numpy(emotion),
            "target": torch.from_numpy(target),
            "valence_arousal": torch.from_numpy(self._valence_arousal[rows]),
            "index": torch.from_numpy(rows),
            "source": torch.from_numpy(source),
        }


def _as_fetched(batch: Any) -> Any:
    return batch


def _single_threaded(_worker: int) -> None:
    # A worker is one of several: OpenCV's own threads would only get in each other's way.
    cv2.setNumThreads(0)


class _StartsWhenAsked(DataLoader[Batch]):
    """A loader whose workers start with the first batch that is asked for, not when the iteration is set up.

    Lightning sets the first epoch's iteration up before it has read where a resumed run stands; workers that started
    then would fetch the wrong batches.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        yield from super().__iter__()


class EmotionDataModule(L.LightningDataModule):
    """Any release that a reader knows, or several, prepared on first use, as training, selection and report batches.

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
        selection: See `assign_roles`.
        selection_seed: Decides which faces are held out; kept apart from `seed` so that seeds can be compared.
        batch_size: Faces per training batch and process.
        evaluation_batch_size: Likewise without gradients.
        balanced: Whether training draws every class equally often.
        training_faces: Train on so many faces, seeded, the same ones throughout: to see whether a net learns at all,
            or how its accuracy grows with the data. None takes all.
        augmentation: The steps of an `Augmentation`.
        workers: Processes that fetch batches; None takes one per core, eight at most.
        processes: Processes that prepare; None takes one per core.
        max_unreadable: The share of pictures that may be unreadable.
        changed: ``refuse`` a release that is no longer what was packed of it, or ``use`` its pack as it is.
        corrections: A file that excludes and relabels faces, see `emodet.data.corrections`; in a mix its keys begin
            with the data set's name and a colon.
        seed: Of order and augmentation.
        sources: Several data sets instead of one, in order, by name: for each the attributes of a
            `emodet.data.sources.Source` in which it differs from the arguments above. See
            `emodet.data.mixed.mixed_roles` for which faces then train, select and report.

    Attributes:
        sources: The data sets; one, if `sources` was not given.
        pack: Set up by `setup`, as is `roles`.
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
        selection: str | float = "auto",
        selection_seed: int = 0,
        batch_size: int = 32,
        evaluation_batch_size: int = 256,
        balanced: bool = False,
        training_faces: int | None = None,
        augmentation: Sequence[Mapping[str, Any]] = (),
        workers: int | None = None,
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
        if workers is not None and workers < 0:
            raise EmodetError(f"data.workers={workers}: 0 (fetch in the training process) or more")
        self.packs = Path(packs or os.environ.get("EMODET_PACKS") or "data/packs").expanduser()
        self.preprocessing = Preprocessing.from_dict(preprocessing)
        self.class_names = class_names(classes)
        shared: dict[str, Any] = {
            "preprocessing": self.preprocessing,
            "packs": self.packs,
            "crop": crop,
            "classes": classes,
            "labels": labels,
            "selection": selection,
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
        self.selection_seed, self.seed = selection_seed, seed
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.balanced, self.augmentation = balanced, Augmentation(augmentation)
        self.workers = min(8, _cores()) if workers is None else workers
        self.training_faces = training_faces
        self.corrections = None if corrections is None else Path(corrections).expanduser()
        self.pack: Pack
        self.roles: Roles

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
        roles = share_out(pack, self.sources, self.selection_seed)
        if excluded:
            roles = replace(roles, dropped={**roles.dropped, "excluded by corrections": excluded})
        train = roles.train
        if self.training_faces is not None and self.training_faces < len(train):
            order = np.random.default_rng([self.selection_seed, 0xFACE5]).permutation(len(train))
            roles = replace(roles, train=np.sort(train[order[: self.training_faces]]))
        self.pack, self.roles = pack, roles
        for reason, count in self.roles.dropped.items():
            log.info("%d training faces dropped: %s", count, reason)

    def shared_out(self, roles: Roles, pack: Pack | None = None) -> "EmotionDataModule":
        """The same data with other roles, for training in folds; `pack` gives other crops of the same faces."""
        other = copy.copy(self)
        other.roles = roles
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
        emotion = self.pack.table.emotion[self.roles.train]
        return [int((emotion == number).sum()) for number in range(len(self.class_names))]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented batches, see `TrainingBatches`."""
        train = self.roles.train
        wanted = np.array([source.weight for source in self.sources])[self.source_of(train)]
        weights = drawing_weights(self.pack.table.emotion[train], balanced=self.balanced, wanted=wanted)
        rank, world_size = self._place()
        batches = TrainingBatches(
            train, self.batch_size, self.seed, weights, self._progress, rank=rank, world_size=world_size
        )
        soft = [source.soft for source in self.sources]
        return self._loader(Faces(self.pack, len(self.class_names), soft, self.augmentation), batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The selection faces."""
        return self._evaluation(self.roles.selection, *self._place())

    def test_dataloader(self) -> DataLoader[Batch]:
        """The report faces."""
        return self._evaluation(self.roles.report, *self._place())

    def evaluation_dataloader(self, role: str) -> DataLoader[Batch]:
        """All faces of a role that have an emotion, without augmentation, whatever number of processes trains."""
        rows = {"train": self.roles.train, "selection": self.roles.selection, "report": self.roles.report}[role]
        return self._evaluation(rows[self.pack.table.emotion[rows] >= 0], 0, 1)

    def augmented(self, count: int) -> npt.NDArray[np.uint8]:
        """Training crops as the net sees them: uint8 (n, 2, H, W, 3), each beside its augmented self, n <= count."""
        train = self.roles.train
        rows = np.random.default_rng([self.seed, 0x617D]).choice(train, min(count, len(train)), replace=False)
        crops = self.pack.images(rows)
        return np.stack([crops, self.augmentation(crops, self.seed)], axis=1)

    def _evaluation(self, indices: npt.NDArray[np.int64], rank: int, world_size: int) -> DataLoader[Batch]:
        batches = EvaluationBatches(indices, self.evaluation_batch_size, rank, world_size)
        return self._loader(Faces(self.pack, len(self.class_names), [False] * len(self.sources), None), batches)

    def _loader(self, faces: Faces, batches: TrainingBatches | EvaluationBatches) -> DataLoader[Batch]:
        return _StartsWhenAsked(
            faces,
            batch_sampler=batches,  # type: ignore[arg-type]  # it yields draws, which __getitems__ takes
            collate_fn=_as_fetched,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_single_threaded,
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
