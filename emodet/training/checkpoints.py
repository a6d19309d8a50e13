"""Checkpoints and plain weights: read without running any code that they bring."""

import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from emodet.errors import EmodetError
from emodet.files import atomic_path
from emodet.models.classifier import EmotionClassifier


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to write checkpoints, but atomic: a full disk leaves the last good one in its place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint`.

        Raises:
            EmodetError: The file cannot be written; one that was there is still there.
        """
        _write(checkpoint, Path(path))


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
        # Of torch's explanation the finding alone: its advice is to load the file unchecked.
        found = re.search(r"\b(unsupported (global|operand).*?)(?=\. |\.?$)", str(problem), re.I | re.M)
        raise EmodetError(
            f"checkpoint {file}: refused, because it is no checkpoint or holds more than plain data, and loading that "
            f"could run code ({found[0] if found else type(problem).__name__})"
        ) from None
    except Exception as problem:  # any other bytes can fail in any way
        raise EmodetError(f"checkpoint {file}: not a checkpoint, or cut off ({_first_line(problem)})") from None
    if not isinstance(content, dict):
        raise EmodetError(f"checkpoint {file}: holds a {type(content).__name__}, not a checkpoint")
    return content


def load_classifier(file: Path) -> EmotionClassifier:
    """Rebuild a classifier from a checkpoint alone, in evaluation mode.

    Raises:
        EmodetError: See `read_checkpoint`; it is a checkpoint of something else; or it names a class that is not
            trusted.
    """
    content = read_checkpoint(file)
    try:
        settings, _ = content["hyper_parameters"], content["state_dict"]
    except KeyError as missing:
        raise EmodetError(
            f"checkpoint {file}: has no {missing}; weights alone can be used with init_from={file}"
        ) from None
    try:
        classifier = EmotionClassifier(**settings)
        classifier.on_load_checkpoint(content)
        classifier.load_state_dict(content["state_dict"])
    except (TypeError, AttributeError, RuntimeError) as problem:
        raise EmodetError(f"checkpoint {file}: is not one of an emotion classifier ({problem})") from None
    return classifier.eval()


def set_temperature(file: Path, temperature: float, slope: Sequence[float] = (0.0, 0.0)) -> None:
    """Write the fitted temperature and its slope into a checkpoint, replacing the file whole."""
    content = read_checkpoint(file)
    content["state_dict"]["temperature"] = torch.tensor(temperature)
    content["state_dict"]["temperature_slope"] = torch.tensor(slope)
    _write(content, file)


def save_weights(net: torch.nn.Module, file: Path) -> None:
    """Write a net's state dict and nothing else, whole or not at all."""
    _write({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}, file)


def _first_line(problem: Exception) -> str:
    """Torch explains itself over many lines; an empty file gives it nothing to say."""
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def _write(content: Any, file: Path) -> None:
    try:
        with atomic_path(file) as unfinished, unfinished.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as problem:
        kept = "; the file that was there before is kept" if file.is_file() else ""
        raise EmodetError(
            f"{file}: could not be written, is the disk full? ({_first_line(problem)}){kept}"
        ) from problem
