"""Changes to the training step that a classifier is composed of: one small class each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms import v2

from emodet.data.faces import Batch
from emodet.errors import EmodetError, require

if TYPE_CHECKING:
    from emodet.models.classifier import EmotionClassifier


class TrainingExtra:
    """Changes the training step; every hook does nothing by default. The classifier calls extras in their order.

    Random numbers come from torch's generator, which the classifier seeds from (seed, epoch, batch, rank).
    """

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Refuse crops of `size` pixels, gradients accumulated over batches, or a precision of the trainer."""

    def setup(self, classifier: "EmotionClassifier") -> None:
        """Check that it fits the classifier, before training."""

    def on_fit_start(self, classifier: "EmotionClassifier") -> None:
        """Prepare for training; `classifier.device` is final."""

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Change a batch of crops: uint8 (N, H, W, 3). Returns a new dict."""
        return batch

    def transform_input(
        self, x: torch.Tensor, target: torch.Tensor, valence_arousal: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """Change normalised input float (N, 3, H, W) and its targets (N, K) and (N, 2); None changes nothing."""

    def wrap_closure(
        self, closure: Callable[[], Any], reseed: Callable[[], None], classifier: "EmotionClassifier"
    ) -> Callable[[], Any]:
        """Change how gradients are computed.

        `closure` clears gradients, runs forward and backward passes, and returns the loss. `reseed` makes the next pass
        draw the random numbers of the first.
        """
        return closure


class ProgressiveSizes(TrainingExtra):
    """Train on reduced crops first: an epoch at half the size costs a quarter (Tan and Le 2021, EfficientNetV2).

    Evaluation always sees the crops' own size. Teachers that stand before it in the list of extras do so as well.

    Args:
        sizes: Pairs of the epoch from which on it holds, and the side in pixels: ``[[0, 48], [20, 96]]``.
    """

    def __init__(self, sizes: Sequence[Sequence[int]]) -> None:
        self.sizes = [(int(epoch), int(side)) for epoch, side in sizes]
        fits = self.sizes == sorted(self.sizes) and all(side >= 16 and epoch >= 0 for epoch, side in self.sizes)
        pairs = "pairs of (first epoch, side in pixels), epochs rising, sides from 16 pixels on"
        require(fits, "training.progressive_sizes", self.sizes, pairs)

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Refuse sides above that of the crops."""
        fits = all(side <= size for _, side in self.sizes)
        require(fits, "training.progressive_sizes", self.sizes, f"sides up to the crops' {size} pixels")

    def transform_batch(self, batch: Batch, classifier: "EmotionClassifier") -> Batch:
        """Reduce the crops by averaging areas: float32 (N, side, side, 3)."""
        fitting = [side for epoch, side in self.sizes if epoch <= classifier.current_epoch]
        image = batch["image"]
        if not fitting or fitting[-1] == image.shape[1]:
            return batch
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        return {**batch, "image": F.interpolate(x, size=(fitting[-1],) * 2, mode="area").permute(0, 2, 3, 1)}


class Mixup(TrainingExtra):
    """Blends each face of a batch with its neighbour, pixels and targets alike: mixup (Zhang et al. 2018) and cutmix
    (Yun et al. 2019).

    Args:
        mixup: α of the Beta distribution of the blend's share; 0 does without mixup.
        cutmix: α of the Beta distribution of the area that is kept; 0 does without cutmix. With both, each batch takes
            one of them, either equally often.
        mix_prob: Probability that a batch is blended.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, mix_prob: float = 1.0) -> None:
        for name, value in (("mixup", mixup), ("cutmix", cutmix)):
            require(value >= 0, f"training.{name}", value, "an alpha of 0 (without) or more")
        require(0 <= mix_prob <= 1, "training.mix_prob", mix_prob, "a probability from 0 to 1")
        kinds = ((v2.MixUp, float(mixup)), (v2.CutMix, float(cutmix)))  # torch draws nothing from a Beta of integers
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


class SharpnessAware(TrainingExtra):
    """Sharpness-aware minimisation (Foret et al. 2021): each gradient is taken at the worst point within `rho` of the
    weights, which costs a second pass per step.

    Args:
        rho: Radius in the Euclidean norm over all weights; 0.05 is the paper's.
    """

    def __init__(self, rho: float = 0.05) -> None:
        require(rho > 0, "training.sam_rho", rho, "a radius above 0, such as 0.05")
        self.rho = rho

    def check(self, size: int, accumulated: int = 1, precision: Any = None) -> None:
        """Refuse accumulated gradients, whose worst point is not that of one batch, and scaled ones."""
        if accumulated > 1:
            raise EmodetError(
                f"training.sam_rho does not go together with trainer.accumulate_grad_batches={accumulated}; use a "
                "larger data.batch_size"
            )
        if str(precision) in ("16", "16-mixed"):
            raise EmodetError(
                f"training.sam_rho does not go together with trainer.precision={precision}, which scales gradients; "
                "use bf16-mixed or 32-true"
            )

    def wrap_closure(
        self, closure: Callable[[], Any], reseed: Callable[[], None], classifier: "EmotionClassifier"
    ) -> Callable[[], Any]:
        """Run `closure` twice, the second time at the worst point; the returned loss is the first pass's."""

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
        weights = [weight for weight in net.parameters() if weight.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        with torch.no_grad():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            scale = self.rho / (nn.utils.get_total_norm(gradients) + 1e-12)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(gradient * scale.to(gradient.dtype))
        # The running statistics are those of the weights themselves.
        for norm in norms:
            norm.momentum = 0.0
        yield
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
