"""In which order faces are seen, and how often."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

Indices = npt.NDArray[np.int64]

SAMPLING = ("natural", "balanced", "votes")
"""``natural`` draws each face once per epoch, ``balanced`` every class equally often, ``votes`` faces with votes for a
rare emotion twice as often, whatever the majority is."""

# The share of the votes from which a face counts as one of a rare emotion.
_RARE = {"disgust": 0.2, "contempt": 0.2, "fear": 0.3}


class BatchIndices(NamedTuple):
    """One batch.

    Attributes:
        indices: int64 (N,), positions in the pack's table.
        seed: Of their augmentation.
    """

    indices: Indices
    seed: int


class TrainingBatches(Sampler[BatchIndices]):
    """The batches of an epoch, a function of (seed, epoch, rank, number of processes) alone.

    Order and augmentation have no state, so a resumed run gets exactly the batches that are missing.

    Args:
        indices: int64, the training faces.
        batch_size: Faces per batch and process. The last incomplete batch is left out: a batch norm over few faces
            would be noise.
        seed: Of the run.
        weights: float64 (len(indices),) probabilities to be drawn, with replacement; None draws each face once.
        progress: Called when an epoch starts: its number, and how many of its batches are done already.
        rank: Of this process.
        world_size: How many processes share the epoch.
    """

    def __init__(
        self,
        indices: Indices,
        batch_size: int,
        seed: int,
        weights: npt.NDArray[np.float64] | None,
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

    def order(self, epoch: int) -> Indices:
        """The faces of an epoch's batches in order, over all processes: int64 (len(self) * batch * processes,)."""
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


class EvaluationBatches(Sampler[BatchIndices]):
    """Every face exactly once over all processes, in order: none is repeated to even out the numbers.

    All processes make the same number of batches, so that none waits for another; the last ones may be empty.
    """

    def __init__(self, indices: Indices, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices, self.batch_size = indices[rank::world_size], batch_size
        self.count = -(-len(indices) // (batch_size * world_size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[BatchIndices]:
        for batch in range(self.count):
            start = batch * self.batch_size
            yield BatchIndices(self.indices[start : start + self.batch_size], 0)


def sampling_weights(
    emotion: npt.NDArray[np.integer[Any]],
    sampling: str,
    weight: npt.NDArray[np.float64] | None = None,
    soft_label: npt.NDArray[np.float32] | None = None,
    class_names: Sequence[str] = EMOTIONS,
) -> npt.NDArray[np.float64] | None:
    """How often faces are drawn, relative to each other.

    Args:
        emotion: Integer (N,), positions in `class_names`, -1 for none.
        sampling: One of `SAMPLING`. Where classes are balanced, faces without an emotion keep the average weight.
        weight: float64 (N,), above 0: how much more often one face is drawn than another, of the same class where
            classes are balanced. None weighs all equally.
        soft_label: float32 (N, K), NaN where there is none; for ``votes``.
        class_names: The K classes.

    Returns:
        float64 (N,), or None where each face comes once.
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
