"""The LightningModule around a net: loss, optimizer, scheduler, metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emodet.data.faces import Batch
from emodet.errors import EmodetError, require
from emodet.models.agreement import DIMENSIONS
from emodet.models.build import build, require_trusted, spec_of
from emodet.models.extras import TrainingExtra
from emodet.models.losses import ConcordanceLoss, SoftCrossEntropy
from emodet.models.metrics import FaceOutputs, TrainingMetrics, split_scores
from emodet.models.nets import build_net, scaled_outputs, split_outputs
from emodet.models.optimization import build_optimizer, build_scheduler, stretch
from emodet.preprocessing import MIN_DEVIATION, Preprocessing

_OPTIMIZER = {"_target_": "torch.optim.AdamW", "lr": 0.003, "weight_decay": 0.02}


class EmotionClassifier(L.LightningModule):
    """LightningModule for training and evaluating a net on `Batch`es.

    Optimizer and scheduler are specs: plain data with a ``_target_`` (`emodet.models.build`); net and loss are objects
    or specs. Checkpoints store specs. For an object they store its class name, and loading needs the object again.

    Args:
        net: Maps normalised RGB float (N, 3, H, W) to K logits, followed by valence and arousal if it has that head;
            see `build_net` for specs.
        class_names: The K classes, in the order of the logits.
        preprocessing: Definition and normalisation of crops, as a dict; None for the defaults.
        optimizer: See `build_optimizer`; None for AdamW with lr 0.003 and weight decay 0.02.
        scheduler: See `build_scheduler`; None for a constant learning rate.
        loss: Module that maps logits (N, K) and targets (N, K) to a scalar; None for `SoftCrossEntropy`.
        extras: Changes to the training step, in this order. Checkpoints do not store them.
        valence_arousal: Weight of `ConcordanceLoss` (1 is usual); above 0, the net has a valence/arousal head.
        source_names: Data sets of a mix, each with its own metrics.
        channels_last: Whether net and input use the channels_last memory format.
        compile: Whether to compile the net, in place.
        seed: Seeds dropout and extras, with epoch, batch and rank, so that a resumed run equals an uninterrupted one.

    Attributes:
        has_va_head: Whether the net has a valence/arousal head.
        temperature: Divisor of the logits before the softmax (Guo et al. 2017); 1 until it is fitted after training.
        temperature_curve: float (2,): dependence of the temperature on each face's features, see
            `emodet.models.nets.scaled_outputs`; 1 and 0 until it is fitted.
    """

    temperature: torch.Tensor
    temperature_curve: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        net: nn.Module | Mapping[str, Any],
        class_names: Sequence[str],
        preprocessing: Preprocessing | Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        loss: nn.Module | Mapping[str, Any] | None = None,
        extras: Sequence[TrainingExtra] = (),
        valence_arousal: float | None = None,
        source_names: Sequence[str] = (),
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing.from_dict(preprocessing or {})
        self.preprocessing, self.class_names, self.source_names = preprocessing, tuple(class_names), tuple(source_names)
        self.va_weight = check_va_weight(valence_arousal)
        self.has_va_head = self.va_weight > 0
        net_spec = spec_of(net) or {}
        if net_spec.get("pretrained") is not None:
            # A checkpoint contains the weights, so loading it neither reads nor downloads pretrained ones.
            net_spec["pretrained"] = False
        self.save_hyperparameters(
            {
                "net": net_spec,
                "class_names": list(class_names),
                "preprocessing": preprocessing.to_dict(),
                "optimizer": spec_of(optimizer),
                "scheduler": spec_of(scheduler),
                "loss": spec_of(loss),
                "valence_arousal": valence_arousal,
                "source_names": list(source_names),
                "channels_last": channels_last,
                "compile": compile,
                "seed": seed,
            }
        )
        if not isinstance(net, nn.Module):
            outputs = len(self.class_names) + (len(DIMENSIONS) if self.has_va_head else 0)
            net = build_net(net, outputs, preprocessing.to_dict())
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.channels_last, self.compiles, self.seed = channels_last, compile, seed
        self._resumed_steps: int | None = None  # number of steps of the checkpoint's schedule
        self.counts_training = True  # off during a second pass over the same batch
        self.optimizer_spec, self.scheduler_spec = optimizer or _OPTIMIZER, scheduler
        # `setup` builds a spec, so that predicting does not need the code of a user's loss.
        self.loss_spec = loss if isinstance(loss, Mapping) else None
        self.loss = None if isinstance(loss, Mapping) else loss or SoftCrossEntropy()
        self.concordance_loss, self.extras = ConcordanceLoss(), list(extras)
        self.train_metrics = TrainingMetrics(len(self.class_names))
        self.val_outputs, self.test_outputs = FaceOutputs(self.has_va_head), FaceOutputs(self.has_va_head)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("temperature_curve", torch.tensor([1.0, 0.0]))
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map crops, uint8 (N, H, W, 3) RGB, to logits, float32 (N, K), before temperature scaling."""
        return self.predict_heads(image)[0]

    def predict_heads(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map crops, uint8 (N, H, W, 3) RGB, to logits, float32 (N, K), and valence/arousal, (N, 2), -1 to 1, or None.

        The logits are divided by each face's factor of the temperature (`scaled_outputs`), not by the temperature.
        """
        outputs, relative = scaled_outputs(self.net, self.normalise(image), self.temperature_curve.tolist())
        logits, valence_arousal = self._split(outputs)
        return logits / relative, valence_arousal

    def probabilities(self, image: torch.Tensor) -> torch.Tensor:
        """Map crops, uint8 (N, H, W, 3) RGB, to calibrated probabilities, float32 (N, K)."""
        return F.softmax(self(image) / self.temperature, dim=1)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Map crops (N, H, W, 3) RGB, 0 to 255, to the net's input (N, 3, H, W), like `Preprocessing.normalise`."""
        # (N, H, W, 3) seen as (N, 3, H, W) is channels_last already.
        x = image.permute(0, 3, 1, 2).to(self.mean.dtype)
        if self.preprocessing.contrast == "crop":
            x = x - x.mean(dim=(1, 2, 3), keepdim=True)
            x = x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(MIN_DEVIATION)
        else:
            x = (x / 255 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def setup(self, stage: str) -> None:
        """Build the loss and check the extras; raises `EmodetError` if one does not fit."""
        if self.loss is None and self.loss_spec is not None and stage != "predict":
            require_trusted(self.loss_spec, nn.Module, "loss")
            self.loss = build(self.loss_spec, "loss").to(self.device)
        if isinstance(self.loss, SoftCrossEntropy):
            self.loss.require_classes(self.class_names)
        if stage == "fit":
            for extra in self.extras:
                extra.check(self.preprocessing.size)
                extra.setup(self)

    def on_fit_start(self) -> None:
        """Check that the data fit, and compile the net, which is on its device now."""
        data = getattr(self.trainer, "datamodule", None)
        for name in ("class_names", "preprocessing"):
            own, of_data = getattr(self, name), getattr(data, name, None)
            require(of_data in (None, own), f"{name} of the classifier", own, f"those of the data, {of_data}")
        for extra in self.extras:
            extra.check(self.preprocessing.size, self.trainer.accumulate_grad_batches, self.trainer.precision)
        if self.compiles:
            self.net.compile()

    def on_train_start(self) -> None:
        """Stretch the schedule of a run that is resumed with another length."""
        if self.scheduler_spec is not None and self._resumed_steps not in (None, steps := self._total_steps):
            scheduler, optimizer = self.trainer.lr_scheduler_configs[0].scheduler, self.trainer.optimizers[0]
            stretch(scheduler, optimizer, (self.optimizer_spec, self.scheduler_spec), steps)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout masks and extras by (seed, epoch, batch, rank), so that they have no state."""
        self._reseed(batch_idx)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, with gradients as the extras compute them."""
        if optimizer_closure is not None:
            for extra in self.extras:
                optimizer_closure = extra.wrap_closure(optimizer_closure, lambda: self._reseed(batch_idx), self)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Compute the loss of an augmented batch; raises `EmodetError` if it is not finite."""
        for extra in self.extras:
            batch = extra.transform_batch(batch, self)
        x, emotion = self.normalise(batch["image"]), batch["emotion"]
        target, annotated = batch["target"], batch["valence_arousal"]
        for extra in self.extras:
            x, target, annotated = extra.transform_input(x, target, annotated)
        if target is not batch["target"]:  # a mixed face counts as the class with the largest share
            emotion = target.argmax(dim=1)
        logits, valence_arousal = self._split(self.net(x))
        loss = self._objective(logits, target, valence_arousal, annotated)
        if not torch.isfinite(loss):
            raise EmodetError(
                f"the loss became {loss.item()} in epoch {self.current_epoch}, batch {batch_idx}. Earlier checkpoints "
                "are kept; lower optimizer.lr, set trainer.gradient_clip_val=1, or trainer.precision=32-true"
            )
        if self.counts_training:
            self.train_metrics.update(logits.detach(), emotion, loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self._log("train", self.train_metrics.compute())  # summed over all ranks by torchmetrics
        self.train_metrics.reset()

    def on_validation_epoch_start(self) -> None:
        self.val_outputs.reset()  # the sanity check counted a few batches

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._predict_into(self.val_outputs, batch)

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self.val_outputs)

    def on_validation_end(self) -> None:
        """Step a plateau scheduler after each validation, before the epoch's checkpoint is written."""
        if self.trainer.sanity_checking or self.trainer.state.fn != TrainerFn.FITTING:
            return
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.trainer.callback_metrics[str(config.monitor)])

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any) -> None:
        """Step a scheduler that needs no metric; see `on_validation_end` for one that does."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the metrics of an unfinished epoch, summed over all ranks, for a resumed run."""
        matrix, (total, weight) = self.train_metrics.confusion, self.train_metrics.loss
        counted = {"scores.confmat": matrix, "loss.total": total, "loss.weight": weight}
        if self.trainer.world_size > 1:
            counted = {name: self.trainer.strategy.reduce(n.clone(), reduce_op="sum") for name, n in counted.items()}
        checkpoint["train_metrics"] = counted
        if self.scheduler_spec is not None:
            checkpoint["total_steps"] = self._total_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore these metrics, which are sums, on rank 0. Skip the weights of a loss that is not built."""
        if "train_metrics" in checkpoint and self.global_rank == 0:
            counted = checkpoint["train_metrics"]
            self.train_metrics.confusion[:] = counted["scores.confmat"]
            self.train_metrics.loss[:] = torch.stack([counted["loss.total"], counted["loss.weight"]])
        self._resumed_steps = checkpoint.get("total_steps")
        if self.loss is None:
            kept = {name: each for name, each in checkpoint["state_dict"].items() if not name.startswith("loss.")}
            checkpoint["state_dict"] = kept

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._predict_into(self.test_outputs, batch)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test", self.test_outputs)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Return logits float32 (N, K), emotion and index int64 (N,) and, with that head, valence_arousal (N, 2)."""
        logits, valence_arousal = self.predict_heads(batch["image"])
        answers = {"logits": logits, "emotion": batch["emotion"], "index": batch["index"]}
        return answers if valence_arousal is None else {**answers, "valence_arousal": valence_arousal}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = build_optimizer(self.optimizer_spec, self.net)
        if self.scheduler_spec is None:
            return optimizer
        scheduler = build_scheduler(self.scheduler_spec, optimizer, self._total_steps)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    @property
    def _total_steps(self) -> int:
        """Number of optimizer steps of the whole run."""
        return int(self.trainer.estimated_stepping_batches)

    def _reseed(self, batch_idx: int) -> None:
        place = [self.seed, self.current_epoch, batch_idx, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _objective(
        self, logits: torch.Tensor, target: torch.Tensor, predicted: torch.Tensor | None, annotated: torch.Tensor
    ) -> torch.Tensor:
        assert self.loss is not None
        loss: torch.Tensor = self.loss(logits, target)
        return loss if predicted is None else loss + self.va_weight * self.concordance_loss(predicted, annotated)

    def _predict_into(self, outputs: FaceOutputs, batch: Batch) -> None:
        if len(batch["image"]):
            logits, predicted = self.predict_heads(batch["image"])
        else:  # see `evaluation_batches`
            logits, predicted = batch["target"], batch["valence_arousal"]
        outputs.update({**batch, "logits": logits, "predicted": predicted})

    def _log_scores(self, stage: str, outputs: FaceOutputs) -> None:
        """Log loss and scores of the report, both over all faces of the split."""
        faces = outputs.compute()
        loss = self._objective(faces["logits"], faces["target"], faces.get("predicted"), faces["valence_arousal"])
        found = split_scores(faces, self.class_names, self.source_names, self.temperature.item())
        shown = {"accuracy": found.pop("accuracy")} if stage == "val" and "accuracy" in found else {}
        self._log(stage, shown, prog_bar=True)
        self._log(stage, {"loss": float(loss), **found})
        outputs.reset()

    def _log(self, stage: str, found: Mapping[str, float], prog_bar: bool = False) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in found.items()}, prog_bar=prog_bar)

    def _split(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return split_outputs(outputs.float(), len(self.class_names), has_va_head=self.has_va_head)


def check_va_weight(weight: float | None) -> float:
    """Return the weight of the loss on valence and arousal, 0 for None; raises `EmodetError` for negative values."""
    fits = 0 <= (weight or 0.0) < float("inf")
    require(fits, "training.valence_arousal", weight, "a weight above 0 (1 is usual), or 0 for no head")
    return float(weight or 0.0)
