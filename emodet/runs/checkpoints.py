"""Checkpoints and plain weights: read without running any code that they bring."""

import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import build_net

__all__ = ["WholeCheckpoints", "init_from", "load_classifier", "read_checkpoint", "save_weights", "set_temperature"]


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way to write checkpoints, with each file written whole or not at all.

    Its own goes through the folder for temporary files and copies from there, which leaves half a checkpoint in the
    place of the last good one when the disk is full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint`.

        Raises:
            EmodetError: The file cannot be written; one that was there is still there.
        """
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(checkpoint, file)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint's content: tensors, numbers, strings, lists and dicts.

    Raises:
        EmodetError: There is no such file, it is none that torch wrote, is cut off, or holds more than plain data.
    """
    if not file.is_file():
        raise EmodetError(f"checkpoint {file}: there is no such file")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        reason = _first_line(problem)
        raise EmodetError(
            f"checkpoint {file}: refused, because it is no checkpoint or holds more than plain data, and loading that "
            f"could run code ({reason})"
        ) from None
    except Exception as problem:  # any other bytes can fail in any way
        raise EmodetError(f"checkpoint {file}: not a checkpoint, or cut off ({_first_line(problem)})") from None
    if not isinstance(content, dict):
        raise EmodetError(f"checkpoint {file}: holds a {type(content).__name__}, not a checkpoint")
    return content


def load_classifier(file: Path) -> EmotionClassifier:
    """Rebuild a classifier from a checkpoint alone, in evaluation mode.

    Raises:
        EmodetError: See `read_checkpoint`; or it is a checkpoint of something else.
    """
    content = read_checkpoint(file)
    try:
        settings, state = content["hyper_parameters"], content["state_dict"]
    except KeyError as missing:
        raise EmodetError(
            f"checkpoint {file}: has no {missing}; weights alone can be used with init_from={file}"
        ) from None
    try:
        classifier = EmotionClassifier(**settings)
        classifier.load_state_dict(state)
    except (TypeError, AttributeError, RuntimeError) as problem:
        raise EmodetError(f"checkpoint {file}: is not one of an emotion classifier ({problem})") from None
    return classifier.eval()


def set_temperature(file: Path, temperature: float) -> None:
    """Write the fitted temperature into a checkpoint, replacing the file whole."""
    content = read_checkpoint(file)
    content["state_dict"]["temperature"] = torch.tensor(temperature)
    _write(content, file)


def save_weights(net: torch.nn.Module, file: Path) -> None:
    """Write a net's state dict and nothing else, whole or not at all."""
    _write({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}, file)


def init_from(classifier: EmotionClassifier, file: Path) -> list[str]:
    """Start from trained weights: a checkpoint of ours, or a plain state dict of the net.

    The last layer is carried over class by class, by name, where the file says its classes; if it does not and the
    number of classes differs, the last layer stays fresh.

    Returns:
        Sentences that say what was not carried over.

    Raises:
        EmodetError: See `read_checkpoint`; or the weights are of another net.
    """
    content = read_checkpoint(file)
    state, names = _net_state(content)
    own = classifier.net.state_dict()
    if set(state) != set(own):
        odd = sorted(set(state) ^ set(own))
        raise EmodetError(f"init_from={file}: weights of another net; differing names: {', '.join(odd[:6])} …")
    notes: list[str] = []
    per_class = _rows_per_class(classifier)
    for name, tensor in own.items():
        given = state[name]
        same_classes = names == classifier.class_names or (names is None and given.shape == tensor.shape)
        if name in per_class and not same_classes and given.shape[1:] == tensor.shape[1:]:
            notes.extend(_carry_classes(name, tensor, given, classifier.class_names, names))
        elif given.shape == tensor.shape:
            tensor.copy_(given)
        else:
            raise EmodetError(
                f"init_from={file}: {name} has shape {tuple(given.shape)}, this net needs {tuple(tensor.shape)}; "
                "use the same net arguments"
            )
    classifier.net.load_state_dict(own)
    return notes


def _first_line(problem: Exception) -> str:
    """Torch explains itself over many lines; an empty file gives it nothing to say."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def _net_state(content: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None]:
    if "state_dict" not in content:
        return dict(content), None
    state = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
    names = content.get("hyper_parameters", {}).get("class_names")
    return state, None if names is None else tuple(names)


def _rows_per_class(classifier: EmotionClassifier) -> set[str]:
    """Which tensors of the net have a row per class: those that would differ with one class more."""
    own = classifier.net.state_dict()
    with torch.device("meta"):
        wider = build_net(classifier.hparams["net"], len(classifier.class_names) + 1).state_dict()
    return {name for name, tensor in own.items() if tensor.shape != wider[name].shape}


def _carry_classes(
    layer: str, tensor: torch.Tensor, given: torch.Tensor, wanted: tuple[str, ...], names: tuple[str, ...] | None
) -> list[str]:
    if names is None or len(names) != len(given):
        return [f"{layer} stays fresh: the file does not say which classes its {len(given)} rows are"]
    fresh = []
    for row, name in enumerate(wanted):
        if name in names:
            tensor[row] = given[names.index(name)]
        else:
            fresh.append(name)
    return [f"{layer} stays fresh for {', '.join(fresh)}"] if fresh else []


def _write(content: Any, file: Path) -> None:
    unfinished = file.with_name(f"{file.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except (OSError, RuntimeError) as problem:
        kept = "; the file that was there before is kept" if file.is_file() else ""
        raise EmodetError(
            f"{file}: could not be written, is the disk full? ({_first_line(problem)}){kept}"
        ) from problem
    finally:
        with suppress(OSError):
            unfinished.unlink()
