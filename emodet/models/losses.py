"""What the net is trained to make small."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SoftCrossEntropy"]


class SoftCrossEntropy(nn.Module):
    """Cross entropy against label distributions, with class weights and label smoothing.

    As in `torch.nn.functional.cross_entropy` with probabilities, but averaged over the sum of the weights that the
    targets bear (as that function does for integer labels), so that class weights do not change the scale of the loss.

    Args:
        weight: float (K,), one per class; None weighs all alike.
        label_smoothing: The share of each target that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    weight: torch.Tensor | None

    def __init__(self, weight: torch.Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) and targets (N, K), rows sum to 1, to a scalar."""
        losses = F.cross_entropy(
            logits, target, weight=self.weight, label_smoothing=self.label_smoothing, reduction="none"
        )
        if self.weight is None:
            return losses.mean()
        return losses.sum() / (target @ self.weight).sum()
