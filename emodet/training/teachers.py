"""Trained nets as teachers: what they say, together, of crops that a student is going to see."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from emodet.data.answers_files import Said, brightness_of
from emodet.data.datamodule import EmotionDataModule
from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.evaluation.measuring import device_of
from emodet.models.classifier import EmotionClassifier
from emodet.training.trained import Trained, load_trained

__all__ = ["Teachers", "answers_to_epoch", "answers_to_faces", "load_teachers"]

log = logging.getLogger(__name__)

_PRECISIONS: Mapping[str, torch.dtype | None] = {"32-true": None, "bf16-mixed": torch.bfloat16}
# What a crop looks like; contrast, mean and std are the net's own business.
_FRAMING = ("margin", "alignment", "colour", "detail", "interpolation")


@dataclass(frozen=True, slots=True, eq=False)
class Teachers:
    """One trained net or several that answer as one: with the mean of their calibrated probabilities.

    Attributes:
        trained: In evaluation mode.
        flip: Whether they also look at each crop's mirror image.
        precision: ``32-true`` or ``bf16-mixed``.
        device: Where they are.
    """

    trained: tuple[Trained, ...]
    flip: bool
    precision: str
    device: torch.device

    def described(self) -> list[dict[str, Any]]:
        """For each what `TeachersAnswers.teachers` says."""
        return [
            {
                "file": str(teacher.file.resolve()),
                "net": dict(teacher.classifier.hparams["net"]),
                "weights_sha256": _weights_sha256(teacher.classifier),
                "temperature": teacher.temperature,
                "size": teacher.classifier.preprocessing.size,
                "fingerprint": teacher.fingerprint,
                "training_data": [asdict(data) for data in teacher.training_data],
            }
            for teacher in self.trained
        ]

    @torch.inference_mode()
    def say(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """Answer to crops.

        Args:
            image: uint8 (N, H, W, 3), RGB. A teacher that was trained at another size gets them at its own.

        Returns:
            float32 (N, K), logarithms of probabilities.
        """
        image = image.to(self.device)
        said = []
        with torch.autocast(self.device.type, _PRECISIONS[self.precision], enabled=self.precision != "32-true"):
            for teacher in self.trained:
                seen = _resized(image, teacher.classifier.preprocessing.size)
                for view in (seen, seen.flip(2)) if self.flip else (seen,):
                    said.append(F.log_softmax(teacher.classifier(view) / teacher.classifier.temperature, dim=1))
        together: npt.NDArray[np.float32] = (torch.logsumexp(torch.stack(said), 0) - np.log(len(said))).cpu().numpy()
        if not np.isfinite(together).all():
            raise EmodetError("checkpoint: a teacher's answers are not finite numbers; its training must have failed")
        return together


def load_teachers(
    checkpoints: Sequence[Path], data: EmotionDataModule, *, flip: bool, precision: str, accelerator: str
) -> Teachers:
    """Load nets as teachers for these classes and crops, and say in which ways they were trained on others.

    Args:
        checkpoints: See `emodet.training.trained.load_trained`.
        data: Set up; what the student is trained on.
        flip: See `Teachers`.
        precision: Likewise.
        accelerator: See `emodet.evaluation.measuring.device_of`.

    Raises:
        EmodetError: One cannot be loaded, or knows other classes; the same one is named twice.
    """
    if precision not in _PRECISIONS:
        raise EmodetError(f"precision={precision}: there are {' and '.join(_PRECISIONS)}")
    device = device_of(accelerator)
    trained = []
    for path in checkpoints:
        teacher = load_trained(path)
        if teacher.classifier.class_names != data.class_names:
            raise EmodetError(
                f"checkpoint={path}: it knows {', '.join(teacher.classifier.class_names)}; the student is to know "
                f"{', '.join(data.class_names)}. Set data.classes, or take a teacher of the same classes"
            )
        teacher.classifier.to(device).eval()
        for note in _notes(teacher, data):
            log.info("%s: %s", path, note)
        trained.append(teacher)
    weights = [_weights_sha256(teacher.classifier) for teacher in trained]
    for number, path in enumerate(checkpoints):
        if weights[number] in weights[:number]:
            raise EmodetError(f"checkpoint={path}: these weights are named twice; each teacher counts once")
    return Teachers(tuple(trained), flip, precision, device)


def answers_to_epoch(teachers: Teachers, data: EmotionDataModule, epoch: int, processes: int) -> tuple[Said, str]:
    """Answers to everything that `data` shows in an epoch of a training in so many processes; and a note on them.

    Returns:
        Rows in the order in which faces are seen over all processes, see `TrainingBatches.order`.
    """
    whole = data.batch_size * processes
    count = len(data.splits.train) // whole * whole
    places = (
        (slice(number * whole + rank, (number + 1) * whole, processes), batch)
        for rank in range(processes)
        for number, batch in enumerate(data.views(epoch, rank, processes))
    )
    return _collect(teachers.say, places, count, len(data.class_names))


def answers_to_faces(teachers: Teachers, data: EmotionDataModule) -> tuple[Said, str]:
    """Answers to each training face as it is, in the order of the pack; and a note on them."""

    def places() -> Iterable[tuple[slice, Batch]]:
        start = 0
        for batch in data.training_faces_as_they_are():
            yield slice(start, start := start + len(batch["index"])), batch

    return _collect(teachers.say, places(), len(data.splits.train), len(data.class_names))


def _collect(
    say: Callable[[torch.Tensor], npt.NDArray[np.float32]],
    batches: Iterable[tuple[slice, Batch]],
    count: int,
    classes: int,
) -> tuple[Said, str]:
    found = np.full((count, classes), np.nan, np.float16)
    index, brightness = np.full(count, -1, np.int64), np.zeros(count, np.float16)
    labelled = right = 0
    started = time.monotonic()
    for places, batch in batches:
        said = say(batch["image"])
        found[places], index[places] = said, batch["index"].numpy()
        brightness[places] = brightness_of(batch["image"].numpy())
        emotion = batch["emotion"].numpy()
        labelled += int((emotion >= 0).sum())
        right += int((said.argmax(axis=1) == emotion)[emotion >= 0].sum())
    rate = count / max(time.monotonic() - started, 1e-9)
    agreed = f"{right / max(labelled, 1):.1%} of the labelled ones answered as labelled"
    return Said(found, index, brightness), f"{count:,} faces, {agreed}, {rate:,.0f} faces/s"


def _notes(teacher: Trained, data: EmotionDataModule) -> Iterable[str]:
    own, theirs = data.preprocessing, teacher.classifier.preprocessing
    if theirs.size != own.size:
        yield f"the student's crops of {own.size} pixels are resized to its {theirs.size}"
    pairs = {name: (getattr(theirs, name), getattr(own, name)) for name in _FRAMING}
    others = [f"{name} {one}, not {other}" for name, (one, other) in pairs.items() if one != other]
    if others:
        yield f"it was trained on crops that were made otherwise: {'; '.join(others)}"
    if teacher.fingerprint != data.fingerprint:
        yield (
            "it is not known to be trained on these crops of this data; see to it that the student's val and "
            "test faces were not among its training faces"
        )


def _resized(image: torch.Tensor, size: int) -> torch.Tensor:
    """Crops, uint8 (N, H, W, 3), at another size, as `Preprocessing.crop` resizes: whole numbers in float32."""
    if image.shape[1] == size:
        return image
    x = image.permute(0, 3, 1, 2).float()
    if size < image.shape[1]:
        x = F.interpolate(x, size=(size, size), mode="area")
    else:
        x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x.round().permute(0, 2, 3, 1)


def _weights_sha256(classifier: EmotionClassifier) -> str:
    """Of everything that decides its answers but the temperature, whichever file holds it."""
    total = hashlib.sha256(repr(sorted(classifier.preprocessing.to_dict().items())).encode())
    for name, tensor in sorted(classifier.net.state_dict().items()):
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
