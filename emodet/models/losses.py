"""Training objectives."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from emodet.errors import EmodetError, require

_LEAST = 1e-6  # lower bound of the divisor of a concordance: 0.001 squared


class SoftCrossEntropy(nn.Module):
    """Cross entropy with label distributions, class weights, label smoothing, focal weighting and logit adjustment.

    As `torch.nn.functional.cross_entropy` with probabilities, but divided by the sum of the targets' class weights (as
    in that function for integer labels), so that class weights do not change the scale of the loss.

    Args:
        label_smoothing: Share of each target that is distributed over all classes (Szegedy et al. 2016, section 7).
        class_weights: One weight per class; ``balanced`` for weights inverse to `class_counts`, as in scikit-learn;
            None for equal weights.
        focal_gamma: Exponent of the factor 1 - p, which reduces the loss of well-classified faces; 0 is plain cross
            entropy (Lin et al. 2017, section 3, without its class weight).
        logit_adjustment: Factor τ of the log prior that is added to the logits in training, so that the logits without
            it optimise balanced accuracy (Menon et al. 2021, section 5.1); 0 disables it.
        class_counts: Number of training faces per class.
    """

    weight: torch.Tensor | None
    adjustment: torch.Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | Sequence[float] | None = None,
        focal_gamma: float = 0.0,
        logit_adjustment: float = 0.0,
        class_counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        require(0 <= label_smoothing < 1, "loss.label_smoothing", label_smoothing, "a share from 0 to below 1")
        for name, value in (("focal_gamma", focal_gamma), ("logit_adjustment", logit_adjustment)):
            require(value >= 0, f"loss.{name}", value, "0 or more")
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma
        weight = adjustment = None
        if class_weights == "balanced":
            counted = torch.tensor(_counted("loss.class_weights=balanced", class_counts), dtype=torch.float64)
            weight = (counted.sum() / (len(counted) * counted)).float()
        elif class_weights is not None:
            weight = torch.tensor([float(each) for each in class_weights])
            fits = bool(weight.isfinite().all() and (weight >= 0).all() and weight.sum() > 0)
            require(fits, "loss.class_weights", list(class_weights), "numbers from 0, not all of them 0")
        if logit_adjustment > 0:
            counts = torch.tensor(_counted(f"loss.logit_adjustment={logit_adjustment}", class_counts))
            adjustment = logit_adjustment * (counts / counts.sum()).log()
        # Not persistent, because a checkpoint's hyper-parameters determine them.
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("adjustment", adjustment, persistent=False)

    def require_classes(self, names: Sequence[str]) -> None:
        """Raise `EmodetError` unless there is one class weight per class."""
        if self.weight is not None and len(self.weight) != len(names):
            given = ", ".join(f"{each:g}" for each in self.weight.tolist())
            raise EmodetError(
                f"loss.class_weights=[{given}]: {len(self.weight)} weights for {len(names)} classes "
                f"({', '.join(names)}); give one for each, or balanced"
            )

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Map logits (N, K) and targets (N, K), whose rows sum to 1, to a scalar."""
        if self.adjustment is not None:
            logits = logits + self.adjustment
        if self.focal_gamma == 0:
            losses = F.cross_entropy(
                logits, target, weight=self.weight, label_smoothing=self.label_smoothing, reduction="none"
            )
        else:
            losses = self._focal(logits, target)
        # All classes of a batch can have weight 0.
        return losses.mean() if self.weight is None else losses.sum() / (target @ self.weight).sum().clamp_min(1e-12)

    def _focal(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        share = target * (1 - self.label_smoothing) + self.label_smoothing / logits.shape[1]
        if self.weight is not None:
            share = share * self.weight
        # `expm1` preserves the gradient of 1 - p for p near 1.
        missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(share * missing**self.focal_gamma * log_p).sum(dim=1)


class ConcordanceLoss(nn.Module):
    """1 minus Lin's concordance correlation coefficient of a batch, averaged over valence and arousal: 0 to 2.

    The coefficient is computed over the annotated faces of a batch, separately in each process, so it needs large
    batches of different classes. Lin 1989; as a loss: Ringeval et al. 2015 ("Prediction of asynchronous
    dimensional emotion ratings …"); combined with cross entropy on faces: Toisoul et al. 2021 (EmoNet).
    """

    def forward(self, predicted: torch.Tensor, annotated: torch.Tensor) -> torch.Tensor:
        """Map predicted and annotated values (N, 2), NaN without annotation, to a scalar.

        The loss is 0 without annotated faces, and 1 if the coefficient is undefined.
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


def _counted(argument: str, counts: Sequence[int] | None) -> list[int]:
    if counts is None or min(counts) == 0:
        found = None if counts is None else list(counts)
        raise EmodetError(
            f"{argument}: needs a training face of every class (class_counts={found}); data.classes=[NAME,NAME] leaves "
            "out those that have none"
        )
    return list(counts)
