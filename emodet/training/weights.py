"""Plain weights with a card beside them: a trained net that a repository can hold.

``NAME.pt`` is the net's state dict and nothing else; ``NAME.json`` is what it takes to use it: the net's arguments, the
classes in order, preprocessing, temperature, training data with its terms, figures. The card names the SHA-256 of the
weights, so that the two cannot be mixed up.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emodet.errors import EmodetError
from emodet.files import sha256_of, write_atomically
from emodet.modelfile import TrainingData
from emodet.models.classifier import EmotionClassifier
from emodet.training.checkpoints import read_checkpoint, save_weights

CARD_VERSION = 1
_FORMAT = "emodet-weights"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightsCard:
    """What is needed to use plain weights: arguments of `build_net`, values of `Preprocessing.to_dict`, and origin.

    `commit` and `fingerprint` (of the training data) are empty if unknown; `metrics` maps split to metric to value.
    """

    net: Mapping[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    temperature: float
    training_data: tuple[TrainingData, ...]
    metrics: Mapping[str, Mapping[str, float]]
    commit: str
    fingerprint: str
    weights_sha256: str = ""
    valence_arousal: bool = False
    temperature_slope: Sequence[float] = (0.0, 0.0)


def write_weights(classifier: EmotionClassifier, card: WeightsCard, file: Path) -> Path:
    """Write `file` (``.pt``) and its card, each atomically. Returns the card's path.

    Raises:
        EmodetError: One of them cannot be written.
    """
    save_weights(classifier.net, file)
    values = dataclasses.asdict(dataclasses.replace(card, weights_sha256=sha256_of(file)))
    text = json.dumps({"format": _FORMAT, "version": CARD_VERSION, **values}, indent=2, ensure_ascii=False) + "\n"
    place = _card_of(file)
    try:
        write_atomically(place, text)
    except OSError as problem:
        raise EmodetError(f"{place}: could not be written ({problem.strerror or problem})") from None
    return place


def read_card(file: Path) -> WeightsCard:
    """The card of plain weights.

    Args:
        file: The weights' file, ``NAME.pt``.

    Raises:
        EmodetError: There is no card, it is of a newer version, or it is not what a card should be.
    """
    place = _card_of(file)
    if not place.is_file():
        raise EmodetError(
            f"weights {file}: there is no {place.name} beside it, and weights alone do not say which classes and "
            "which preprocessing they were trained with. Training writes both"
        )
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError(f"it is not of the format {_FORMAT}")
        version = values.pop("version")
        if version != CARD_VERSION:
            raise EmodetError(f"{place} is of version {version}; this emodet reads version {CARD_VERSION}")
        values["class_names"] = tuple(values["class_names"])
        values["training_data"] = tuple(TrainingData(**data) for data in values["training_data"])
        return WeightsCard(**values)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as problem:
        raise EmodetError(f"{place}: not the card of weights, or damaged ({problem})") from None


def card_beside(file: Path) -> WeightsCard | None:
    """The card of plain weights, None where there is none.

    Raises:
        EmodetError: See `read_card`; or the card is of other weights.
    """
    if not _card_of(file).is_file():
        return None
    card = read_card(file)
    if sha256_of(file) != card.weights_sha256:
        raise EmodetError(f"weights {file}: not the file that {_card_of(file).name} was written for; get both anew")
    return card


def load_weights(file: Path) -> tuple[EmotionClassifier, WeightsCard]:
    """Rebuild a classifier from plain weights and their card, in evaluation mode.

    Raises:
        EmodetError: See `read_card`; or the weights are others than the card's, or of another net.
    """
    if not file.is_file():
        raise EmodetError(f"weights {file}: there is no such file")
    card = card_beside(file) or read_card(file)
    classifier = EmotionClassifier(
        net=card.net,
        class_names=card.class_names,
        preprocessing=card.preprocessing,
        channels_last=False,
        valence_arousal=1.0 if card.valence_arousal else None,
    )
    try:
        classifier.net.load_state_dict(read_checkpoint(file))
    except (RuntimeError, TypeError) as problem:
        raise EmodetError(f"weights {file}: not of the net {dict(card.net)} ({problem})") from None
    classifier.temperature.copy_(torch.tensor(card.temperature))
    classifier.temperature_slope.copy_(torch.tensor(card.temperature_slope))
    return classifier.eval(), card


def _card_of(file: Path) -> Path:
    return file.with_suffix(".json")
