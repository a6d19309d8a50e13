"""Size of a net, and the work of one forward pass."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["NetCost", "net_cost"]


@dataclass(frozen=True, slots=True)
class NetCost:
    """What a net costs.

    Attributes:
        parameters: Trainable numbers.
        statistics: Batch norm's running means and variances.
        multiply_adds: Of one face of `size` pixels, in convolutions and matrix products.
    """

    parameters: int
    statistics: int
    multiply_adds: int
    size: int

    def __str__(self) -> str:
        work = self.multiply_adds / 1e9
        return f"{self.parameters:,} trainable parameters, {work:.3g} G multiply-adds for a face of {self.size} px"


def net_cost(net: nn.Module, size: int) -> NetCost:
    """Count on a crop of `size` pixels, without changing the net or drawing a random number."""
    was_training, device = net.training, next(net.parameters()).device
    net.eval()
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, size, size, device=device))
    finally:
        net.train(was_training)
    return NetCost(
        parameters=sum(each.numel() for each in net.parameters() if each.requires_grad),
        statistics=sum(each.numel() for name, each in net.named_buffers() if "running" in name),
        multiply_adds=counter.get_total_flops() // 2,
        size=size,
    )
