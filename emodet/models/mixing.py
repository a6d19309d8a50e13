"""Training on blends of two faces: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019)."""

import torch
from torchvision.transforms import v2

from emodet.errors import EmodetError

__all__ = ["Mixing"]


class Mixing:
    """Blend each face of a batch with its neighbour, pixels and targets alike.

    Draws from torch's generator, which the classifier seeds for each batch, so a resumed run blends as it would have.

    Args:
        mixup: α of the Beta distribution of the blend's share; 0 does without mixup.
        cutmix: α of the Beta distribution of the area that is kept; 0 does without cutmix. With both, each batch takes
            one of them, either equally often.
        chance: The share of batches that are blended.

    Raises:
        EmodetError: An argument is out of range.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, chance: float = 1.0) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            if not value >= 0:
                raise EmodetError(f"training.{name}={value}: an alpha of 0 (without) or more was expected")
        if not 0 <= chance <= 1:
            raise EmodetError(f"training.mixing_chance={chance}: a share of the batches from 0 to 1 was expected")
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._ways = [kind(alpha=alpha) for kind, alpha in kinds if alpha > 0]
        self._chance = chance

    def __call__(self, image: torch.Tensor, *targets: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """Blend a batch, or return None where this one stays as it is.

        Args:
            image: float (N, 3, H, W).
            targets: Each float (N, …): what goes with the faces and is blended in the same shares. NaN stands for what
                is not known of a face, and is then not known of its blends either.

        Returns:
            All of them anew, in the same order and shapes.
        """
        if not self._ways or torch.rand(()).item() >= self._chance:
            return None
        way = self._ways[int(torch.randint(len(self._ways), ()))]
        blended, shares = way(image, torch.cat(targets, dim=1))
        return blended, *shares.split([target.shape[1] for target in targets], dim=1)
