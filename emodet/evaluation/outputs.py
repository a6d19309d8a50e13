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
"""Changes crops, uint8 (N, H, W, 3), given their faces' positions in the pack's table, int64 (N,)."""

Predict = Callable[["CropTransform | None"], Predictions]
"""Runs a model over the faces of a split, with this change to their crops."""

ALL_FACES = "all faces"


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
) -> Predictions:
    """One pass over a split's faces in float32, without augmentation, each face once.

    Args:
        model: A classifier, which is put into evaluation mode on the device and left there; or a model file, whose
            probabilities are calibrated.
        data: Set up, with crops as the model takes them.
        split: ``val``, ``test``, ``train``, or ``all`` of these: the faces that have an emotion.
        accelerator: Of a classifier, see `device_of`.
        transform: Change to the crops; None leaves them as they are.
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
    # Sums of a file that is yet to be checked, or of float16, differ from 1.
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
