"""Optimizers and learning-rate schedulers from plain data."""

import inspect
import logging
import typing
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR

from emodet.errors import require
from emodet.models.build import build, target_of
from emodet.models.metrics import lower_is_better

log = logging.getLogger(__name__)


def build_optimizer(optimizer: Mapping[str, Any], net: nn.Module) -> torch.optim.Optimizer:
    """Build an optimizer, ``{"_target_": "torch.optim.AdamW", "lr": …}``, for a net's trainable parameters.

    Weight decay does not apply to norms and biases.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1]},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    built: torch.optim.Optimizer = build(optimizer, "optimizer", groups)
    return built


def build_scheduler(
    scheduler: Mapping[str, Any], optimizer: torch.optim.Optimizer, total_steps: int
) -> LRSchedulerConfigType:
    """Build a learning-rate scheduler for Lightning.

    Args:
        scheduler: ``{"_target_": "emodet.models.optimization.onecycle", …}``. The target receives the optimizer, and
            ``total_steps`` if it has that argument. It returns a scheduler, stepped per epoch, or Lightning's dict
            with further settings.
        optimizer: Optimizer whose ``lr`` is the peak.
        total_steps: Number of optimizer steps of the whole run.
    """
    built = build(scheduler, "scheduler", optimizer, total_steps=max(2, total_steps))
    return typing.cast(LRSchedulerConfigType, built if isinstance(built, Mapping) else {"scheduler": built})


def stretch(
    scheduler: Any,
    optimizer: torch.optim.Optimizer,
    specs: tuple[Mapping[str, Any], Mapping[str, Any]],
    total_steps: int,
) -> None:
    """Stretch a restored scheduler to `total_steps` at its current step; a scheduler without a length is unchanged.

    The optimizer's learning rates change too. `specs` are those of `build_optimizer` and `build_scheduler`.
    """
    spec = specs[1]
    if "total_steps" in spec or "total_steps" not in inspect.signature(target_of(spec, "scheduler")).parameters:
        return
    # Schedulers of torch compute each rate from the previous one, so step through all of them.
    other = build_optimizer(specs[0], nn.Linear(1, 1))
    moved: Any = build_scheduler(spec, other, total_steps)["scheduler"]
    with warnings.catch_warnings(action="ignore"):  # about the missing optimizer steps
        for _ in range(min(scheduler.last_epoch, total_steps)):
            moved.step()
    scheduler.load_state_dict(moved.state_dict())
    before = optimizer.param_groups[0]["lr"]
    for group, new in zip(optimizer.param_groups, other.param_groups, strict=True):
        group.update({key: value for key, value in new.items() if key != "params"})
    log.info(
        "the learning-rate schedule is stretched to %d steps: after step %d the rate is %.3g, not %.3g",
        *(total_steps, moved.last_epoch, optimizer.param_groups[0]["lr"], before),
    )


def plateau(
    optimizer: torch.optim.Optimizer, factor: float = 0.2, patience: int = 10, monitor: str = "val/loss"
) -> LRSchedulerConfigType:
    """Multiply the learning rate by `factor` after more than `patience` validations without a better `monitor`."""
    mode: Literal["min", "max"] = "min" if lower_is_better(monitor) else "max"
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # Lightning would step it after the epoch's checkpoint was written, and in epochs without a validation too: the
    # classifier does it instead.
    return {"scheduler": scheduler, "monitor": monitor, "interval": "epoch", "reduce_on_plateau": False}


def cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LRSchedulerConfigType:
    """Linear warm-up for `warmup` (a share of the steps), then cosine decay to `final` (a share of the peak)."""
    peak = optimizer.param_groups[0]["lr"]
    rising = min(total_steps - 1, max(1, round(_share("warmup", warmup) * total_steps)))
    falling = CosineAnnealingLR(optimizer, total_steps - rising, eta_min=peak * _share("final", final))
    rise = LinearLR(optimizer, start_factor=1 / rising, total_iters=rising)
    return {"scheduler": SequentialLR(optimizer, [rise, falling], [rising]), "interval": "step"}


def onecycle(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup: float = 0.3, final: float = 4e-6
) -> LRSchedulerConfigType:
    """One-cycle schedule: rise from 1/25 of the peak for `warmup` (a share of the steps), then fall to `final` (a share
    of the peak). Smith and Topin 2018, with constant momentum.
    """
    rise = _share("warmup", warmup)
    scheduler = OneCycleLR(
        optimizer,
        max_lr=optimizer.param_groups[0]["lr"],
        total_steps=total_steps,
        pct_start=rise * 0.999 if rise * total_steps == 1 else rise,  # a rise of one step: torch divides by 0
        final_div_factor=1 / (25 * max(_share("final", final), 1e-9)),
        cycle_momentum=False,
    )
    return {"scheduler": scheduler, "interval": "step"}


def _share(name: str, value: float) -> float:
    require(0 <= value < 1, f"scheduler.{name}", value, "a share from 0 to below 1")
    return value
