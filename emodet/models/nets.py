"""Nets from plain data, and their cost."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emodet.errors import EmodetError
from emodet.installation import needed
from emodet.models.agreement import DIMENSIONS
from emodet.models.build import build, require_trusted

_WEAKEST = 1e-3  # lower bound: a negative power of 0 is infinite


class TimmNet(nn.Module):
    """A net of timm.

    Args:
        num_classes: Number of logits.
        model: Architecture in timm, such as ``resnet18``.
        pretrained: Whether timm downloads pretrained weights.
        **arguments: Arguments of timm's model, such as ``drop_path_rate``. Files and addresses are not allowed, because
            checkpoints contain these arguments, and loading one must not open other files.
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
        """Map normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        logits: torch.Tensor = self.model(x)
        return logits


def build_net(net: Mapping[str, Any], num_classes: int, preprocessing: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a net.

    Args:
        net: Arguments of the net, and ``_target_``: the path of an `nn.Module` class of a trusted package, see
            `emodet.models.build`.
        num_classes: Number of outputs; passed as ``num_classes``.
        preprocessing: Values of `Preprocessing.to_dict`, for a net with an argument of this name.
    """
    require_trusted(net, nn.Module, "net")
    built = build(net, "net", num_classes=num_classes, preprocessing=preprocessing)
    if not isinstance(built, nn.Module):
        raise EmodetError(f"net._target_={net['_target_']}: a torch.nn.Module was expected, not {type(built).__name__}")
    return built


@runtime_checkable
class FeatureNet(Protocol):
    """Protocol of a net that in evaluation mode equals ``from_features(pooled_features(x))``."""

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to features (N, F)."""

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (N, F) to the net's outputs."""


def scaled_outputs(
    net: nn.Module, x: torch.Tensor, curve: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Return a net's outputs, and the factor of each face's temperature, (N, 1): (strength / typical)^power.

    `curve` is the classifier's ``temperature_curve``: typical `strength`, and power. A power other than 0 needs a
    `FeatureNet`. A strength above the typical one counts as typical, because higher values were not calibrated.
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
    """Split outputs, (N, K) or (N, K + 2), into logits (N, K), and valence and arousal (N, 2), -1 to 1, or None.

    The valence/arousal head consists of two more rows of the net's last layer, bounded by tanh.
    """
    wanted = classes + (len(DIMENSIONS) if has_va_head else 0)
    if outputs.shape[1] != wanted:
        with_va = " and two for valence and arousal" if has_va_head else ""
        raise EmodetError(f"net: {outputs.shape[1]} outputs; {wanted} are needed, one per class{with_va}")
    return outputs[:, :classes], torch.tanh(outputs[:, classes:]) if has_va_head else None


def strength(features: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of each face's features (N, F): float (N, 1).

    It is low for blurred, noisy, dark and partly hidden faces, on which nets are overconfident.
    """
    return features.square().mean(dim=1, keepdim=True).sqrt().clamp_min(_WEAKEST)


def net_cost(net: nn.Module, size: int) -> tuple[int, int]:
    """Return the trainable parameters, and the multiply-adds per face of `size` pixels in convolutions and products.

    Counting changes neither the net nor the random state.
    """
    was_training, device = net.training, next(net.parameters()).device
    net.eval()
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 3, size, size, device=device))
    finally:
        net.train(was_training)
    return sum(each.numel() for each in net.parameters() if each.requires_grad), counter.get_total_flops() // 2
