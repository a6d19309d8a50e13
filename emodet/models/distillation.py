"""Distillation: frozen teachers inside the training step, on the student's very crops.

Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent": student and teachers see the same
augmented crops, epoch by epoch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.models.extras import TrainingExtra

if TYPE_CHECKING:
    from emodet.models.classifier import EmotionClassifier


class Distillation(TrainingExtra):
    """Replaces each target by ``(1 - weight) · target + weight · softened probabilities of the teachers``.

    For cross entropy that equals the sum of two losses with these weights. The teachers' probabilities are the mean of
    their calibrated ones. Each teacher resizes the crops to its own size and normalises them by its own preprocessing.

    Args:
        teachers: Trained classifiers of the student's classes, in whatever order.
        weight: The teachers' share of the target, above 0 to 1; 1 leaves the labels out.
        temperature: Softens the probabilities p to p^(1/T), rescaled to sum to 1; below 1 it sharpens them. The
            student's logits are not divided by it, as Hinton et al. 2015 do besides, so no factor T² is needed.
        flip: Whether teachers also predict each crop's mirror image, and the mean is taken.
    """

    def __init__(
        self, teachers: Sequence["EmotionClassifier"], weight: float = 0.7, temperature: float = 1.0, flip: bool = False
    ) -> None:
        if not teachers:
            raise EmodetError("distillation.teachers=[]: name at least one teacher, or leave out distillation")
        if not 0 < weight <= 1:
            raise EmodetError(f"distillation.weight={weight}: a share above 0, up to 1, was expected")
        if not 0 < temperature < float("inf"):
            raise EmodetError(f"distillation.temperature={temperature}: a number above 0 was expected")
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.weight, self.temperature, self.flip = weight, temperature, flip
        self.columns: list[list[int]] = []
        self.checked = False

    def setup(self, classifier: "EmotionClassifier") -> None:
        """Match the classes of teachers and student by name."""
        wanted = classifier.class_names
        for number, teacher in enumerate(self.teachers):
            if set(teacher.class_names) != set(wanted):
                raise EmodetError(
                    f"distillation.teachers[{number}]: its classes are {', '.join(teacher.class_names)}; the student's "
                    f"are {', '.join(wanted)}. Set data.classes, or take a teacher of the same classes"
                )
        self.columns = [[teacher.class_names.index(name) for name in wanted] for teacher in self.teachers]

    def on_fit_start(self, classifier: "EmotionClassifier") -> None:
        """Move the teachers to the student's device."""
        for teacher in self.teachers:
            teacher.to(classifier.device, memory_format=torch.channels_last)

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Mix the teachers' probabilities into the targets."""
        softened = (self.log_probabilities(batch["image"]) / self.temperature).softmax(dim=1)
        # Once: looking at a batch waits for the GPU.
        if not self.checked and not softened.isfinite().all():
            raise EmodetError("distillation.teachers: a teacher's probabilities are not finite; its training failed")
        self.checked = True
        return {**batch, "target": (1 - self.weight) * batch["target"] + self.weight * softened}

    @torch.no_grad()
    def log_probabilities(self, image: torch.Tensor) -> torch.Tensor:
        """Crops, uint8 (N, H, W, 3) RGB, to the logarithm of the teachers' mean probabilities, float32 (N, K)."""
        views = (image, image.flip(2)) if self.flip else (image,)
        logs = [
            F.log_softmax(teacher(_resize(view, teacher.preprocessing.size)) / teacher.temperature, dim=1)[:, columns]
            for teacher, columns in zip(self.teachers, self.columns, strict=True)
            for view in views
        ]
        return torch.logsumexp(torch.stack(logs), dim=0) - torch.tensor(len(logs)).log().to(image.device)


def _resize(image: torch.Tensor, size: int) -> torch.Tensor:
    """Crops (N, H, W, 3) at another size, as `Preprocessing.crop` resizes: whole numbers, in float32."""
    if image.shape[1] == size:
        return image
    mode = {"mode": "area"} if size < image.shape[1] else {"mode": "bilinear", "align_corners": False}
    x = F.interpolate(image.permute(0, 3, 1, 2).float(), size=(size, size), **mode)
    return x.round().permute(0, 2, 3, 1)
