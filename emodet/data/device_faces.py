"""Faces that lie on a torch device from the start of a training: batches are gathered and augmented there.

What worker processes do for each batch (read crops from the disk's cache, augment them on a core, hand them over) is
left out: the crops cross to the device once, as bytes, and a batch is a list of positions.
"""

import gc
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from emodet.data.device_augmentation import DeviceAugmentation
from emodet.data.device_transforms import sent
from emodet.data.faces import Batch
from emodet.data.pack import Pack
from emodet.data.splits import Draw
from emodet.errors import EmodetError

__all__ = ["DeviceFaces", "device_named", "free_bytes", "place_of"]

log = logging.getLogger(__name__)

FOR_FACES = 0.8
"""The share of the free memory that faces may take; the rest is for the net, its batches and their augmentation."""

_AT_ONCE = 2048
_WITHOUT = "leave out data.device, so that worker processes fetch the faces"


class DeviceFaces(Dataset[Batch]):
    """Some faces of a pack, whole, on a device; batches as `emodet.data.faces.Faces` makes them.

    Args:
        pack: The prepared data set. Its crops are copied once; one byte per pixel where they are grey.
        rows: int64, positions in its table.
        labels: The batch of all these faces without ``image``, in the order of `rows`.
        device: Where they will lie.
        augmentation: Applied with the draw's seed; None leaves the crops as they are.
        split: What the faces are, for messages (``training``).

    Raises:
        EmodetError: They do not fit into the device's memory.
    """

    @torch.inference_mode(mode=False)
    def __init__(
        self,
        pack: Pack,
        rows: npt.NDArray[np.int64],
        labels: Mapping[str, torch.Tensor],
        device: torch.device,
        augmentation: DeviceAugmentation | None,
        split: str,
    ) -> None:
        order = np.argsort(rows, kind="stable")
        self.rows, self.device, self.augmentation = rows[order], device, augmentation
        size, self._is_grey = pack.preprocessing.size, pack.preprocessing.colour == "grey"
        shape = (len(rows), size, size, 1 if self._is_grey else 3)
        _require_room(shape, device, split)
        began = perf_counter()
        self._crops = torch.empty(shape, dtype=torch.uint8, device=device)
        for start in range(0, len(rows), _AT_ONCE):
            crops = torch.from_numpy(pack.images(self.rows[start : start + _AT_ONCE]))
            self._crops[start : start + _AT_ONCE].copy_(crops[..., : shape[3]])
        self._labels = {name: values[torch.from_numpy(order)].to(device) for name, values in labels.items()}
        seconds = perf_counter() - began
        log.info("%d %s faces lie on %s: %.2f GB, in %.1f s", len(rows), split, device, np.prod(shape) / 1e9, seconds)

    def __getitems__(self, draw: Draw) -> Batch:
        """A batch on the device. The host does not wait for it.

        Raises:
            IndexError: A face of the draw is not among these.
        """
        places = np.minimum(np.searchsorted(self.rows, draw.indices), max(0, len(self.rows) - 1))
        if not np.array_equal(self.rows[places], draw.indices):
            raise IndexError(f"a draw asks for faces that are not among the {len(self.rows)} on {self.device}")
        chosen = sent(places, self.device)
        crops = self._crops.index_select(0, chosen)
        if self._is_grey:
            crops = crops.repeat(1, 1, 1, 3)
        if self.augmentation is not None:
            crops = self.augmentation(crops, draw.seed)
        labels = {name: values.index_select(0, chosen) for name, values in self._labels.items()}
        return {"image": crops, **labels}  # type: ignore[typeddict-item]


def device_named(name: str) -> torch.device:
    """What ``data.device`` says.

    Raises:
        EmodetError: It is none of the devices that faces can lie on.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise EmodetError(f"data.device={name}: there are cuda, cuda:0 and so on, and cpu; or {_WITHOUT}")
    return torch.device(name)


def place_of(device: torch.device, trainer: L.Trainer | None) -> torch.device:
    """Which device that is in this process: ``cuda`` is the one that its net trains on.

    Args:
        device: As `device_named` gives it.
        trainer: That the faces are for; None where there is none, ``cuda`` is then torch's current device.

    Raises:
        EmodetError: It is not there, the net trains on another kind of device, or all processes of a run would put
            their faces on the same one.
    """
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise EmodetError(
            f"data.device={device}: torch {torch.__version__} finds no CUDA device here. Use data.device=cpu "
            f"(the same on the CPU), or {_WITHOUT}"
        )
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise EmodetError(f"data.device={device}: torch sees {torch.cuda.device_count()} CUDA device(s), from cuda:0")
    if trainer is None:
        return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
    net = trainer.strategy.root_device
    if net.type != "cuda":
        raise EmodetError(
            f"data.device={device}, but the net trains on {net}, so every batch would come back; set "
            f"trainer.accelerator=gpu, or {_WITHOUT}"
        )
    if device.index is None:
        return net
    if trainer.world_size > 1:
        raise EmodetError(
            f"data.device={device}: the {trainer.world_size} processes of this run have a device each; with "
            "data.device=cuda the faces of each lie on its own"
        )
    return device


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process can still have on a device; None where that is not known."""
    if device.type == "cuda":
        # What torch keeps for itself of what was freed, by an earlier run of a sweep too, is free.
        gc.collect()
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
            return int(torch.cuda.mem_get_info()[0])
    memory = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", memory.read_text(), re.MULTILINE) if memory.is_file() else None
    return int(found[1]) * 1024 if found else None


def _require_room(shape: tuple[int, int, int, int], device: torch.device, split: str) -> None:
    needed, free = int(np.prod(shape, dtype=np.int64)), free_bytes(device)
    if free is None or needed <= FOR_FACES * free:
        return
    faces, height, width, channels = shape
    raise EmodetError(
        f"data.device={device}: the {faces:,} {split} faces take {needed / 1e9:.2f} GB ({height}×{width}×{channels} "
        f"bytes each). {free / 1e9:.2f} GB are free there, of which faces may take {FOR_FACES:.0%}; the rest is for "
        "the net and its batches. Make crops smaller (preprocessing.size, preprocessing.colour=grey), take fewer faces "
        f"(data.training_faces), or {_WITHOUT}"
    )
