"""Augmentation where the faces lie: the steps of an `Augmentation`, for whole batches on a torch device.

What is drawn has the distribution that albumentations draws from in worker processes; the draws themselves differ.
"""

import numpy as np
import torch

from emodet.data.augmentation import Augmentation
from emodet.data.device_steps import Draws, device_step, with_some

__all__ = ["DeviceAugmentation"]


class DeviceAugmentation:
    """What an `Augmentation` does, to batches on a device.

    Each face of a batch gets parameters of its own. The host never waits for the device.

    Args:
        augmentation: Whose steps are to be taken.
        device: Of the crops.

    Raises:
        EmodetError: A step, or an argument of it, is not made on a device.
    """

    def __init__(self, augmentation: Augmentation, device: torch.device) -> None:
        self._steps = [(transform.p, device_step(transform)) for transform in augmentation.transforms]
        self._pixels = torch.Generator(device)

    @torch.no_grad()
    def __call__(self, crops: torch.Tensor, seed: int) -> torch.Tensor:
        """Augment a batch.

        Args:
            crops: uint8 (N, H, W, 3), RGB, on the device; as high as wide.
            seed: The same seed and crops give the same result on one kind of device. On another, the noise of
                ``GaussNoise`` and of ``Erasing`` with random pixels is different; all other draws are the same, and
                pixels agree within a level.

        Returns:
            uint8 (N, H, W, 3), RGB; a new tensor.
        """
        if not self._steps or not len(crops):
            return crops.clone()
        draws = Draws(seed, self._pixels)
        faces = crops.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        for chance, step in self._steps:
            rows = np.flatnonzero(draws.host.random(len(faces)) < chance)
            faces = with_some(faces, rows, step, draws)
        return faces.permute(0, 2, 3, 1).contiguous()
