"""Batches of a pack: sampling order and frequency of faces, and the loader that fetches them."""

import atexit
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from emodet.arrays import Float32, Float64, Int64
from emodet.data.augmentation import Augmentation
from emodet.data.mixed import MixedPack
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

SAMPLING = ("natural", "balanced", "votes")
"""``natural`` draws each face once per epoch, ``balanced`` every class equally often, ``votes`` faces with votes for a
rare emotion twice as often, even if the majority chose another emotion."""

# Share of the votes from which a face counts as a rare emotion.
_RARE = {"disgust": 0.2, "contempt": 0.2, "fear": 0.3}


class BatchIndices(NamedTuple):
    """One batch: row indices of the pack's table, int64 (N,), and the seed of the augmentation."""

    indices: Int64
    seed: int


class TrainingBatches(Sampler[BatchIndices]):
    """Batch sampler of an epoch that depends only on (seed, epoch, rank, number of processes).

    Order and augmentation have no state, so a resumed run processes exactly the missing batches.

    Args:
        indices: int64, row indices of the training faces.
        batch_size: Faces per batch and process. The last incomplete batch is dropped, because batch norm over few faces
            is noisy.
        seed: Seed of the run.
        weights: float64 (len(indices),) probabilities for drawing with replacement; None draws each face once.
        progress: Called when an epoch starts; returns the number of the epoch and of its finished batches.
        rank: Rank of this process among the `world_size` processes of the epoch.
    """

    def __init__(
        self,
        indices: Int64,
        batch_size: int,
        seed: int,
        weights: Float64 | None,
        progress: Callable[[], tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size * world_size > len(indices):
            raise EmodetError(
                f"data.batch_size={batch_size} on {world_size} process(es) needs more faces than the {len(indices)} "
                "training faces there are; choose a smaller batch"
            )
        self.indices, self.batch_size, self.seed, self.progress = indices, batch_size, seed, progress
        self.weights = None if weights is None else weights / weights.sum()
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(self.indices) // (self.batch_size * self.world_size)

    def order(self, epoch: int) -> Int64:
        """Return the faces of an epoch in order, over all processes: int64 (len(self) * batch_size * world_size,)."""
        generator = np.random.default_rng([self.seed, epoch])
        count = len(self.indices)
        if self.weights is None:
            order = generator.permutation(count)
        else:
            order = generator.choice(count, size=count, p=self.weights)
        return self.indices[order[: len(self) * self.batch_size * self.world_size]]

    def __iter__(self) -> Iterator[BatchIndices]:
        epoch, done = self.progress()
        order = self.order(epoch)
        whole = self.batch_size * self.world_size
        for batch in range(done, len(self)):
            rows = order[batch * whole + self.rank : (batch + 1) * whole : self.world_size]
            entropy = np.random.SeedSequence([self.seed, epoch, batch, self.rank]).generate_state(1)[0]
            yield BatchIndices(rows, int(entropy))


def evaluation_batches(indices: Int64, batch_size: int, rank: int = 0, world_size: int = 1) -> list[BatchIndices]:
    """Return batches with every face exactly once over all processes, in order, without padding.

    All processes have the same number of batches, so that none waits for another; the last batches can be empty.
    """
    own, count = indices[rank::world_size], math.ceil(len(indices) / (batch_size * world_size))
    return [BatchIndices(own[start : start + batch_size], 0) for start in range(0, count * batch_size, batch_size)]


def sampling_weights(
    emotion: npt.NDArray[np.integer[Any]],
    sampling: str,
    weight: Float64 | None = None,
    soft_label: Float32 | None = None,
    class_names: Sequence[str] = EMOTIONS,
) -> Float64 | None:
    """Return the relative sampling frequency of each face, float64 (N,), or None to draw each face once.

    Emotions are indices of `class_names`, -1 for none; `soft_label` (N, K) is used by ``votes``. `weight` (N,) is the
    relative frequency of a face, with ``balanced`` within its class; there, faces without an emotion have the average
    weight.
    """
    if weight is None:
        weight = np.ones(len(emotion))
    if sampling == "votes" and soft_label is not None:
        # A little below, as shares of ten votes are no exact binary fractions.
        rare = [np.nan_to_num(soft_label[:, class_names.index(name)]) >= least - 1e-3
                for name, least in _RARE.items() if name in class_names]  # fmt: skip
        weight = weight * np.where(np.any(rare, axis=0), 2.0, 1.0) if rare else weight
    if sampling != "balanced":
        return None if (weight == weight[:1]).all() else weight / weight.mean()
    labelled = emotion >= 0
    sums = np.bincount(emotion[labelled], weights=weight[labelled], minlength=1)
    present = max(1, int((sums > 0).sum()))
    per_class = np.divide(labelled.sum() / present, sums, out=np.zeros_like(sums), where=sums > 0)
    return np.asarray(np.where(labelled, per_class[np.maximum(emotion, 0)], 1 / weight.mean()) * weight)


class Batch(TypedDict):
    """A batch of faces for training and evaluation.

    Attributes:
        image: uint8 (N, H, W, 3), RGB.
        emotion: int64 (N,), 0 to K - 1, or -1 for a face with only a soft label.
        target: float32 (N, K), rows sum to 1: the soft label, or one-hot for the emotion.
        valence_arousal: float32 (N, 2), -1 to 1, NaN where not annotated.
        index: int64 (N,), row indices of the pack's table.
        source: int64 (N,), indices of `EmotionDataModule.sources`.
    """

    image: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    valence_arousal: torch.Tensor
    index: torch.Tensor
    source: torch.Tensor


class FaceDataset(Dataset[Batch]):
    """Dataset of whole batches of a pack, with one read, one seeding and one copy per batch.

    `soft` contains for each data set whether `Batch.target` is the soft label, if a face has one.
    """

    def __init__(self, pack: MixedPack, soft: Sequence[bool], augmentation: Augmentation | None) -> None:
        self.pack, self.classes, self.augmentation = pack, len(pack.classes), augmentation
        self.soft = np.array(soft, dtype=np.bool_)
        # Worker processes receive only these few numbers per face, not the keys, which are a hundred times larger.
        table = pack.table
        self._emotion = table.emotion.astype(np.int16)
        self._valence_arousal = np.stack([table.valence, table.arousal], axis=1)
        self._shares = table.soft_label[:, : self.classes] if self.soft.any() else None

    def __getitems__(self, batch: BatchIndices) -> Batch:
        rows = batch.indices
        crops = self.pack.images(rows)
        if self.augmentation is not None:
            crops = self.augmentation(crops, batch.seed)
        emotion, source = self._emotion[rows].astype(np.int64), self.pack.source_of(rows)
        target = np.zeros((len(rows), self.classes), dtype=np.float32)
        labelled = np.flatnonzero(emotion >= 0)
        target[labelled, emotion[labelled]] = 1
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


def _whole(batch: Any) -> Any:
    return batch


def _start_worker(_number: int) -> None:
    # OpenCV's threads in several workers would compete for the cores.
    cv2.setNumThreads(0)
    # Ctrl-C and `timeout` signal the whole process group, but the main process needs its workers to save a checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Torch detects only a later end of the main process, and would wait for ever.
    if (parent := multiprocessing.parent_process()) is not None and parent.pid != os.getppid():
        raise SystemExit(1)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Block signals in processes that start in this block, until `_start_worker` runs in them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class LazyDataLoader(DataLoader[Batch]):
    """Data loader of a `FaceDataset` whose workers start with the first batch, not when the iterator is created.

    Lightning creates the iterator of the first epoch before it restores the progress of a resumed run, so workers would
    fetch the wrong batches.
    """

    def __init__(self, faces: FaceDataset, batches: Any, num_workers: int) -> None:
        super().__init__(
            faces,
            batch_sampler=batches,  # yields BatchIndices, the argument of __getitems__
            collate_fn=_whole,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        earlier = multiprocessing.active_children()
        with _signals_held_back():
            batches = super().__iter__()
        for worker in multiprocessing.active_children():
            if worker not in earlier:
                # After an error, multiprocessing sends workers SIGTERM, which they ignore, and waits for ever.
                atexit.register(worker.kill)
        yield from batches
