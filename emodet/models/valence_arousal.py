"""The valence/arousal head: two outputs behind those of the classes, and their loss.

They are two more rows of the net's last layer, bounded by tanh. So every net that has a last layer can have the head,
and its state dict keeps its names.
"""

import torch
from torch import nn

from emodet.errors import EmodetError
from emodet.models.agreement import DIMENSIONS

__all__ = ["ConcordanceLoss", "checked_weight", "split_outputs"]

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
            f"training.valence_arousal={weight}: a weight above 0 was expected (1 is usual), or 0 for no head"
        )
    return float(weight)


def split_outputs(
    outputs: torch.Tensor, classes: int, *, has_va_head: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A net's outputs, (N, K) or (N, K + 2), as logits (N, K), and valence and arousal (N, 2), -1 to 1, or None.

    Raises:
        EmodetError: The net has another number of outputs.
    """
    wanted = classes + (len(DIMENSIONS) if has_va_head else 0)
    if outputs.shape[1] != wanted:
        raise EmodetError(
            f"net: {outputs.shape[1]} outputs; {wanted} are needed, one per class"
            + (" and two for valence and arousal" if has_va_head else "")
        )
    if not has_va_head:
        return outputs, None
    return outputs[:, :classes], torch.tanh(outputs[:, classes:])


class ConcordanceLoss(nn.Module):
    """1 less Lin's concordance correlation coefficient of a batch, the mean over valence and arousal: 0 to 2.

    It is not a mean over faces: the coefficient is taken over the annotated faces of the batch, so it wants batches
    with a good many of them, of different classes. Lin 1989; as a loss: Ringeval et al. 2015 ("Prediction of
    asynchronous dimensional emotion ratings …"); beside cross entropy on faces: Toisoul et al. 2021 (EmoNet).

    With several processes each takes it over its own part of the batch, and gradients are averaged.
    """

    def forward(self, predicted: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
        """The loss of a batch.

        Faces without annotation do not count. A batch without any contributes 0; with a single one, or where what is
        annotated is everywhere the same, the coefficient is 0 and nothing pulls.

        Args:
            predicted: float32 (N, 2), -1 to 1.
            annotated: float32 (N, 2), -1 to 1, NaN where there is none.

        Returns:
            A scalar.
        """
        known = annotated.isfinite()
        count = known.sum(dim=0)
        share = known / count.clamp_min(1)
        x, y = predicted, torch.where(known, annotated, 0)
        mean_x, mean_y = (share * x).sum(dim=0), (share * y).sum(dim=0)
        x, y = x - mean_x, y - mean_y
        covariance = (share * x * y).sum(dim=0)
        spread = (share * (x.square() + y.square())).sum(dim=0) + (mean_x - mean_y).square()
        lacking = torch.where(count > 0, 1 - 2 * covariance / (spread + _LEAST), 0)
        return lacking.sum() / (count > 0).sum().clamp_min(1)
