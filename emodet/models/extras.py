"""Changes to the training step of a classifier, one small class each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from emodet.data.faces import Batch
from emodet.errors import EmodetError, require

if TYPE_CHECKING:
    from emodet.models.classifier import EmotionClassifier

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Normalised input, float (N, 3, H, W); targets (N, K); valence and arousal (N, 2), NaN where not annotated."""


class TrainingExtra:
    """Base class of changes to the training step; hooks do nothing by default. The classifier calls extras in order.

    Random numbers come from torch's generator, which the classifier seeds from (seed, epoch, batch, rank).
    """

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Raise `EmodetError` if crop size, gradient accumulation or precision are not supported."""

    def setup(self, classifier: "EmotionClassifier") -> None:
        """Check that the extra fits the classifier, before training."""

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Change a batch of crops: uint8 (N, H, W, 3). Returns a new dict."""
        return batch

    def transform_input(self, *inputs: *Inputs) -> Inputs:
        """Change `Inputs`; returning another target tensor means that faces are mixed."""
        return inputs

    def wrap_closure(
        self, closure: Callable[[], Any], reseed: Callable[[], None], classifier: "EmotionClassifier"
    ) -> Callable[[], Any]:
        """Change how gradients are computed.

        `closure` clears gradients, runs forward and backward passes, and returns the loss. After `reseed`, the next
        pass draws the same random numbers as the first.
        """
        return closure


class Distillation(TrainingExtra):
    """Replaces each target by ``(1 - weight) · target + weight · softened probabilities of the teachers``.

    Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent": student and frozen teachers
    receive the same augmented crops in every epoch. For cross entropy it equals the sum of two losses with these
    weights. The teachers' probabilities are the mean of their calibrated probabilities. Each teacher resizes the crops
    to its own size and normalises them with its own preprocessing.

    Args:
        teachers: Trained classifiers with the student's classes, in any order.
        weight: Share of the teachers in the target, above 0 to 1; 1 ignores the labels.
        temperature: Softens probabilities p to p^(1/T), rescaled to sum to 1; a value below 1 sharpens them. Unlike in
            Hinton et al. 2015, the student's logits are not divided by T, so no factor T² is needed.
        flip: Whether to average the teachers' predictions for each crop and its mirror image.
    """

    def __init__(
        self, teachers: Sequence["EmotionClassifier"], weight: float = 0.7, temperature: float = 1.0, flip: bool = False
    ) -> None:
        require(bool(teachers), "distillation.teachers", [], "at least one teacher; or leave out distillation")
        require(0 < weight <= 1, "distillation.weight", weight, "a share above 0, up to 1")
        require(0 < temperature < float("inf"), "distillation.temperature", temperature, "a number above 0")
        self.teachers = [it.eval().requires_grad_(False).to(memory_format=torch.channels_last) for it in teachers]
        self.weight, self.temperature, self.flip = weight, temperature, flip
        self.columns: list[list[int]] = []

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

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Mix the teachers' probabilities into the targets. The first batch moves the teachers to its device."""
        for teacher in self.teachers:
            if teacher.device != batch["image"].device:
                teacher.to(batch["image"].device)
        softened = (self.log_probabilities(batch["image"]) / self.temperature).softmax(dim=1)
        return {**batch, "target": (1 - self.weight) * batch["target"] + self.weight * softened}

    @torch.no_grad()
    def log_probabilities(self, image: torch.Tensor) -> torch.Tensor:
        """Map crops, uint8 (N, H, W, 3) RGB, to the logarithm of the teachers' mean probabilities, float32 (N, K)."""
        views = (image, image.flip(2)) if self.flip else (image,)
        logs = [
            F.log_softmax(teacher(resized(view, teacher.preprocessing.size).round()) / teacher.temperature, dim=1)[
                :, columns
            ]
            for teacher, columns in zip(self.teachers, self.columns, strict=True)
            for view in views
        ]
        return torch.logsumexp(torch.stack(logs), dim=0) - torch.tensor(len(logs)).log().to(image.device)


