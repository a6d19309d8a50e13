"""Outputs of a checkpoint or a model file for every face of a split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from emodet.arrays import Float32, Int64, UInt8
from emodet.data.datamodule import EmotionDataModule
from emodet.data.faces import Batch
from emodet.emotions import place_of
from emodet.errors import EmodetError, require
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.modelfile import ModelFile
from emodet.models.classifier import EmotionClassifier

CropTransform = Callable[[UInt8, Int64], UInt8]
"""Changes crops, uint8 (N, H, W, 3), given their faces' positions in the pack's table, int64 (N,)."""

Predict = Callable[["CropTransform | None"], "SplitOutputs"]
"""Runs a model over the faces of a split, with this change to their crops."""

_SPLITS = ("val", "test", "train", "all")
_MIN_PROBABILITY = 1e-30  # a float32 softmax can be 0, whose logarithm is not finite


@dataclass(frozen=True, slots=True, eq=False)
class SplitOutputs:
    """Outputs for N faces.

    Attributes:
        logits: float32 (N, K), before temperature scaling.
        emotion: int64 (N,), the true classes.
        index: int64 (N,), positions in the pack's table.
        split: ``val``, ``test``, ``train`` or ``all``.
        valence_arousal: float32 (N, 2), -1 to 1; None without a valence/arousal head.
    """

    logits: Float32
    emotion: Int64
    index: Int64
    split: str
    valence_arousal: Float32 | None = None


def device_of(accelerator: str) -> torch.device:
    """The device of an accelerator's name; ``auto`` is a GPU where there is one."""
    if accelerator == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
    except RuntimeError:
        raise EmodetError(f"accelerator={accelerator!r}: choose auto, cpu, gpu or mps") from None


def predict_split(
    classifier: EmotionClassifier,
    data: EmotionDataModule,
    split: str,
    accelerator: str = "auto",
    transform: CropTransform | None = None,
) -> SplitOutputs:
    """One pass over a split's faces in float32, without augmentation, each face once.

    Args:
        classifier: Put into evaluation mode on the device and left there.
        data: Set up.
        split: ``val``, ``test``, ``train``, or ``all`` of these: the faces that have an emotion.
        accelerator: See `device_of`.
        transform: Change to the crops; None leaves them as they are.
    """
    classifier.to(device_of(accelerator)).eval()

    def forward(crops: UInt8) -> tuple[Float32, Float32 | None]:
        with torch.inference_mode():
            logits, dimensions = classifier.predict_heads(torch.from_numpy(crops).to(classifier.device))
        return logits.cpu().numpy(), None if dimensions is None else dimensions.cpu().numpy()

    return _run(forward, data, split, transform)


def predict_split_with_model_file(
    model: ModelFile, data: EmotionDataModule, split: str, transform: CropTransform | None = None
) -> SplitOutputs:
    """The same with a model file; `data` has crops as the model file takes them.

    A model file gives calibrated probabilities; their logarithms stand as logits, and there is no temperature.
    """
    names = model.info.class_names
    # By name: the columns of a file are in its own order.
    columns = [place for name in data.class_names if (place := place_of(name, names)) is not None]
    if sorted(columns) != list(range(len(names))) or len(data.class_names) != len(names):
        raise EmodetError(
            f"{model.name} has the classes {', '.join(names)}; the data has {', '.join(data.class_names)}. Set "
            "data.classes"
        )
    outputs = _run(model.run, data, split, transform)
    return replace(outputs, logits=np.log(np.maximum(outputs.logits[:, columns], _MIN_PROBABILITY)))


def _run(
    forward: Callable[[UInt8], tuple[Float32, Float32 | None]],
    data: EmotionDataModule,
    split: str,
    transform: CropTransform | None,
) -> SplitOutputs:
    require(split in _SPLITS, "split", split, f"one of {', '.join(_SPLITS)}")

    def batches() -> Iterator[tuple[Float32, Float32 | None, Int64, Int64]]:
        batch: Batch
        for batch in data.evaluation_dataloader(split):
            crops, index = batch["image"].numpy(), batch["index"].numpy()
            yield *forward(crops if transform is None else transform(crops, index)), batch["emotion"].numpy(), index

    logits, dimensions, emotion, index = zip(*batches(), strict=True)
    both = None if dimensions[0] is None else np.concatenate(dimensions)
    return SplitOutputs(np.concatenate(logits), np.concatenate(emotion), np.concatenate(index), split, both)


def to_predictions(outputs: SplitOutputs, data: EmotionDataModule, temperature: float | None) -> Predictions:
    """Calibrated probabilities with the keys, groups and data sets of their faces.

    `temperature` is None where they were calibrated before, as those of a model file.
    """
    table = data.pack.table
    subjects, names = table.subject[outputs.index], data.source_names
    titles = {"val": data.splits.val_name, "test": data.splits.test_name, "train": "train", "all": "all faces"}
    both = outputs.valence_arousal
    annotated = np.stack([table.valence[outputs.index], table.arousal[outputs.index]], axis=1)
    return Predictions(
        keys=table.key[outputs.index].tolist(),
        emotion=outputs.emotion,
        probabilities=softmax(outputs.logits, temperature or 1.0),
        uncalibrated=None if temperature is None else softmax(outputs.logits),
        class_names=data.class_names,
        split=titles[outputs.split],
        data=str(data.pack.manifest["title"]),
        groups=[subject or None for subject in subjects.tolist()] if (subjects != "").any() else None,
        sources=[names[number] for number in data.source_of(outputs.index)] if names else None,
        valence_arousal=both,
        annotated=None if both is None else annotated,
    )
