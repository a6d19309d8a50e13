"""Batches out of a pack, and the loader that fetches them."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from emodet.data.augmentation import Augmentation
from emodet.data.mixed import mix_in
from emodet.data.pack import Pack
from emodet.data.splits import Draw

__all__ = ["Batch", "FaceDataset", "LazyDataLoader", "as_fetched", "single_threaded"]


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


class FaceDataset(Dataset[Batch]):
    """Whole batches out of a pack: one fetch, one seeding and one copy for each.

    Args:
        pack: The prepared data set.
        classes: 8, or 7 without contempt.
        soft: For each data set of the pack, whether `Batch.target` is the soft label where there is one.
        augmentation: Applied with the draw's seed; None leaves the crops as they are.
    """

    def __init__(
        self,
        pack: Pack,
        classes: int,
        soft: Sequence[bool],
        augmentation: Augmentation | None,
    ) -> None:
        self.pack, self.classes, self.soft, self.augmentation = pack, classes, np.array(soft, np.bool_), augmentation
        self._mix = mix_in(pack)
        # What a worker process gets of the table: a few numbers per face, not its keys, which are a hundred times that.
        table = pack.table
        self._emotion = table.emotion.astype(np.int8)
        self._valence_arousal = np.stack([table.valence, table.arousal], axis=1)
        self._shares = table.soft_label[:, :classes] if self.soft.any() else None

    def crops(self, draw: Draw) -> npt.NDArray[np.uint8]:
        """Its faces as the net is shown them: uint8 (N, H, W, 3), RGB."""
        crops = self.pack.images(draw.indices)
        return crops if self.augmentation is None else self.augmentation(crops, draw.seed)

    def __getitems__(self, draw: Draw) -> Batch:
        return {"image": torch.from_numpy(self.crops(draw)), **self.labels(draw.indices)}  # type: ignore[typeddict-item]

    def labels(self, rows: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """What a `Batch` of these faces holds beside their crops."""
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
            "emotion": torch.from_numpy(emotion),
            "target": torch.from_numpy(target),
            "valence_arousal": torch.from_numpy(self._valence_arousal[rows]),
            "index": torch.from_numpy(rows),
            "source": torch.from_numpy(source),
        }


def as_fetched(batch: Any) -> Any:
    """What a loader collates: `FaceDataset` gives whole batches."""
    return batch


def single_threaded(_worker: int) -> None:
    """Start a worker of a loader."""
    # A worker is one of several: OpenCV's own threads would only get in each other's way.
    cv2.setNumThreads(0)


class LazyDataLoader(DataLoader[Batch]):
    """A loader whose workers start with the first batch that is asked for, not when the iteration is set up.

    Lightning sets the first epoch's iteration up before it has read where a resumed run stands; workers that started
    then would fetch the wrong batches.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        yield from super().__iter__()
