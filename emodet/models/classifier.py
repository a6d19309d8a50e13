"""The LightningModule around a net: loss, optimizer, schedule, metrics."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.models.agreement import DIMENSIONS
from emodet.models.losses import SoftCrossEntropy
from emodet.models.metrics import EmotionMetrics, Mean, SourceMetrics, TrainingMetrics
from emodet.models.mixing import Mixing
from emodet.models.nets import build_net
from emodet.models.optimization import build_optimizer, build_schedule
from emodet.models.sharpness import SharpnessAware
from emodet.models.valence_arousal import ConcordanceLoss, ValenceArousalMetrics, checked_weight, split_outputs
from emodet.preprocessing import LEAST_DEVIATION, Preprocessing

__all__ = ["EmotionClassifier", "balanced_class_weights"]


class EmotionClassifier(L.LightningModule):
    """Trains and measures a net on `Batch`es. Everything it is built from is plain data, stored in its checkpoints.

    Args:
        net: See `build_net`.
        class_names: The classes, in the order of the logits.
        preprocessing: `Preprocessing.to_dict`'s values.
        optimizer: See `build_optimizer`.
        schedule: See `build_schedule`; None keeps the learning rate.
        label_smoothing: See `SoftCrossEntropy`.
        class_weights: One weight per class; None weighs all alike.
        focal_gamma: See `SoftCrossEntropy`.
        logit_adjustment: Likewise.
        class_prior: Likewise.
        mixup: See `Mixing`.
        cutmix: Likewise.
        mixing_chance: Likewise.
        sharpness: See `SharpnessAware`; None takes plain steps.
        resolutions: The side in pixels that crops are reduced to in training, by the epoch from which on it holds:
            ``[[0, 48], [20, 96]]``. Low-resolution epochs cost a quarter. Evaluation always sees the crops' own size.
        channels_last: Memory format of the net and its input; faster on CPUs with bf16 and on GPUs.
        compile: Whether to compile the net in place.
        seed: Of dropout; with epoch and batch it decides every mask, so that a resumed run draws the same.
        source_names: The data sets of a mix, each of which gets metrics of its own; None where there is no mix.
        valence_arousal: The weight of `ConcordanceLoss`, for a net that says valence and arousal beside the classes;
            without it, or with 0, the net does not.

    Attributes:
        has_va_head: Whether the net does.
    """

    def __init__(
        self,
        net: Mapping[str, Any],
        class_names: Sequence[str],
        preprocessing: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        focal_gamma: float = 0.0,
        logit_adjustment: float = 0.0,
        class_prior: Sequence[float] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mixing_chance: float = 1.0,
        sharpness: float | None = None,
        resolutions: Sequence[Sequence[int]] = (),
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
        source_names: Sequence[str] | None = None,
        valence_arousal: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        # A checkpoint brings its weights: loading it neither reads nor downloads pretrained ones.
        self.hparams["net"] = {key: False if key == "pretrained" else value for key, value in net.items()}
        self.class_names = tuple(class_names)
        if class_weights is not None and len(class_weights) != len(self.class_names):
            raise EmodetError(
                f"loss.class_weights={list(class_weights)}: {len(class_weights)} weights for {len(self.class_names)} "
                f"classes ({', '.join(self.class_names)}); give one for each, or balanced"
            )
        self.preprocessing = Preprocessing.from_dict(preprocessing)
        self.valence_arousal_weight = checked_weight(valence_arousal)
        self.has_va_head = self.valence_arousal_weight > 0
        self.net = build_net(net, len(self.class_names) + (len(DIMENSIONS) if self.has_va_head else 0), preprocessing)
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer_settings, self.schedule_settings = dict(optimizer), dict(schedule) if schedule else None
        self.resolutions = _checked(resolutions, self.preprocessing.size)
        self.channels_last, self.compiles, self.seed = channels_last, compile, seed
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.loss = SoftCrossEntropy(weight, label_smoothing, focal_gamma, logit_adjustment, class_prior)
        self.concordance_loss = ConcordanceLoss()
        self.mixing = Mixing(mixup, cutmix, mixing_chance)
        self.sharpness = None if sharpness is None else SharpnessAware(self.net, sharpness)
        self.train_metrics = TrainingMetrics(self.class_names)
        self.val_metrics = EmotionMetrics(self.class_names)
        self.test_metrics = EmotionMetrics(self.class_names)
        self.val_loss, self.test_loss = Mean(), Mean()
        self.source_metrics = SourceMetrics(self.class_names, source_names or ())
        self.valence_arousal_metrics = ValenceArousalMetrics()
        # Divides the logits before the softmax; fitted on the val faces after training (Guo et al. 2017).
        self.temperature: torch.Tensor
        self.register_buffer("temperature", torch.ones(()))
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Crops, uint8 (N, H, W, 3) RGB, to logits, float32 (N, K), before temperature."""
        return self.predict_heads(image)[0]

    def predict_heads(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Everything that the net says of crops.

        Args:
            image: uint8 (N, H, W, 3) RGB.

        Returns:
            Logits, float32 (N, K), before temperature; and valence and arousal, float32 (N, 2), -1 to 1, or None.
        """
        return self._split(self.net(self._normalised(image)))

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        """Crops, uint8 (N, H, W, 3) RGB, to calibrated probabilities, float32 (N, K)."""
        return F.softmax(self(image) / self.temperature, dim=1)

    def on_fit_start(self) -> None:
        """Compile here, not in `__init__`: on the device, and keeping the weights' names."""
        if self.compiles:
            self.net.compile()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout masks and blends a function of (seed, epoch, batch, process): there is no state to lose."""
        self._draw_anew(batch_idx)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, sharpness-aware where that was asked for.

        Raises:
            EmodetError: Sharpness-aware steps do not go together with how the trainer takes its steps.
        """
        if self.sharpness is not None and optimizer_closure is not None:
            _require_whole_steps(self.trainer)
            optimizer_closure = self.sharpness.around(optimizer_closure, lambda: self._draw_anew(batch_idx))
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """One step on an augmented batch.

        Raises:
            EmodetError: The loss is not finite, or one face is too few for the net.
        """
        image, target, emotion = self._normalised(batch["image"], self._side()), batch["target"], batch["emotion"]
        annotated = batch["valence_arousal"]
        blend = self.mixing(image, target, annotated)
        if blend is not None:
            image, target, annotated = blend
            # What a blend is counted as in the training accuracy: what it holds most of.
            emotion = target.argmax(dim=1)
        try:
            logits, said = self._split(self.net(image))
        except ValueError as problem:
            if len(batch["image"]) > 1:
                raise
            raise EmodetError(f"data.batch_size=1: this net's batch norm needs at least 2 faces ({problem})") from None
        on_classes: torch.Tensor = self.loss(logits, target)
        beside = torch.zeros_like(on_classes)
        if said is not None:
            beside = self.valence_arousal_weight * self.concordance_loss(said, annotated)
        loss = on_classes + beside
        if not torch.isfinite(loss):
            raise EmodetError(
                f"the loss became {loss.item()} in epoch {self.current_epoch}, batch {batch_idx}. The last good "
                "checkpoint is kept; lower optimizer.lr, set trainer.gradient_clip_val=1, or trainer.precision=32-true"
            )
        if self.sharpness is None or not self.sharpness.looking:
            self.train_metrics.update(logits.detach(), emotion, loss.detach())
        return on_classes * self._share_of_weight(target) + beside

    def on_train_epoch_end(self) -> None:
        self._log_metrics("train", self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        # The sanity check counted a few batches.
        self.val_metrics.reset()
        self.val_loss.reset()
        self.source_metrics.reset()
        self.valence_arousal_metrics.reset()
        if self.trainer.world_size > 1:
            # Each process has batch norm's running averages of its own faces; the first one's are those that are saved.
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure a batch of val faces."""
        self._measure(self.val_metrics, self.val_loss, batch)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val", self.val_metrics, self.val_loss)

    def on_validation_end(self) -> None:
        """Let a plateau schedule see the validation, before the epoch's checkpoint is written.

        Raises:
            EmodetError: There is no metric of the monitored name.
        """
        if self.trainer.sanity_checking or self.trainer.state.fn != TrainerFn.FITTING:
            return
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                monitor, metrics = str(config.monitor), self.trainer.callback_metrics
                if monitor not in metrics:
                    there_are = ", ".join(name for name in sorted(metrics) if name.startswith("val/"))
                    raise EmodetError(f"schedule.monitor={monitor}: there is no such metric; there are {there_are}")
                config.scheduler.step(metrics[monitor])

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        """Step a schedule that does not look at a metric; see `on_validation_end` for one that does."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what an epoch under way has counted, in all processes, so that its metrics hold after a resumption."""
        counted = self.train_metrics.so_far()
        if self.trainer.world_size > 1:
            counted = {name: self.trainer.strategy.reduce(n.clone(), reduce_op="sum") for name, n in counted.items()}
        checkpoint["train_metrics"] = counted

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting from there, in the first process: they are summed."""
        if "train_metrics" in checkpoint and self.global_rank == 0:
            self.train_metrics.restore(checkpoint["train_metrics"])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure a batch of test faces."""
        self._measure(self.test_metrics, self.test_loss, batch)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test", self.test_metrics, self.test_loss)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Logits float32 (N, K), emotion int64 (N,) and index int64 (N,) of a batch; where the net says them, also
        valence_arousal float32 (N, 2).
        """
        logits, said = self.predict_heads(batch["image"])
        answers = {"logits": logits, "emotion": batch["emotion"], "index": batch["index"]}
        return answers if said is None else {**answers, "valence_arousal": said}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.optimizer_settings, self.net)
        if self.schedule_settings is None:
            return optimizer
        steps, epochs = int(self.trainer.estimated_stepping_batches), self.trainer.max_epochs
        return {
            "optimizer": optimizer,
            "lr_scheduler": build_schedule(self.schedule_settings, optimizer, steps, epochs or 1),
        }

    def _draw_anew(self, batch_idx: int) -> None:
        place = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _share_of_weight(self, target: torch.Tensor) -> torch.Tensor | float:
        """What makes the mean of the processes' gradients that of all their faces, where classes weigh differently."""
        if self.trainer.world_size == 1 or self.loss.weight is None:
            return 1.0
        own = (target @ self.loss.weight).sum()
        mean: torch.Tensor = self.trainer.strategy.reduce(own.clone(), reduce_op="mean")
        return own / mean

    def _measure(self, metrics: EmotionMetrics, loss: Mean, batch: Batch) -> None:
        if not len(batch["image"]):  # see `EvaluationBatches`
            return
        logits, said = self.predict_heads(batch["image"])
        losses, weights = self.loss.per_face(logits, batch["target"])
        metrics.update(logits / self.temperature, batch["emotion"])
        self.source_metrics.update(logits, batch["emotion"], batch["source"])
        loss.update(losses, weights)
        if said is not None:
            self.valence_arousal_metrics.update(said, batch["valence_arousal"])

    def _log_metrics(self, stage: str, metrics: EmotionMetrics | TrainingMetrics, loss: Mean | None = None) -> None:
        # Already summed over all processes by torchmetrics.
        values = metrics.compute()
        if loss is not None:
            values = {"loss": loss.compute(), **values, **self.source_metrics.compute()}
            if self.has_va_head:
                beside = self.valence_arousal_metrics.compute()
                # The coefficient is one of all faces, not a mean over batches.
                lacking = self.valence_arousal_metrics.lacking(beside).to(values["loss"])
                values = {**values, **beside, "loss": values["loss"] + self.valence_arousal_weight * lacking}
            loss.reset()
            self.source_metrics.reset()
            self.valence_arousal_metrics.reset()
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})
        metrics.reset()

    def _split(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return split_outputs(outputs.float(), len(self.class_names))

    def _side(self) -> int | None:
        fitting = [side for epoch, side in self.resolutions if epoch <= self.current_epoch]
        return fitting[-1] if fitting else None

    def _normalised(self, image: torch.Tensor, side: int | None = None) -> torch.Tensor:
        # (N, H, W, 3) seen as (N, 3, H, W) is channels_last already.
        x = image.permute(0, 3, 1, 2).to(self.mean.dtype)
        if side is not None and side != x.shape[2]:
            x = F.interpolate(x, size=(side, side), mode="area")
        if self.preprocessing.contrast == "crop":
            x = x - x.mean(dim=(1, 2, 3), keepdim=True)
            x = x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(LEAST_DEVIATION)
        else:
            x = (x / 255 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def _require_whole_steps(trainer: L.Trainer) -> None:
    if trainer.accumulate_grad_batches > 1:
        raise EmodetError(
            f"training.sharpness does not go together with trainer.accumulate_grad_batches="
            f"{trainer.accumulate_grad_batches}: the worst point is that of one batch; use a larger data.batch_size"
        )
    if trainer.scaler is not None:
        raise EmodetError(
            f"training.sharpness does not go together with trainer.precision={trainer.precision}, which scales "
            "gradients; use bf16-mixed or 32-true"
        )


def _checked(resolutions: Sequence[Sequence[int]], size: int) -> list[tuple[int, int]]:
    pairs = [(int(epoch), int(side)) for epoch, side in resolutions]
    if pairs != sorted(pairs) or any(not (16 <= side <= size and epoch >= 0) for epoch, side in pairs):
        raise EmodetError(
            f"resolutions={pairs}: pairs of (epoch from which on, side in pixels) were expected, epochs rising, "
            f"sides from 16 to the crops' {size}"
        )
    return pairs


def balanced_class_weights(counts: Sequence[int]) -> list[float]:
    """Weights inverse to the classes' frequencies, 1 on average over the faces (scikit-learn's "balanced").

    Raises:
        EmodetError: A class has no face.
    """
    if min(counts) == 0:
        raise EmodetError(f"loss.class_weights=balanced: a class has no training face (counts {list(counts)})")
    total = math.fsum(counts)
    return [total / (len(counts) * count) for count in counts]
