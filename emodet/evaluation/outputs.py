"""Predictions of a checkpoint or a model file for every face of a split."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from emodet.arrays import Floats, Int64, UInt8
from emodet.data.datamodule import EmotionDataModule
from emodet.emotions import place_of
from emodet.errors import EmodetError, require
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.modelfile import ModelFile
from emodet.models.classifier import EmotionClassifier

CropTransform = Callable[[UInt8, Int64], UInt8]
"""Function of crops, uint8 (N, H, W, 3), and row indices of the table, int64 (N,), that returns changed crops."""

Predict = Callable[["CropTransform | None"], Predictions]
"""Function that runs a model on the faces of a split, with a change of their crops."""

ALL_FACES = "all faces"


def device_of(accelerator: str) -> torch.device:
    """Return the device for an accelerator's name; ``auto`` is a GPU if available."""
    if accelerator == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
        torch.empty(0, device=device)  # not available on this machine
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
) -> Predictions:
    """Predict each face of a split once, in float32 and without augmentation.

    Args:
        model: A classifier, which stays on the device in evaluation mode; or a model file, whose probabilities are
            calibrated.
        data: Data module that is set up, with the crops of the model.
        split: ``val``, ``test``, ``train``, or ``all`` of these; faces with an emotion.
        accelerator: Device of a classifier, see `device_of`.
        transform: Change of the crops; None for no change.
    """
    titles = {"val": data.splits.val_name, "test": data.splits.test_name, "train": "train", "all": ALL_FACES}
    require(split in titles, "split", split, f"one of {', '.join(titles)}")
    if isinstance(model, EmotionClassifier):
        model.to(device_of(accelerator)).eval()
        forward = partial(_of_classifier, model)
    else:
        forward = partial(_of_model_file, model, _columns(model, data.class_names))
    found, index = [], []
    for batch in data.evaluation_dataloader(split):
        crops, rows = batch["image"].numpy(), batch["index"].numpy()
        found.append(forward(crops if transform is None else transform(crops, rows)))
        index.append(rows)
    if not found:
        raise EmodetError(f"split={split}: no face of it has an emotion")
    every, table, names = np.concatenate(index), data.pack.table, data.source_names
    probabilities, uncalibrated, both = (
        None if it[0] is None else np.concatenate(it) for it in zip(*found, strict=True)
    )
    assert probabilities is not None
    subjects = table.subject[every]
    return Predictions(
        keys=table.key[every].tolist(),
        emotion=table.emotion[every],
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        class_names=data.class_names,
        split=titles[split],
        data=str(data.pack.manifest["title"]),
        groups=[subject or None for subject in subjects.tolist()] if (subjects != "").any() else None,
        sources=[names[number] for number in data.pack.source_of(every)] if names else None,
        valence_arousal=both,
        annotated=None if both is None else np.stack([table.valence[every], table.arousal[every]], axis=1),
        index=every,
    )


Answers = tuple[Floats, Floats | None, Floats | None]
"""Probabilities (N, K), the same at temperature 1 where known, valence and arousal (N, 2) where predicted."""


@torch.inference_mode()
def _of_classifier(classifier: EmotionClassifier, crops: UInt8) -> Answers:
    logits, both = classifier.predict_heads(torch.from_numpy(crops).to(classifier.device))
    rows = logits.cpu().numpy()
    return softmax(rows, classifier.temperature.item()), softmax(rows), None if both is None else both.cpu().numpy()


def _of_model_file(model: ModelFile, columns: list[int], crops: UInt8) -> Answers:
    probabilities, both = model.run(crops)
    # Sums of an unchecked file, or of float16, can differ from 1.
    return probabilities[:, columns] / probabilities.sum(axis=1, keepdims=True), None, both


def _columns(model: ModelFile, class_names: Sequence[str]) -> list[int]:
    """Place of each class among the columns of a model file, which are in its own order."""
    names = model.info.class_names
    columns = [place for name in class_names if (place := place_of(name, names)) is not None]
    if sorted(columns) != list(range(len(names))) or len(class_names) != len(names):
        raise EmodetError(
            f"{model.name} has the classes {', '.join(names)}; the data has {', '.join(class_names)}. Set data.classes"
        )
    return columns
