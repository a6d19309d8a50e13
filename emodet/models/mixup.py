"""Training on blends of two faces: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019)."""

import torch
from torchvision.transforms import v2

from emodet.errors import EmodetError
from emodet.models.extras import TrainingExtra

__all__ = ["Mixup"]


class Mixup(TrainingExtra):
    """Blends each face of a batch with its neighbour, pixels and targets alike.

    Args:
        mixup: α of the Beta distribution of the blend's share; 0 does without mixup.
        cutmix: α of the Beta distribution of the area that is kept; 0 does without cutmix. With both, each batch takes
            one of them, either equally often.
        mix_prob: Probability that a batch is blended.

    Raises:
        EmodetError: An argument is out of range.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, mix_prob: float = 1.0) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not value >= 0:
                raise EmodetError(f"training.{name}={value}: an alpha of 0 (without) or more was expected")
        if not 0 <= mix_prob <= 1:
            raise EmodetError(f"training.mix_prob={mix_prob}: a probability from 0 to 1 was expected")
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self.kinds = [kind(alpha=alpha) for kind, alpha in kinds if alpha > 0]
        self.mix_prob = mix_prob

    def transform_input(
        self, x: torch.Tensor, target: torch.Tensor, valence_arousal: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Blend input float (N, 3, H, W), targets (N, K) and valence/arousal (N, 2), whose NaN stays NaN in a blend."""
        if not self.kinds or torch.rand(()).item() >= self.mix_prob:
            return None
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
        x, shares = kind(x, torch.cat((target, valence_arousal), dim=1))
        return x, shares[:, : target.shape[1]], shares[:, target.shape[1] :]
