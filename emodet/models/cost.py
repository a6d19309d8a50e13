"""What a net weighs, and what one face costs it."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["NetCost", "net_cost"]


@dataclass(frozen=True, slots=True)
class NetCost:
    """The size of a net and the work of one forward pass.

    Attributes:
        parameters: Trainable numbers.
        statistics: Numbers that are stored with them but not trained: batch norm's running means and variances.
        multiply_adds: Of one face, in evaluation mode. Counted are convolutions and matrix products, biases, batch norm
            and activations are not; one multiply-add is one, where other tools count two floating-point operations.
        size: The side of that face in pixels.
    """

    parameters: int
    statistics: int
    multiply_adds: int
    size: int

    def __str__(self) -> str:
        work = self.multiply_adds / 1e9
        return f"{self.parameters:,} trainable parameters, {work:.3g} G multiply-adds for a face of {self.size} px"


def net_cost(net: nn.Module, size: int) -> NetCost:
    """Count, without changing the net or drawing a random number.

    Args:
        net: Maps float (N, 3, H, W) to logits.
        size: The side of the crops in pixels.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, size, size, device=device))
    finally:
        net.train(was_training)
    return NetCost(
        parameters=sum(each.numel() for each in net.parameters() if each.requires_grad),
        statistics=sum(each.numel() for each in net.buffers() if each.is_floating_point()),
        multiply_adds=counter.get_total_flops() // 2,
        size=size,
    )
