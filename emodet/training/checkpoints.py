"""Checkpoints and plain weights, which are loaded without executing code from the file.

Plain weights have a card: ``NAME.pt`` contains only the net's state dict; ``NAME.json`` contains the arguments of the
net, the classes in order, preprocessing, temperature, training data with its terms, and metrics.
The card contains the SHA-256 of the weights, so that a wrong card is detected.
"""

import json
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from emodet.errors import EmodetError, errors_of, os_errors
from emodet.files import atomic_path, sha256_of, write_atomically
from emodet.modelinfo import FORMAT_VERSION, OUTPUTS, ModelInfo
from emodet.models.classifier import EmotionClassifier

CARD_VERSION = 1
_FORMAT = "emodet-weights"
_OF_CARD = (
    *("class_names", "preprocessing", "temperature", "temperature_curve"),
    *("training_data", "metrics", "commit", "fingerprint"),
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, but atomic: after an error, such as a full disk, the old checkpoint remains."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; raises `EmodetError` if that fails."""
        _write(checkpoint, Path(path))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of tensors, numbers, strings, lists and dicts; raises `EmodetError` for anything else."""
    if not file.is_file():
        raise EmodetError(f"checkpoint {file}: there is no such file")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        # Only torch's finding, not its advice to load the file unchecked.
        found = re.search(r"\b(unsupported (global|operand).*?)(?=\. |\.?$)", str(problem), re.I | re.M)
        raise EmodetError(
            f"checkpoint {file}: refused, because it is no checkpoint or holds more than plain data, and loading that "
            f"could run code ({found[0] if found else type(problem).__name__})"
        ) from None
    except Exception as problem:  # invalid bytes can raise any exception
        raise EmodetError(f"checkpoint {file}: not a checkpoint, or cut off ({_first_line(problem)})") from None
    if not isinstance(content, dict):
        raise EmodetError(f"checkpoint {file}: holds a {type(content).__name__}, not a checkpoint")
    weights = content.get("state_dict", content)
    for name, value in weights.items() if isinstance(weights, dict) else ():
        if not isinstance(value, torch.Tensor):
            continue
        if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta:
            raise EmodetError(f"checkpoint {file}: {name} is not a plain tensor ({value.layout}, {value.dtype})")
        if value.isnan().any():
            way_out = "take an earlier checkpoint, or train with a smaller optimizer.lr"
            raise EmodetError(f"checkpoint {file}: {name} holds NaN, so its training diverged; {way_out}")
    return content


def load_classifier(file: Path) -> EmotionClassifier:
    """Rebuild a classifier from a checkpoint, in evaluation mode; the checkpoint can name trusted classes only."""
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
    except (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as problem:
        raise EmodetError(f"checkpoint {file}: is not one of an emotion classifier ({problem})") from None
    return classifier.eval()


def set_temperature(file: Path, temperature: float, curve: Sequence[float] = (1.0, 0.0)) -> None:
    """Write the fitted temperature and its curve into a checkpoint, atomically."""
    content = read_checkpoint(file)
    content["state_dict"]["temperature"] = torch.tensor(temperature)
    content["state_dict"]["temperature_curve"] = torch.tensor(curve)
    _write(content, file)


def save_weights(net: torch.nn.Module, file: Path) -> None:
    """Write a net's state dict atomically."""
    _write({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}, file)


def _first_line(problem: Exception) -> str:
    """Return the first line of an exception's message, or the name of its type."""
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


def write_weights(classifier: EmotionClassifier, card: ModelInfo, file: Path) -> Path:
    """Write `file` (``.pt``) and its card, each atomically. Returns the card's path."""
    save_weights(classifier.net, file)
    origin = {key: value for key, value in card.to_dict().items() if key in _OF_CARD}
    head = {"format": _FORMAT, "version": CARD_VERSION, "net": dict(classifier.hparams["net"])}
    values = {**head, **origin, "weights_sha256": sha256_of(file), "valence_arousal": classifier.has_va_head}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    place = file.with_suffix(".json")
    with os_errors(f"{place}: could not be written"):
        write_atomically(place, text)
    return place


def read_card(file: Path) -> tuple[dict[str, Any], ModelInfo]:
    """Read the card of the weights `file`, ``NAME.pt``.

    Raises `EmodetError` if the card is missing, damaged or of other weights.
    """
    place = file.with_suffix(".json")
    if not place.is_file():
        raise EmodetError(
            f"weights {file}: there is no {place.name} beside it, and weights alone do not say which classes and "
            "which preprocessing they were trained with. Training writes both"
        )
    kinds = (OSError, ValueError, TypeError, KeyError, RecursionError)
    with errors_of(place, "not the card of weights, or damaged", *kinds):
        values = json.loads(place.read_text(encoding="utf-8"))
        json.dumps(values, ensure_ascii=False).encode()  # refuses half of a surrogate pair, as `modelinfo.parsed`
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError(f"it is not of the format {_FORMAT}")
        version = values.pop("version")
        if version != CARD_VERSION:
            raise EmodetError(f"it is of version {version!r}; this emodet reads version {CARD_VERSION}")
        net, sha256 = dict(values.pop("net")), values.pop("weights_sha256")
        outputs = list(OUTPUTS if values.pop("valence_arousal", False) else OUTPUTS[:1])
        constant = {"precision": "fp32", "outputs": outputs, "format_version": FORMAT_VERSION}
        card = ModelInfo.from_dict({**values, **constant})
    if sha256_of(file) != sha256:
        raise EmodetError(f"weights {file}: not the file that {place.name} was written for; get both anew")
    return net, card


def load_weights(file: Path) -> tuple[EmotionClassifier, ModelInfo]:
    """Rebuild a classifier from plain weights and their card, in evaluation mode."""
    if not file.is_file():
        raise EmodetError(f"weights {file}: there is no such file")
    net, card = read_card(file)
    classifier = EmotionClassifier(
        net=net,
        class_names=card.class_names,
        preprocessing=card.preprocessing,
        channels_last=False,
        valence_arousal=1.0 if card.outputs == OUTPUTS else None,
    )
    try:
        classifier.net.load_state_dict(read_checkpoint(file))
    except (RuntimeError, TypeError) as problem:
        raise EmodetError(f"weights {file}: not of the net {net} ({problem})") from None
    classifier.temperature.copy_(torch.tensor(card.temperature))
    classifier.temperature_curve.copy_(torch.tensor(card.temperature_curve))
    return classifier.eval(), card
