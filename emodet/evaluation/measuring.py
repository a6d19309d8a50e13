"""Let a checkpoint or a model file answer on the faces of a split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from emodet.data.datamodule import EmotionDataModule
from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.modelfile import ModelFile
from emodet.models.classifier import EmotionClassifier

__all__ = [
    "AnswerOn",
    "Answers",
    "Change",
    "answer",
    "answer_with_model_file",
    "to_predictions",
    "with_mirror_images",
]

# Changes crops, uint8 (N, H, W, 3), given their faces' positions in the pack's table, int64 (N,).
Change = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.uint8]]

# Answers on the faces of a split after this change to their crops.
AnswerOn = Callable[["Change | None"], "Answers"]

_SPLITS = ("val", "test", "train")
_LEAST_PROBABILITY = 1e-30  # a float32 softmax can be 0, whose logarithm is not finite


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a net said of N faces.

    Attributes:
        logits: float32 (N, K), before temperature.
        emotion: int64 (N,), the true classes.
        index: int64 (N,), positions in the pack's table.
        split: ``val``, ``test`` or ``train``.
        valence_arousal: float32 (N, 2), -1 to 1; None where the net does not say them.
    """

    logits: npt.NDArray[np.float32]
    emotion: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    split: str
    valence_arousal: npt.NDArray[np.float32] | None = None


def device_of(accelerator: str) -> torch.device:
    """``auto`` takes a GPU where there is one."""
    if accelerator == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.device({"gpu": "cuda"}.get(accelerator, accelerator))
    except RuntimeError:
        raise EmodetError(f"accelerator={accelerator!r}: there are auto, cpu, gpu, mps") from None


def answer(
    classifier: EmotionClassifier,
    data: EmotionDataModule,
    split: str,
    accelerator: str = "auto",
    change: Change | None = None,
) -> Answers:
    """One pass over a split's faces in float32, without augmentation, each face once.

    Args:
        classifier: Put into evaluation mode on the device and left there.
        data: Set up.
        split: ``val``, ``test``, or ``train``: the training faces that have an emotion.
        accelerator: See `device_of`.
        change: What is done to the crops before; None leaves them as they are.

    Raises:
        EmodetError: There is no such split.
    """
    if split not in _SPLITS:
        raise EmodetError(f"split={split!r}: there are {', '.join(_SPLITS)}")
    classifier.to(device_of(accelerator)).eval()
    return _joined(list(_parts(classifier, data, split, change)), split)


# Of one batch: logits or probabilities (N, K), valence and arousal (N, 2) or None, emotion (N,), index (N,).
_Part = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None, npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _joined(parts: Sequence[_Part], split: str) -> Answers:
    logits, said, emotion, index = zip(*parts, strict=True)
    both = None if any(part is None for part in said) else np.concatenate([part for part in said if part is not None])
    return Answers(np.concatenate(logits), np.concatenate(emotion), np.concatenate(index), split, both)


@torch.inference_mode()
def _parts(classifier: EmotionClassifier, data: EmotionDataModule, split: str, change: Change | None) -> Iterator[_Part]:
    for batch in data.evaluation_dataloader(split):
        image = torch.from_numpy(_crops(batch, change))
        logits, said = classifier.predict_heads(image.to(classifier.device))
        both = None if said is None else said.cpu().numpy()
        yield logits.cpu().numpy(), both, batch["emotion"].numpy(), batch["index"].numpy()


def _crops(batch: Batch, change: Change | None) -> npt.NDArray[np.uint8]:
    crops: npt.NDArray[np.uint8] = batch["image"].numpy()
    return crops if change is None else change(crops, batch["index"].numpy())


def answer_with_model_file(
    model: ModelFile, data: EmotionDataModule, split: str, change: Change | None = None
) -> Answers:
    """One pass of a model file over a split's faces, each face once.

    A model file gives calibrated probabilities; their logarithms stand as logits, so the temperature that goes with
    these answers is 1.

    Args:
        model: Opened.
        data: Set up, with crops as the model file takes them.
        split: See `answer`.
        change: Likewise.

    Raises:
        EmodetError: There is no such split, the classes of the file and of the data differ, or the crops have another
            size.
    """
    if split not in _SPLITS:
        raise EmodetError(f"split={split!r}: there are {', '.join(_SPLITS)}")
    names = model.info.class_names
    if set(names) != set(data.class_names):
        raise EmodetError(
            f"{model.name} knows {', '.join(names)}; the data has {', '.join(data.class_names)}. Set data.classes"
        )
    # By name: the columns of a file are in its own order.
    columns = [names.index(name) for name in data.class_names]
    parts = [
        (*model.run(_crops(batch, change)), batch["emotion"].numpy(), batch["index"].numpy())
        for batch in data.evaluation_dataloader(split)
    ]
    answers = _joined(parts, split)
    return replace(answers, logits=np.log(np.maximum(answers.logits[:, columns], _LEAST_PROBABILITY)))


def with_mirror_images(answer_on: AnswerOn, temperature: float) -> AnswerOn:
    """The same with each crop's mirror image answered too, and the mean of both calibrated probabilities.

    Args:
        answer_on: How a net answers.
        temperature: Of its logits; the ones that come back belong to it too.
    """

    def both(change: Change | None) -> Answers:
        def mirrored(crops: npt.NDArray[np.uint8], index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
            changed = crops if change is None else change(crops, index)
            return np.ascontiguousarray(changed[:, :, ::-1])

        straight, other = answer_on(change), answer_on(mirrored)
        mean = (softmax(straight.logits, temperature) + softmax(other.logits, temperature)) / 2
        logits = (temperature * np.log(np.maximum(mean, _LEAST_PROBABILITY))).astype(np.float32)
        said = (straight.valence_arousal, other.valence_arousal)
        dimensions = None if said[0] is None or said[1] is None else (said[0] + said[1]) / np.float32(2)
        return replace(straight, logits=logits, valence_arousal=dimensions)

    return both


def to_predictions(answers: Answers, data: EmotionDataModule, temperature: float) -> Predictions:
    """Answers with their faces' names, calibrated by `temperature`."""
    table = data.pack.table
    subjects, names = table.subject[answers.index], data.source_names
    split = {"val": data.splits.val_name, "test": data.splits.test_name, "train": "train"}[answers.split]
    return Predictions(
        keys=table.key[answers.index].tolist(),
        emotion=answers.emotion,
        probabilities=softmax(answers.logits, temperature),
        uncalibrated=softmax(answers.logits),
        class_names=data.class_names,
        split=split,
        data=str(data.pack.manifest["title"]),
        groups=[subject or None for subject in subjects.tolist()] if (subjects != "").any() else None,
        sources=[names[number] for number in data.source_of(answers.index)] if names else None,
        valence_arousal=answers.valence_arousal,
        annotated=None
        if answers.valence_arousal is None
        else np.stack([table.valence[answers.index], table.arousal[answers.index]], axis=1),
    )
