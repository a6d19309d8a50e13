"""Outputs of a checkpoint or a model file for every face of a split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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
        device = torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
        torch.empty(0, device=device)  # asks for what this machine lacks
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).partition("\n")[0]
        raise EmodetError(f"accelerator={accelerator!r}: choose auto, cpu, gpu or mps ({reason})") from None
    return device


def predict_split(
    model: EmotionClassifier | ModelFile,
    data: EmotionDataModule,
    split: str,
    accelerator: str = "auto",
    transform: CropTransform | None = None,
) -> SplitOutputs:
    """One pass over a split's faces in float32, without augmentation, each face once.

    Args:
        model: A classifier, which is put into evaluation mode on the device and left there; or a model file, whose
            probabilities are calibrated: their logarithms stand as logits, and there is no temperature.
        data: Set up, with crops as the model takes them.
        split: ``val``, ``test``, ``train``, or ``all`` of these: the faces that have an emotion.
        accelerator: Of a classifier, see `device_of`.
        transform: Change to the crops; None leaves them as they are.
    """
    require(split in _SPLITS, "split", split, f"one of {', '.join(_SPLITS)}")
    if isinstance(model, EmotionClassifier):
        model.to(device_of(accelerator)).eval()
        forward = partial(_classifier_outputs, model)
    else:
        forward = partial(_model_file_outputs, model, _columns(model, data.class_names))

    def batches() -> Iterator[tuple[Float32, Float32 | None, Int64, Int64]]:
        batch: Batch
        for batch in data.evaluation_dataloader(split):
            crops, index = batch["image"].numpy(), batch["index"].numpy()
            yield *forward(crops if transform is None else transform(crops, index)), batch["emotion"].numpy(), index

    found = list(batches())
    if not found:
        raise EmodetError(f"split={split}: no face of it has an emotion")
    logits, dimensions, emotion, index = zip(*found, strict=True)
    both = None if dimensions[0] is None else np.concatenate(dimensions)
    return SplitOutputs(np.concatenate(logits), np.concatenate(emotion), np.concatenate(index), split, both)


@torch.inference_mode()
def _classifier_outputs(classifier: EmotionClassifier, crops: UInt8) -> tuple[Float32, Float32 | None]:
    logits, dimensions = classifier.predict_heads(torch.from_numpy(crops).to(classifier.device))
    return logits.cpu().numpy(), None if dimensions is None else dimensions.cpu().numpy()


def _model_file_outputs(model: ModelFile, columns: list[int], crops: UInt8) -> tuple[Float32, Float32 | None]:
    probabilities, dimensions = model.run(crops)
    return np.log(np.maximum(probabilities[:, columns], _MIN_PROBABILITY)), dimensions


def _columns(model: ModelFile, class_names: Sequence[str]) -> list[int]:
    """Place of each class among the columns of a model file, which are in its own order."""
    names = model.info.class_names
    columns = [place for name in class_names if (place := place_of(name, names)) is not None]
    if sorted(columns) != list(range(len(names))) or len(class_names) != len(names):
        raise EmodetError(
            f"{model.name} has the classes {', '.join(names)}; the data has {', '.join(class_names)}. Set data.classes"
        )
    return columns


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
        sources=[names[number] for number in data.pack.source_of(outputs.index)] if names else None,
        valence_arousal=both,
        annotated=None if both is None else annotated,
    )
