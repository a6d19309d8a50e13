"""Sharpness-aware minimisation (Foret et al. 2021)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from emodet.errors import EmodetError
from emodet.models.extras import TrainingExtra

if TYPE_CHECKING:
    from emodet.models.classifier import EmotionClassifier

__all__ = ["SharpnessAware"]


class SharpnessAware(TrainingExtra):
    """Takes each gradient at the worst point within `rho` of the weights, which costs a second pass per step.

    Args:
        rho: Radius in the Euclidean norm over all weights; 0.05 is the paper's.

    Raises:
        EmodetError: `rho` is not above 0.
    """

    def __init__(self, rho: float = 0.05) -> None:
        if not rho > 0:
            raise EmodetError(f"training.sam_rho={rho}: a radius above 0 was expected, such as 0.05")
        self.rho = rho

    def on_fit_start(self, classifier: "EmotionClassifier") -> None:
        """Refuse trainers that do not take a whole step per batch."""
        trainer = classifier.trainer
        if trainer.accumulate_grad_batches > 1:
            raise EmodetError(
                "training.sam_rho does not go together with trainer.accumulate_grad_batches="
                f"{trainer.accumulate_grad_batches}: the worst point is that of one batch; use a larger data.batch_size"
            )
        if trainer.scaler is not None:
            raise EmodetError(
                f"training.sam_rho does not go together with trainer.precision={trainer.precision}, which scales "
                "gradients; use bf16-mixed or 32-true"
            )

    def wrap_closure(
        self, closure: Callable[[], Any], reseed: Callable[[], None], classifier: "EmotionClassifier"
    ) -> Callable[[], Any]:
        """Run `closure` twice, the second time at the worst point; the returned loss is the first pass's."""

        def both() -> Any:
            with torch.enable_grad():
                loss = closure()
                with self._worst_point(classifier.net), classifier.uncounted():
                    reseed()
                    closure()
            return loss

        return both

    @contextmanager
    def _worst_point(self, net: nn.Module) -> Iterator[None]:
        weights = [weight for weight in net.parameters() if weight.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        with torch.no_grad():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
            scale = self.rho / (length + 1e-12)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(gradient * scale.to(gradient.dtype))
        # The running statistics are those of the weights themselves.
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)