class ProgressiveSizes(TrainingExtra):
    """Trains on reduced crops first: an epoch at half the size takes a quarter of the time (Tan and Le 2021).

    Evaluation always uses full-size crops, and so do teachers earlier in the list of extras.

    Args:
        sizes: Pairs of the first epoch and the side in pixels: ``[[0, 48], [20, 96]]``.
    """

    def __init__(self, sizes: Sequence[Sequence[int]]) -> None:
        self.sizes = [(int(epoch), int(side)) for epoch, side in sizes]
        fits = self.sizes == sorted(self.sizes) and all(side >= 16 and epoch >= 0 for epoch, side in self.sizes)
        pairs = "pairs of (first epoch, side in pixels), epochs rising, sides from 16 pixels on"
        require(fits, "training.progressive_sizes", self.sizes, pairs)

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Raise `EmodetError` for sides larger than the crops."""
        fits = all(side <= size for _, side in self.sizes)
        require(fits, "training.progressive_sizes", self.sizes, f"sides up to the crops' {size} pixels")

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Reduce the crops by averaging areas: float32 (N, side, side, 3)."""
        fitting = [side for epoch, side in self.sizes if epoch <= classifier.current_epoch]
        return {**batch, "image": resized(batch["image"], fitting[-1])} if fitting else batch


class Mixup(TrainingExtra):
    """Mixes each face of a batch and its target with those of its neighbour: mixup (Zhang et al. 2018) and cutmix (Yun
    et al. 2019).

    Args:
        mixup: α of the Beta distribution of the mixing ratio; 0 disables mixup.
        cutmix: α of the Beta distribution of the kept area; 0 disables cutmix. If both are enabled, each batch uses one
            of them, with equal probability.
        mix_prob: Probability that a batch is mixed.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, mix_prob: float = 1.0) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            require(value >= 0, f"training.{name}", value, "an alpha of 0 (without) or more")
        require(0 <= mix_prob <= 1, "training.mix_prob", mix_prob, "a probability from 0 to 1")
        kinds = ((v2.MixUp, float(mixup)), (v2.CutMix, float(cutmix)))  # torch cannot sample a Beta of integers
        self.kinds = [kind(alpha=alpha) for kind, alpha in kinds if alpha > 0]
        self.mix_prob = mix_prob

    def transform_input(self, *inputs: *Inputs) -> Inputs:
        """Mix inputs and targets with the same ratio; mixing with NaN is NaN."""
        if not self.kinds or torch.rand(()).item() >= self.mix_prob:
            return inputs
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
        x, shares = kind(inputs[0], torch.cat(inputs[1:], dim=1))
        return x, *shares.tensor_split([inputs[1].shape[1]], dim=1)


class SharpnessAware(TrainingExtra):
    """Sharpness-aware minimisation (Foret et al. 2021): computes each gradient at the worst point within `rho` of the
    weights, with a second pass per step.

    Args:
        rho: Radius in the Euclidean norm over all weights; 0.05 in the paper.
    """

    def __init__(self, rho: float = 0.05) -> None:
        require(rho > 0, "training.sam_rho", rho, "a radius above 0, such as 0.05")
        self.rho = rho

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Raise `EmodetError` for accumulated gradients, whose worst point differs from a batch's, and scaled ones."""
        together = f"training.sam_rho={self.rho:g} does not go together with trainer."
        if accumulated > 1:
            raise EmodetError(f"{together}accumulate_grad_batches={accumulated}; use a larger data.batch_size")
        if str(precision) in ("16", "16-mixed"):
            raise EmodetError(f"{together}precision={precision}, which scales gradients; use bf16-mixed or 32-true")

    def wrap_closure(
        self, closure: Callable[[], Any], reseed: Callable[[], None], classifier: "EmotionClassifier"
    ) -> Callable[[], Any]:
        """Run `closure` twice, the second time at the worst point; returns the loss of the first pass."""

        def both() -> Any:
            with torch.enable_grad():
                loss = closure()
                classifier.counts_training = False
                with self._worst_point(classifier.net):
                    reseed()
                    closure()
                classifier.counts_training = True
            return loss

        return both

    @contextmanager
    def _worst_point(self, net: nn.Module) -> Iterator[None]:
        gradients = {weight: weight.grad for weight in net.parameters() if weight.grad is not None}
        before = {weight: weight.detach().clone() for weight in gradients}
        momenta = {module: module.momentum for module in net.modules() if isinstance(module, _NORMS)}
        with torch.no_grad():
            scale = self.rho / (nn.utils.get_total_norm(gradients.values()) + 1e-12)
            for weight, gradient in gradients.items():
                weight.add_(gradient * scale.to(gradient.dtype))
        for norm in momenta:
            norm.momentum = 0.0  # do not update running statistics at the worst point
        yield
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        with torch.no_grad():
            for weight, value in before.items():
                weight.copy_(value)


def resized(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize crops (N, H, W, 3) like `Preprocessing.crop`, but in float32."""
    if image.shape[1] == size:
        return image
    mode = {"mode": "area"} if size < image.shape[1] else {"mode": "bilinear", "align_corners": False}
    return F.interpolate(image.permute(0, 3, 1, 2).float(), size=(size, size), **mode).permute(0, 2, 3, 1)
