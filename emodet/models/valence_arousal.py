"""Valence and arousal beside the classes: how a net says them, what makes it learn them, how well it does.

The net gets two outputs more, behind those of the classes in its last layer; tanh bounds them. So every net that has a
last layer can say them, and its state dict keeps its names.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn
from torchmetrics import Metric

from emodet.errors import EmodetError
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, TERMS
from emodet.models.metrics import WIDE

__all__ = ["ConcordanceLoss", "ValenceArousalMetrics", "checked_weight", "split_outputs"]

_LEAST = 1e-6  # of what a concordance is divided by; a thousandth squared


def checked_weight(weight: float | None) -> float:
    """The weight of the loss on valence and arousal; 0 stands for a net without them.

    Raises:
        EmodetError: It is below 0, or no number.
    """
    if weight is None:
        return 0.0
    if not 0 <= weight < float("inf"):
        raise EmodetError(
            f"loss.valence_arousal={weight}: a weight above 0 was expected (1 is usual), or 0 for a net without them"
        )
    return float(weight)


def split_outputs(outputs: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a net gives, (N, K) or (N, K + 2), as logits (N, K), and valence and arousal (N, 2), -1 to 1, or None."""
    if outputs.shape[1] == classes:
        return outputs, None
    return outputs[:, :classes], torch.tanh(outputs[:, classes:])


class ConcordanceLoss(nn.Module):
    """1 less Lin's concordance correlation coefficient of a batch, the mean over valence and arousal: 0 to 2.

    It is not a mean over faces: the coefficient is taken over the annotated faces of the batch, so it wants batches
    with a good many of them, of different classes. Lin 1989; as a loss: Ringeval et al. 2015 ("Prediction of
    asynchronous dimensional emotion ratings …"); beside cross entropy on faces: Toisoul et al. 2021 (EmoNet).

    With several processes each takes it over its own part of the batch, and gradients are averaged.
    """

    def forward(self, said: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
        """The loss of a batch.

        Faces without annotation do not count. A batch without any contributes 0; with a single one, or where what is
        annotated is everywhere the same, the coefficient is 0 and nothing pulls.

        Args:
            said: float32 (N, 2), -1 to 1.
            annotated: float32 (N, 2), -1 to 1, NaN where there is none.

        Returns:
            A scalar.
        """
        known = annotated.isfinite()
        count = known.sum(dim=0)
        share = known / count.clamp_min(1)
        x, y = said, torch.where(known, annotated, 0)
        mean_x, mean_y = (share * x).sum(dim=0), (share * y).sum(dim=0)
        x, y = x - mean_x, y - mean_y
        covariance = (share * x * y).sum(dim=0)
        spread = (share * (x.square() + y.square())).sum(dim=0) + (mean_x - mean_y).square()
        lacking = torch.where(count > 0, 1 - 2 * covariance / (spread + _LEAST), 0)
        return lacking.sum() / (count > 0).sum().clamp_min(1)


class ValenceArousalMetrics(Metric):
    """Concordance, root mean squared error and sign agreement of valence and of arousal, over the annotated faces.

    Not torchmetrics' `ConcordanceCorrCoef`: it knows no faces without annotation, waits for the GPU in each batch, and
    takes variances over n - 1. Sums are added up over all processes.
    """

    full_state_update = False
    sums: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(DIMENSIONS), len(TERMS), dtype=WIDE), dist_reduce_fx="sum")

    def update(self, said: torch.Tensor, annotated: torch.Tensor) -> None:
        """Count a batch: float (N, 2), and the same annotated, NaN where not. See `agreement_terms`."""
        known = annotated.isfinite()
        x, y = (torch.where(known, values, 0).to(WIDE) for values in (said, annotated))
        same_sign = known & (x.sign() == y.sign())
        terms = (known.to(WIDE), x, y, x * x, y * y, x * y, (x - y).square(), same_sign.to(WIDE))
        self.sums += torch.stack(terms, dim=2).sum(dim=0)

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars by name, ``ccc_valence`` and so on, float32; what is not defined is left out."""
        sums = self.sums.cpu().double().numpy()
        found = {
            f"{name}_{dimension}": float(measure(sums[number]))
            for name, measure in AGREEMENTS.items()
            for number, dimension in enumerate(DIMENSIONS)
        }
        return {name: torch.tensor(value) for name, value in found.items() if not math.isnan(value)}

    @staticmethod
    def lacking(values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """`ConcordanceLoss` over all faces that were counted, from what `compute` returned; 0 where there were none."""
        known = [values[name] for name in (f"ccc_{dimension}" for dimension in DIMENSIONS) if name in values]
        return 1 - torch.stack(known).mean() if known else torch.zeros(())
