"""What the net is trained to make small."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from emodet.errors import EmodetError

__all__ = ["SoftCrossEntropy"]


class SoftCrossEntropy(nn.Module):
    """Cross entropy against label distributions, with class weights, smoothing, focusing and logit adjustment.

    As in `torch.nn.functional.cross_entropy` with probabilities, but averaged over the sum of the weights that the
    targets bear (as that function does for integer labels), so that class weights do not change the scale of the loss.

    Args:
        weight: float (K,), one per class; None weighs all alike.
        label_smoothing: The share of each target that is spread over all classes (Szegedy et al. 2016, section 7).
        focal_gamma: The power of 1 - p that turns the loss away from what is answered well already; 0 is plain cross
            entropy (Lin et al. 2017, section 3, without its class weight).
        logit_adjustment: The share τ of the log prior that is added to the logits while training, so that the logits
            without it aim at balanced accuracy (Menon et al. 2021, section 5.1); 0 does without.
        class_prior: float (K,), the classes' shares in the training data; needed where `logit_adjustment` is not 0.

    Raises:
        EmodetError: A number is out of range, or a class has no share where shares are needed.
    """

    weight: torch.Tensor | None
    adjustment: torch.Tensor | None

    def __init__(
        self,
        weight: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        logit_adjustment: float = 0.0,
        class_prior: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise EmodetError(f"loss.label_smoothing={label_smoothing}: expected 0 to below 1")
        if not focal_gamma >= 0:
            raise EmodetError(f"loss.focal_gamma={focal_gamma}: expected 0 or more")
        if not logit_adjustment >= 0:
            raise EmodetError(f"loss.logit_adjustment={logit_adjustment}: expected 0 or more")
        self.register_buffer("weight", weight)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma
        adjustment = None
        if logit_adjustment > 0:
            if class_prior is None or min(class_prior) <= 0:
                raise EmodetError(
                    f"loss.logit_adjustment={logit_adjustment}: needs a training face of every class (shares "
                    f"{None if class_prior is None else [round(share, 4) for share in class_prior]})"
                )
            adjustment = logit_adjustment * torch.tensor(class_prior, dtype=torch.float32).log()
        # Not persistent: it follows from what the classifier is built from.
        self.register_buffer("adjustment", adjustment, persistent=False)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) and targets (N, K), rows sum to 1, to a scalar."""
        losses, weights = self.per_face(logits, target)
        return losses.mean() if self.weight is None else losses.sum() / weights.sum()

    def per_face(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same before it is averaged: losses (N,), weighted, and the weights (N,) to divide their sum by."""
        if self.adjustment is not None:
            logits = logits + self.adjustment
        if self.focal_gamma == 0:
            losses = F.cross_entropy(
                logits, target, weight=self.weight, label_smoothing=self.label_smoothing, reduction="none"
            )
        else:
            losses = self._focal(logits, target)
        return losses, losses.new_ones(len(losses)) if self.weight is None else target @ self.weight

    def _focal(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        share = target * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        if self.weight is not None:
            share = share * self.weight
        # 1 - p through expm1 keeps its gradient where p is nearly 1.
        missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(share * missing**self.focal_gamma * log_p).sum(dim=1)
