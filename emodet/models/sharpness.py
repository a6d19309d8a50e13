"""Sharpness-aware steps (Foret et al. 2021): go down where the neighbourhood is low, not only the point."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from emodet.errors import EmodetError

__all__ = ["SharpnessAware"]


class SharpnessAware:
    """Takes each gradient at the worst point within `rho` of the weights, which costs a second pass per step.

    Args:
        net: Whose weights.
        rho: The neighbourhood's radius in the Euclidean norm over all weights; 0.05 is the paper's.

    Attributes:
        looking: Whether the second pass is under way: its faces were counted before.

    Raises:
        EmodetError: `rho` is not above 0.
    """

    def __init__(self, net: nn.Module, rho: float) -> None:
        if not rho > 0:
            raise EmodetError(f"training.sharpness={rho}: a radius above 0 was expected, such as 0.05")
        self.net, self.rho, self.looking = net, rho, False

    def around(self, closure: Callable[[], Any], again: Callable[[], None]) -> Callable[[], Any]:
        """A closure that leaves the sharpness-aware gradient.

        Args:
            closure: Clears the gradients, runs forward and backward, returns the loss.
            again: Called before the second pass, to make its dropout masks those of the first.

        Returns:
            The same from outside: it returns the first pass's loss, and the weights are as they were.
        """

        def both() -> Any:
            with torch.enable_grad():
                loss = closure()
                with self._at_the_worst_point():
                    again()
                    closure()
            return loss

        return both

    @contextmanager
    def _at_the_worst_point(self) -> Iterator[None]:
        weights = [weight for weight in self.net.parameters() if weight.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        norms = batch_norms(self.net)
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
        self.looking = True
        try:
            yield
        finally:
            self.looking = False
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)


def batch_norms(net: nn.Module) -> list[_BatchNorm]:
    """The net's batch norms, of whatever dimension."""
    return [module for module in net.modules() if isinstance(module, _BatchNorm)]
