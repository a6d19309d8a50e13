"""`ResidualCNN`: four residual stages and a small dense head, 1,979,080 parameters for eight emotions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from emodet.errors import EmodetError


class Conv2d(nn.Conv2d):
    """A 3×3 convolution before a batch norm, which cancels its bias.

    The gradient of the bias is zero except for rounding, but takes a third of a convolution's time on a GPU. It is
    therefore not computed.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, before, H, W) to (N, after, H, W)."""
        assert self.bias is not None
        return F.conv2d(x, self.weight, self.bias.detach() if self.training else self.bias, padding=1)


class ResidualBlock(nn.Module):
    """Residual block of constant size: conv 3×3 → batch norm → ReLU → conv 3×3 → batch norm, plus input, → ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: torch.Tensor = self.relu(y + x)
        return out


class ResidualCNN(nn.Module):
    """The residual CNN for 96×96 RGB faces.

    With eight classes it has 1,976,072 trainable parameters and 3,008 running statistics, 0.815 G multiply-adds at
    96×96. It is fully convolutional up to the pooling, so other sizes from 16×16 work too; the accuracy depends on the
    training size.

    Args:
        num_classes: Number of logits.
        channels: Number of channels of each stage.
        stage_dropout: Dropout rate after each stage.
        head_dropout: Dropout rate before the last layer.
        features: Width of the dense layer before the last one.
        mirror: Whether to average, in evaluation mode, the logits of each face and its mirror image, in twice the time.
            Both then have the same prediction.
    """

    def __init__(
        self,
        num_classes: int = 8,
        channels: Sequence[int] = (32, 64, 128, 256),
        stage_dropout: Sequence[float] = (0.2, 0.2, 0.3, 0.3),
        head_dropout: float = 0.4,
        features: int = 64,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.mirror = mirror
        if len(channels) != len(stage_dropout):
            raise EmodetError(
                f"net.channels={list(channels)} and net.stage_dropout={list(stage_dropout)} must be equally long"
            )
        stages: list[nn.Module] = []
        before = 3
        for width, dropout in zip(channels, stage_dropout, strict=True):
            entry = (Conv2d(before, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            stages.append(nn.Sequential(*entry, ResidualBlock(width), nn.MaxPool2d(2), nn.Dropout(dropout)))
            before = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(before, features),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(features),
            nn.Dropout(head_dropout),
            nn.Linear(features, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to logits (N, num_classes)."""
        logits = self.from_features(self.pooled_features(x))
        if not self.training:
            return logits
        # A zero gradient for each bias of `Conv2d`, because optimizers and DDP expect one.
        biases = torch.cat([module.bias for module in self.modules() if isinstance(module, Conv2d)])  # type: ignore[misc]
        return logits + 0 * biases.sum()

    def pooled_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised RGB float (N, 3, H, W) to features, at least 0: (N, F), or (N, 2F) with mirror images."""
        if self.training or not self.mirror:
            return self._pooled(x)
        # One batch of both, so that an exported graph contains the weights once.
        return torch.cat(self._pooled(torch.cat((x, x.flip(3)))).chunk(2), dim=1)

    def from_features(self, features: torch.Tensor) -> torch.Tensor:
        """Map `pooled_features` to logits, float (N, num_classes)."""
        if not self.training and self.mirror:
            both: torch.Tensor = self.head(features.reshape(2 * len(features), -1))
            return both.reshape(len(features), 2, -1).mean(dim=1)
        logits: torch.Tensor = self.head(features)
        return logits

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.stages(x)).flatten(1)
        return pooled
