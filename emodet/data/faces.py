"""Batches out of a pack, and the loader that fetches them."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from emodet.data.augmentation import Augmentation
from emodet.data.batches import BatchIndices
from emodet.data.pack import Pack


class Batch(TypedDict):
    """What the net is trained and measured on.

    Attributes:
        image: uint8 (N, H, W, 3), RGB.
        emotion: int64 (N,), 0 to K - 1, or -1 for a face that only has a soft label.
        target: float32 (N, K), rows sum to 1: the soft label, or 1 for the emotion.
        valence_arousal: float32 (N, 2), -1 to 1, NaN where not annotated.
        index: int64 (N,), positions in the pack's table.
        source: int64 (N,), positions in `EmotionDataModule.sources`.
    """

    image: torch.Tensor
    emotion: torch.Tensor
    target: torch.Tensor
    valence_arousal: torch.Tensor
    index: torch.Tensor
    source: torch.Tensor


class FaceDataset(Dataset[Batch]):
    """Whole batches out of a pack: one fetch, one seeding and one copy for each.

    Args:
        pack: The prepared data.
        classes: Number of classes: the first ones of the pack's.
        source: Integer (len(pack),), which data set each face is from.
        soft: For each data set, whether `Batch.target` is the soft label where there is one.
        augmentation: Applied with the batch's seed; None leaves the crops as they are.
    """

    def __init__(
        self,
        pack: Pack,
        classes: int,
        source: npt.NDArray[np.integer[Any]],
        soft: Sequence[bool],
        augmentation: Augmentation | None,
    ) -> None:
        self.pack, self.classes, self.soft, self.augmentation = pack, classes, np.array(soft, np.bool_), augmentation
        # What a worker process gets of the table: a few numbers per face, not its keys, which are a hundred times that.
        table = pack.table
        self._source = source.astype(np.int16)
        self._emotion = table.emotion.astype(np.int16)
        self._valence_arousal = np.stack([table.valence, table.arousal], axis=1)
        self._shares = table.soft_label[:, :classes] if self.soft.any() else None

    def __getitems__(self, batch: BatchIndices) -> Batch:
        rows = batch.indices
        crops = self.pack.images(rows)
        if self.augmentation is not None:
            crops = self.augmentation(crops, batch.seed)
        emotion, source = self._emotion[rows].astype(np.int64), self._source[rows].astype(np.int64)
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
    # A worker is one of several: OpenCV's own threads would only compete.
    cv2.setNumThreads(0)
    # Ctrl-C and `timeout` signal the whole process group; the main process saves a checkpoint first, with its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class LazyDataLoader(DataLoader[Batch]):
    """A loader of a `FaceDataset` whose workers start with the first batch, not when the iteration is set up.

    Lightning sets up the first epoch's iteration before it has restored the progress of a resumed run; workers that
    started then would fetch the wrong batches.
    """

    def __init__(self, faces: FaceDataset, batches: Any, num_workers: int) -> None:
        super().__init__(
            faces,
            batch_sampler=batches,  # it yields BatchIndices, which __getitems__ takes
            collate_fn=_whole,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        yield from super().__iter__()
