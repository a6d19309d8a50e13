"""Optimizers and learning-rate schedules from plain values."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR

from emodet.errors import EmodetError
from emodet.models.metrics import lower_is_better

__all__ = ["build_optimizer", "build_schedule"]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def build_optimizer(settings: Mapping[str, Any], net: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over a net's parameters.

    Args:
        settings: ``name`` (adam, adamw, sgd); ``lr``, ``weight_decay`` and the rest as torch calls them. Weight decay
            does not touch biases and norms.
        net: Whose parameters.

    Raises:
        EmodetError: The name or an argument is not known or out of range.
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    if name not in _OPTIMIZERS:
        raise EmodetError(f"optimizer.name={name!r}: there are {', '.join(_OPTIMIZERS)}")
    decay = float(arguments.pop("weight_decay", 0.0))
    if decay < 0:  # torch looks at the value for all groups only
        raise EmodetError(f"optimizer.weight_decay={decay}: {name} does not take a weight_decay below 0")
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    try:
        return _OPTIMIZERS[name](groups, **arguments)
    except (TypeError, ValueError) as problem:
        raise EmodetError(f"optimizer: {name} does not take {arguments} ({problem})") from None


def build_schedule(
    settings: Mapping[str, Any], optimizer: torch.optim.Optimizer, steps: int, epochs: int
) -> LRSchedulerConfigType:
    """A learning-rate schedule as Lightning takes it.

    Args:
        settings: ``name`` and its arguments: ``plateau`` (factor, patience, monitor), ``cosine`` (warmup, a share of
            the steps; final, a share of the peak), ``onecycle`` (warmup, a share of the steps; final likewise).
        optimizer: Its ``lr`` is the peak.
        steps: Optimizer steps of the whole run.
        epochs: Of the whole run.

    Raises:
        EmodetError: The name or an argument is not known or out of range.
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    if name not in _SCHEDULES:
        raise EmodetError(f"schedule.name={name!r}: there are {', '.join(_SCHEDULES)}")
    try:
        return _SCHEDULES[name](optimizer, max(2, steps), **arguments)
    except (TypeError, ValueError) as problem:
        raise EmodetError(f"schedule: {name} does not take {arguments} ({problem})") from None


def _plateau(
    optimizer: torch.optim.Optimizer, steps: int, factor: float = 0.2, patience: int = 10, monitor: str = "val/loss"
) -> LRSchedulerConfigType:
    mode: Literal["min", "max"] = "min" if lower_is_better(monitor) else "max"
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # Lightning would step it after the epoch's checkpoint was written, and in epochs without a validation too: the
    # classifier does it instead.
    return {
        "scheduler": scheduler,
        "monitor": monitor,
        "interval": "epoch",
        "reduce_on_plateau": False,
    }


def _cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.05, final: float = 0.0
) -> LRSchedulerConfigType:
    peak = optimizer.param_groups[0]["lr"]
    rising = min(steps - 1, max(1, round(_share("warmup", warmup) * steps)))
    falling = CosineAnnealingLR(optimizer, steps - rising, eta_min=peak * _share("final", final))
    rise = LinearLR(optimizer, start_factor=1 / rising, total_iters=rising)
    return {"scheduler": SequentialLR(optimizer, [rise, falling], [rising]), "interval": "step"}


def _onecycle(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.3, final: float = 4e-6
) -> LRSchedulerConfigType:
    # The start is a 25th of the peak and momentum keeps still: Smith and Topin 2018, without its second wave.
    peak = optimizer.param_groups[0]["lr"]
    scheduler = OneCycleLR(
        optimizer,
        max_lr=peak,
        total_steps=steps,
        pct_start=_share("warmup", warmup),
        final_div_factor=1 / (25 * max(_share("final", final), 1e-9)),
        cycle_momentum=False,
    )
    return {"scheduler": scheduler, "interval": "step"}


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise EmodetError(f"schedule.{name}={value}: expected a share from 0 to below 1")
    return value


_SCHEDULES: dict[str, Callable[..., LRSchedulerConfigType]] = {
    "plateau": _plateau,
    "cosine": _cosine,
    "onecycle": _onecycle,
}
