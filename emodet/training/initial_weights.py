"""Weights to start a training from: those of a trained net, carried over by name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

import emodet
from emodet.emotions import place_of
from emodet.errors import EmodetError
from emodet.models.agreement import DIMENSIONS
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import build_net
from emodet.preprocessing import Preprocessing
from emodet.training.checkpoints import read_checkpoint
from emodet.training.folder import RunFolder
from emodet.training.weights import card_beside

SHIPPED = Path(emodet.__file__).parent / "weights" / "emodet.pt"
"""The weights of the shipped model in half precision, for ``init_from=shipped``; see
experiments/ferplus/shipped_weights.py."""


def init_from(classifier: EmotionClassifier, file: Path) -> list[str]:
    """Start from trained weights: a run folder, a checkpoint of ours, a plain state dict of the net, or ``shipped``.

    The last layer is carried over row by row, by name: classes (also by another name of the same emotion), valence and
    arousal. A checkpoint names them, and so does the card beside plain weights; without either, a last layer of another
    size stays fresh.

    Returns:
        Sentences that say what was carried over, and what was not.

    Raises:
        EmodetError: See `read_checkpoint` and `read_card`; or the weights are of another net; or they also say valence
            and arousal, and whether this net is to was left open.
    """
    file = SHIPPED if str(file) == "shipped" and not file.exists() else file.expanduser()
    if file.is_dir():
        file = RunFolder(file).best
    state, names, crops = _net_state(read_checkpoint(file), file)
    wanted = _names_of_outputs(classifier.class_names, classifier.has_va_head)
    if names is not None and set(DIMENSIONS) <= set(names) and classifier.hparams["valence_arousal"] is None:
        raise EmodetError(
            f"init_from={file}: the weights have a valence/arousal head. Set training.valence_arousal=1 to keep "
            "it, or training.valence_arousal=0 to leave it out"
        )
    own = classifier.net.state_dict()
    if set(state) != set(own):
        odd = sorted(set(state) ^ set(own))
        raise EmodetError(f"init_from={file}: weights of another net; differing names: {', '.join(odd[:6])} …")
    notes = [f"weights carried over from {file}"]
    if crops is not None and (other := _differences(crops, classifier.preprocessing)):
        notes.append(f"these weights were trained with other crops: {other}")
    per_output = _rows_per_output(classifier)
    for name, tensor in own.items():
        given = state[name]
        same_rows = names == wanted or (names is None and given.shape == tensor.shape)
        if name in per_output and not same_rows and given.shape[1:] == tensor.shape[1:]:
            notes.append(_carry_rows(name, tensor, given, wanted, names))
        elif given.shape == tensor.shape:
            tensor.copy_(given)
        else:
            raise EmodetError(
                f"init_from={file}: {name} has shape {tuple(given.shape)}, this net needs {tuple(tensor.shape)}; "
                "use the same net arguments"
            )
    classifier.net.load_state_dict(own)
    return notes


def _names_of_outputs(class_names: Iterable[str], has_va_head: bool) -> tuple[str, ...]:
    """What the rows of the last layer say, in order."""
    return (*class_names, *(DIMENSIONS if has_va_head else ()))


def _net_state(
    content: Mapping[str, Any], file: Path
) -> tuple[dict[str, torch.Tensor], tuple[str, ...] | None, Mapping[str, Any] | None]:
    """State dict of the net, names of its outputs, and its preprocessing, the latter two None if unknown."""
    if "state_dict" not in content:
        card = card_beside(file)
        if card is None:
            return dict(content), None, None
        return dict(content), _names_of_outputs(card.class_names, card.valence_arousal), card.preprocessing
    state = {name[4:]: value for name, value in content["state_dict"].items() if name.startswith("net.")}
    settings = content.get("hyper_parameters", {})
    if "class_names" not in settings:
        return state, None, None
    names = _names_of_outputs(settings["class_names"], bool(settings.get("valence_arousal")))
    return state, names, settings.get("preprocessing")


def _differences(given: Mapping[str, Any], own: Preprocessing) -> str:
    """In words, without the size: the net takes any."""
    here = own.to_dict()
    return ", ".join(
        f"preprocessing.{key}={value}, not {here[key]}"
        for key, value in given.items()
        if key != "size" and key in here and value != here[key]
    )


def _rows_per_output(classifier: EmotionClassifier) -> set[str]:
    """Which tensors of the net have a row per output: those that would differ with one output more."""
    own = classifier.net.state_dict()
    outputs = len(_names_of_outputs(classifier.class_names, classifier.has_va_head))
    with torch.device("meta"):
        wider = build_net(classifier.hparams["net"], outputs + 1).state_dict()
    return {name for name, tensor in own.items() if tensor.shape != wider[name].shape}


def _carry_rows(
    layer: str, tensor: torch.Tensor, given: torch.Tensor, wanted: tuple[str, ...], names: tuple[str, ...] | None
) -> str:
    if names is None or len(names) != len(given):
        return f"{layer} stays fresh: the file does not say which classes its {len(given)} rows are"
    fresh, carried = [], []
    for row, name in enumerate(wanted):
        place = place_of(name, names)
        if place is None:
            fresh.append(name)
        else:
            tensor[row] = given[place]
            carried.append(name)
    parts = [f"rows of {', '.join(carried)} carried over"] if carried else []
    parts += [f"fresh rows for {', '.join(fresh)}"] if fresh else []
    return f"{layer}: {'; '.join(parts)}"
