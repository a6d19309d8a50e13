"""Nets from plain data, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emodet.errors import EmodetError
from emodet.installation import needed
from emodet.models.agreement import DIMENSIONS
from emodet.models.build import build, require_trusted

_WEAKEST = 1e-3  # a power of 0 is infinite


class TimmNet(nn.Module):
    """A net of timm.

    Args:
        num_classes: Number of logits.
        model: timm's name of the architecture, such as ``resnet18``.
        pretrained: Whether timm downloads its pretrained weights.
        **arguments: Of timm's model, such as ``drop_path_rate``. Those that name files and addresses are refused: a
            checkpoint holds these arguments, and opening it must open nothing else.
    """

    def __init__(
        self, num_classes: int = 8, model: str = "resnet18", pretrained: bool = False, **arguments: Any
    ) -> None:
        super().__init__()
        arguments.pop("preprocessing", None)  # `build_net` passes it to whatever takes it
        for key in arguments:
            if key.startswith(("pretrained", "checkpoint")) or key.endswith(("_dir", "_path", "_file", "_url")):
                raise EmodetError(f"net.{key}: nets are built without files and addresses; use init_from=FILE")
        timm = needed("timm", f"net.model={model}", "timm")
        self.model = timm.create_model(model, pretrained=pretrained, num_classes=num_classes, **arguments)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        logits: torch.Tensor = self.model(x)
        return logits


def build_net(net: Mapping[str, Any], num_classes: int, preprocessing: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a net.

    Args:
        net: Its arguments, and ``_target_``: the path of an `nn.Module` class of a trusted package, see
            `emodet.models.build`.
        num_classes: Number of outputs; passed as ``num_classes``.
        preprocessing: `Preprocessing.to_dict`'s values, for a net that has an argument of this name.
    """
    require_trusted(net, nn.Module, "net")
    built = build(net, "net", num_classes=num_classes, preprocessing=preprocessing)
    if not isinstance(built, nn.Module):
        raise EmodetError(f"net._target_={net['_target_']}: a torch.nn.Module was expected, not {type(built).__name__}")
    return built


@runtime_checkable
class FeatureNet(Protocol):
    """A net that in evaluation mode is ``from_features(pooled_features(x))``."""

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised RGB float (N, 3, H, W) to features (N, F)."""

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, F) to the net's outputs."""


def scaled_outputs(
    net: nn.Module, x: torch.Tensor, curve: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """A net's outputs, and what the temperature of each face is multiplied by, (N, 1): (strength / typical)^power.

    `curve` is the classifier's ``temperature_curve``: typical `strength`, and power. With a power other than 0 the net
    is a `FeatureNet`. Faces of more than typical strength count as typical: nothing is known of pictures on which it is
    higher still.
    """
    typical, power = curve
    if power == 0:
        return net(x), 1.0
    parts = cast(FeatureNet, net)
    features = parts.pooled_features(x)
    return parts.from_features(features), (strength(features) / typical).clamp_max(1) ** power


def split_outputs(
    outputs: torch.Tensor, classes: int, *, has_va_head: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A net's outputs, (N, K) or (N, K + 2), as logits (N, K), and valence and arousal (N, 2), -1 to 1, or None.

    The valence/arousal head is two more rows of the net's last layer, bounded by tanh.
    """
    wanted = classes + (len(DIMENSIONS) if has_va_head else 0)
    if outputs.shape[1] != wanted:
        with_va = " and two for valence and arousal" if has_va_head else ""
        raise EmodetError(f"net: {outputs.shape[1]} outputs; {wanted} are needed, one per class{with_va}")
    return outputs[:, :classes], torch.tanh(outputs[:, classes:]) if has_va_head else None


def strength(features: torch.Tensor) -> torch.Tensor:
    """Root mean square of each face's features (N, F): float (N, 1).

    It is low where a net recognises little: for blurred, noisy, dark and partly hidden faces, on which nets are
    overconfident.
    """
    return features.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_WEAKEST)


@dataclass(frozen=True, slots=True)
class NetCost:
    """Trainable parameters, and multiply-adds of a face of `size` pixels in convolutions and matrix products."""

    parameters: int
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
        multiply_adds=counter.get_total_flops() // 2,
        size=size,
    )
